"""Whether the weights of a model are on this machine, and models that are built without any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
)

from jobs.jobfile.sections.model import ModelSpec
from jobs.jobfile.spec import JobSpec
from workers.rehearsal.from_config import from_config

_FILES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)


def without_weights(spec: JobSpec) -> tuple[JobSpec, str]:
    """The job, and "" where its weights are here; else what from_config makes of it, and its note."""
    model = spec.model
    if model.path is None or _here(model):
        return spec, ""
    config, _ = PreTrainedConfig.get_config_dict(model.path, revision=model.revision)
    return from_config(spec, config)


@contextmanager
def unmade() -> Iterator[None]:
    """Models that are built here have no random weights, which nobody reads: to make those of 7B takes a minute.

    transformers' own no_init_weights leaves out what else init_weights does (transformers 5.23): tied weights.
    """
    with no_init_weights():
        PreTrainedModel.init_weights = lambda self: self.tie_weights(recompute_mapping=False)
        yield


def _here(model: ModelSpec) -> bool:
    folder = Path(str(model.path))
    if folder.is_dir():
        return any((folder / name).exists() for name in _FILES)
    return any(
        isinstance(try_to_load_from_cache(str(model.path), name, revision=model.revision), str)
        for name in _FILES
    )
