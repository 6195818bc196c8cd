"""A job whose model's weights are not here: its config in their place, for a rehearsal needs only their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.errors import UsageError
from jobs.jobfile.spec import JobSpec


def from_config(spec: JobSpec, config: Mapping[str, Any]) -> tuple[JobSpec, str]:
    """The job with this config for its model, and a note. Raises UsageError where the config does not say enough."""
    model = spec.model
    lacking = None
    if model.trust_remote_code:
        lacking = "brings code of its own"
    elif "quantization_config" in config:
        lacking = "is quantised"
    if lacking:
        raise UsageError(
            f"model.path: {model.path} {lacking}, and its weights are not here; download them first"
        )
    built = {
        "path": None,
        "revision": None,
        "config": dict(config),
        "tokenizer": model.tokenizer or model.path,
    }
    note = f"the weights of {model.path} are not here: the model is built from its config, in the same sizes"
    return spec.model_copy(update={"model": model.model_copy(update=built)}), note
