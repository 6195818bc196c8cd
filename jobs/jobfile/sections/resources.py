"""`resources`: what a job needs of the fleet."""

from __future__ import annotations

from pydantic import Field

from jobs.jobfile.fields import Policy, Size, Text, Whole
from jobs.jobfile.sections.base import Section


class ResourceSpec(Section):
    """What the job needs of the fleet."""

    gpus: Whole = Field(1, ge=1, le=1024, description="GPUs, all on one host unless across_hosts.")
    across_hosts: bool = Field(
        False,
        strict=True,
        description="Whether a job with more GPUs than any host has may span several: whole hosts, and part of one.",
    )
    card: Text | None = Field(None, min_length=1, description="Card type, as `tuneyard gpus` shows it.")
    min_memory: Size | None = Field(None, description="Smallest card memory to consider, such as 24GiB.")
    labels: dict[Text, Text] = Field(default_factory=dict, description="Labels that the host must carry.")
    policy: Policy = Field(
        "smallest_card",
        description="Which of the cards it fits: smallest_card, fastest, or cheapest (price x time).",
    )
    share: bool = Field(
        False,
        strict=True,
        description="Whether other jobs that share may run beside it on a card, as long as all of them fit.",
    )
