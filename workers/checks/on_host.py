"""Checks of a model that need its host: files that the server can't see, weights against the architecture, settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging as transformers_logging

from jobs.errors import Fault, SpecError, words_of
from jobs.spec import JobSpec
from workers.building import build_config, trusts
from workers.checks.weights import weight_report
from workers.inputs import check_model, check_tokenizer_of


def check_on_host(spec: JobSpec, trusted_models: Collection[str]) -> None:
    """Raises SpecError for a model or tokenizer in a folder here that can't be trained, Refused for its code."""
    trust = trusts(spec.model, trusted_models)
    faults = check_model(spec.model.path) if spec.model.path is not None else []
    faults = faults or check_tokenizer_of(spec)
    if not faults and spec.model.path is not None:
        faults = check_generation(spec.model.path)
        if not faults and os.path.isdir(spec.model.path):
            faults = check_architecture(spec.model.path, trust)
    if faults:
        raise SpecError(faults, "model")


def positions_of(spec: JobSpec) -> int | None:
    """The longest sequence that a model has positions for; None where nothing says, or it has code of its own."""
    if spec.model.trust_remote_code:
        return None
    found = getattr(build_config(spec.model, False).get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def check_generation(path: str) -> list[Fault]:
    """What is wrong with a model's generation settings, so that it can't be loaded; of a hub id, if they are cached."""
    try:
        GenerationConfig.from_pretrained(path, local_files_only=True)
    except ValueError as error:
        where = os.path.join(path, "generation_config.json")
        problem = f"can't be used: {words_of(error).partition(': ')[2]}"
        return [Fault("model.path", where, problem, "correct that setting in it, or leave the file out")]
    except (OSError, TypeError):  # none there: settings come from config.json
        return []
    return []


def check_architecture(path: str, trust: bool) -> list[Fault]:
    """Tensors that the model of a folder has and its weights lack, or have in another shape.

    transformers would begin those with random values. Only headers are read. Nothing is said where the model can't be
    built here: whoever trains it will say.
    """
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        _, found = AutoModelForCausalLM.from_pretrained(
            path,
            device_map="meta",
            trust_remote_code=trust,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError):
        return []
    finally:
        transformers_logging.set_verbosity(before)
    return [] if trust else weight_report(path, found)
