"""Which head a trainer trains a model with: one that predicts tokens, or one that gives a text a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig

REWARD = "reward"
# As transformers names them in models for causal language and for classification.
_LM_HEADS = frozenset(("lm_head", "embed_out", "output"))
_HEADS = frozenset(("score", "classifier", "classification_head", "qa_outputs"))


def model_class(trainer: str) -> Any:
    """The class of transformers that builds the model."""
    return AutoModelForSequenceClassification if trainer == REWARD else AutoModelForCausalLM


def task_type(trainer: str) -> str:
    """PEFT's name for it: of a model that gives numbers the head is trained whole beside the adapters."""
    return "SEQ_CLS" if trainer == REWARD else "CAUSAL_LM"


def for_trainer(config: PreTrainedConfig, trainer: str, padding: int | None = None) -> PreTrainedConfig:
    """The config as the trainer needs it: of a reward model one number, read at the last token that is no padding.

    padding: the token of that, where the config is to have it.
    """
    if trainer == REWARD:
        config.num_labels = 1
        text = config.get_text_config()
        if padding is not None:
            text.pad_token_id = padding
        elif getattr(text, "pad_token_id", None) is None:
            text.pad_token_id = 0
    return config


def of_head(found: Mapping[str, Any], trainer: str) -> dict[str, Any]:
    """What from_pretrained says of a load, without what has to be so: a reward model begins with a head of its own, and
    has no use for one that predicts tokens."""
    if trainer != REWARD:
        return dict(found)
    own = {name for name in found["missing_keys"] if name.rpartition(".")[0] in _HEADS}
    others = {name for name in found["unexpected_keys"] if name.rpartition(".")[0] in _LM_HEADS}
    return {
        **found,
        "missing_keys": set(found["missing_keys"]) - own,
        "unexpected_keys": set(found["unexpected_keys"]) - others,
    }
