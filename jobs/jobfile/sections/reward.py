"""`reward`: a reward model, beside `trainer: reward`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from jobs.jobfile.fields import Number
from jobs.jobfile.sections.base import Section


class RewardSpec(Section):
    """A model that gives a text one number, learnt from pairs. Names and defaults are TRL's."""

    center_rewards_coefficient: Annotated[Number, Field(ge=0)] | None = Field(
        None, description="Keeps the mean of the rewards near 0; 0.01 is usual, none when left out."
    )
