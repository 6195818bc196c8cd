"""What sets a peak that checkpointing can't lower, in words: light enough for the command line."""

from __future__ import annotations

from collections.abc import Mapping

FLAT = 0.01  # of the peak: less than this is nothing saved
_NAMED = 0.75  # of the peak: parts are named, largest first, until they make up as much
_MOMENTS = {
    "load": "while the model is loaded",
    "forward end": "at the end of the forward pass",
    "loss": "in the loss",
    "reference": "in the forward pass of the reference",
    "backward": "in the backward pass",
    "optimizer step": "in the optimizer step",
    "evaluation": "in the evaluation",
    "save": "while the result is saved",
}


def moment(phase: str) -> str:
    """When a phase's highest moment is, as it reads in a sentence."""
    return _MOMENTS.get(phase, f"in the {phase}")


def cannot_help(saves_bytes: int, device_bytes: int) -> bool:
    """Whether checkpointing is no way to a lower peak, by what every layer would take off it."""
    return saves_bytes < FLAT * device_bytes


def why_not(phase: str, parts: Mapping[str, int]) -> str:
    """Why checkpointing can't lower a projected peak: when it is reached, and the parts that make up most of it."""
    whole, named, bytes_ = sum(parts.values()), [], 0
    for name, count in sorted(parts.items(), key=lambda part: -part[1]):
        if bytes_ >= _NAMED * whole or not count:
            break
        named.append(name.replace("_", " "))
        bytes_ += count
    listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    return f"checkpointing can't lower this peak, which is reached {moment(phase)}: most of it is {listed}"
