"""Checks of a model that need its host: files that the server can't see, weights against the architecture, settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

from transformers import GenerationConfig, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from jobs.errors import Fault, SpecError, Unavailable, words_of
from jobs.jobfile.spec import JobSpec
from workers import machine
from workers.checks.hub import check_cached
from workers.checks.inputs import check_model, check_tokenizer_of
from workers.checks.libraries import counted_whole, needs_of, quantised_faults
from workers.checks.weights import left_over, weight_report
from workers.model.build import build_config, trusts
from workers.model.heads import REWARD, model_class, of_head


def check_on_host(spec: JobSpec, trusted_models: Collection[str]) -> list[str]:
    """What a user should know of the model, a sentence or two each.

    Raises SpecError for a model or tokenizer in a folder here that can't be trained, Refused for its code, and
    Unavailable where this host lacks a library for them.
    """
    trust = trusts(spec.model, trusted_models)
    faults = check_model(spec.model.path) if spec.model.path is not None else []
    faults = faults or quantised_faults(spec)
    faults = faults or check_tokenizer_of(spec)
    told: list[str] = []
    if not faults and spec.model.path is not None:
        faults = check_generation(spec.model.path)
        if not faults and os.path.isdir(spec.model.path):
            _check_libraries(spec)
            config = build_config(spec.model, trust)
            faults, told = check_architecture(spec.model.path, trust, config, spec.trainer)
            told = [*told, *counted_whole(spec)]
        elif not faults:
            faults, told, folder = check_cached(spec)
            if folder is not None and not faults:
                here = spec.model.model_copy(update={"path": str(folder), "revision": None})
                faults, told = check_architecture(str(folder), trust, build_config(here, trust), spec.trainer)
    if faults:
        raise SpecError(faults, "model")
    return told


def _check_libraries(spec: JobSpec) -> None:
    """Raises Unavailable for what the model's files ask for and this host lacks."""
    stack = machine.stack()
    for name, what in needs_of(spec):
        if name not in stack:
            raise Unavailable(f"this host has no {name}, which {what} needs: pip install {name}")


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
    except OSError:  # none there: settings come from config.json
        return []
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        where = os.path.join(path, "generation_config.json")
        if os.path.isdir(path) and not os.path.exists(where):
            return []
        words = words_of(error).partition(": ")[2]
        problem = f"can't be used: {words}"
        if not isinstance(error, ValueError):
            problem = f"can't be used: a value in it has the wrong type ({words})"
        return [Fault("model.path", where, problem, "correct that setting in it, or leave the file out")]
    return []


def check_architecture(
    path: str, trust: bool, config: PreTrainedConfig, trainer: str = "sft"
) -> tuple[list[Fault], list[str]]:
    """Tensors that the model of a folder has and its weights lack, or have in another shape; and warnings.

    transformers would begin those with random values. Only headers are read. Nothing is said where the model can't be
    built here: the trainer will say. Raises Unavailable where a library is missing.
    """
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        _, found = model_class(trainer).from_pretrained(
            path,
            **({"num_labels": 1} if trainer == REWARD else {}),
            device_map="meta",
            trust_remote_code=trust,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except ImportError as error:
        text = words_of(error).partition(": ")[2]
        raise Unavailable(f"this host lacks a library for the model in {path}: {text}") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        return [], []
    finally:
        transformers_logging.set_verbosity(before)
    if trust:
        return [], []
    found = of_head(found, trainer)
    text = left_over(found, config)
    return weight_report(path, found), [text] if text else []
