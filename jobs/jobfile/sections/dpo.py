"""`dpo`: direct preference optimization, beside `trainer: dpo`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema

from jobs.jobfile.fields import Choice, Number
from jobs.jobfile.sections.base import Section

DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
Divergence = Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"]
# Losses of chosen against rejected rewards, which alone have other divergences (TRL 1.16, DPOTrainer.__init__).
DIVERGING = frozenset(("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"))


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_CHOICE = {"enum": list(get_args(DpoLoss))}
_LOSSES = {"anyOf": [_CHOICE, {"type": "array", "items": _CHOICE, "minItems": 1}], "default": ["sigmoid"]}


class DpoSpec(Section):
    """Direct preference optimization. Names and defaults are TRL's."""

    beta: Number = Field(
        0.1, gt=0, le=1000, description="How strongly the model is held to the reference; higher is stronger."
    )
    loss_type: Annotated[
        list[DpoLoss], BeforeValidator(_listed), Field(min_length=1), WithJsonSchema(_LOSSES)
    ] = Field(["sigmoid"], description="Loss, or a list of losses that are added up, such as [sigmoid, sft].")
    loss_weights: list[Number] | None = Field(
        None, description="Weight of each loss of loss_type; 1 each when left out."
    )
    label_smoothing: Number = Field(
        0.0, ge=0, lt=0.5, description="Share of the preferences taken to be wrong, for robust and exo_pair."
    )
    f_divergence_type: Divergence = Field("reverse_kl", description="Divergence from the reference.")
    f_alpha_divergence_coef: Number = Field(0.5, description="Alpha of alpha_divergence.")
    discopop_tau: Number = Field(0.05, gt=0, description="Temperature of discopop.")
    ld_alpha: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        None,
        description="Weight of tokens beyond the length that both completions have; 1 for all when left out.",
    )
    precompute_ref_log_probs: Choice = Field(
        "auto",
        description="Work out the reference's log-probabilities before training, and hold no reference then. auto "
        "does so where the card's memory is short.",
    )
