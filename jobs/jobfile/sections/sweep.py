"""`sweep` and `after`: what jobs of one submission have to do with each other."""

from __future__ import annotations

from pydantic import Field

from jobs.jobfile.fields import Number, Whole
from jobs.jobfile.sections.base import Section
from jobs.state import On


class EarlyStop(Section):
    """Stops the worst jobs of a sweep, by their loss, once all that run have come so far."""

    after_steps: Whole = Field(ge=1, description="Optimizer steps after which losses are compared.")
    keep: Number = Field(0.5, gt=0, lt=1, description="Share of the jobs that goes on, rounded up.")


class SweepSpec(Section):
    """What holds for all jobs of a `matrix` together."""

    early_stop: EarlyStop | None = Field(
        None,
        description="When to stop the worst: {after_steps: N, keep: SHARE}; none is stopped when left out.",
    )


class AfterSpec(Section):
    """A job that must end first. job: its id, or the name of one submitted together."""

    job: int | str
    on: On = On.SUCCESS
