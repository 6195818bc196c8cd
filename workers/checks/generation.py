"""Generation settings of a model are saved as they were, also where transformers takes them for odd."""

from __future__ import annotations

import logging
from typing import Any

from transformers import GenerationConfig, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from jobs.errors import words_of

log = logging.getLogger(__name__)


class SavesGeneration(TrainerCallback):
    """Lets a model be saved whose published settings are odd, such as temperature without do_sample.

    save_pretrained refuses settings that it would warn of if they were changed since they were loaded (transformers
    5.23, GenerationConfig.save_pretrained), and the trainers change the token ids in them.
    """

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        keep_generation(model)


def keep_generation(model: Any) -> None:
    """Has a model's generation settings saved as they are."""
    settings = getattr(model, "generation_config", None)
    if not isinstance(settings, GenerationConfig):
        return
    try:
        settings.validate(strict=True)
    except ValueError as error:
        log.warning("the model's generation settings are saved as they are: %s", words_of(error))
        # As from_pretrained does: what is saved is held against this to see whether it was changed.
        settings._original_object_hash = hash(settings)
