"""Names of secrets: of the environment variables that a trainer gets them as."""

from __future__ import annotations

import re

NAME = r"[A-Z][A-Z0-9_]{0,99}"
MOST_CHARACTERS, LEAST_CHARACTERS = 65_536, 8
# What a process, its loader, Python, CUDA, Ray or tuneyard itself go by.
_OURS = frozenset({"PATH", "HOME", "USER", "SHELL", "TMPDIR", "RANK", "WORLD_SIZE", "LOCAL_RANK"})
_OURS_BEGIN = ("LD_", "PYTHON", "CUDA_", "NVIDIA_", "NCCL_", "RAY_", "TUNEYARD_", "MASTER_", "TORCH", "OMP_")


def fault_of_name(name: str) -> str | None:
    """What is wrong with a name and what would be right; None where nothing is."""
    if not re.fullmatch(NAME, name):
        return "is no name of a secret; use up to 100 capitals, digits and underscores, such as WANDB_API_KEY"
    if name in _OURS or name.startswith(_OURS_BEGIN):
        return "is a variable that the trainer itself goes by; use another name"
    return None


def fault_of_value(value: str) -> str | None:
    """The same of a value, without a word of it."""
    if not LEAST_CHARACTERS <= len(value) <= MOST_CHARACTERS:
        return (
            f"has {len(value):,} characters; a secret has {LEAST_CHARACTERS} to {MOST_CHARACTERS:,}: "
            "a shorter one could not be kept out of logs"
        )
    if "\0" in value:
        return "has a NUL character, which no environment variable can hold"
    return None
