"""`kto`: Kahneman-Tversky optimization, beside `trainer: kto`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.jobfile.fields import Choice, Number
from jobs.jobfile.sections.base import Section


class KtoSpec(Section):
    """Learning from completions that are each good or bad. Names and defaults are TRL's."""

    beta: Number = Field(
        0.1, gt=0, le=1000, description="How strongly the model is held to the reference; higher is stronger."
    )
    loss_type: Literal["kto", "apo_zero_unpaired"] = Field(
        "kto", description="kto needs a micro-batch of 2 or more, and a forward pass more, for its KL term."
    )
    desirable_weight: Number = Field(1.0, ge=0, description="Weight of the loss of good completions.")
    undesirable_weight: Number = Field(1.0, ge=0, description="Weight of the loss of bad completions.")
    precompute_ref_log_probs: Choice = Field(
        "auto",
        description="Work out the reference's log-probabilities before training, and hold no reference then. auto "
        "does so where the card's memory is short.",
    )
