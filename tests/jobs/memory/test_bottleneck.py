"""jobs/memory/bottleneck.py: what is said of a peak that checkpointing can't lower is true of its phase and its
parts.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.memory.bottleneck import FLAT, cannot_help, why_not
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import PHASES, Rung, project
from jobs.memory.suggestions import checkpointing_saves
from jobs.units import GiB, MiB
from tests.step_profiles import card, profile

START = "checkpointing can't lower this peak, which is reached "


def _told(made: MemoryProfile, context_bytes: int = 0) -> str:
    """What is said of one step without checkpointing, on a card that it can't help."""
    small = replace(card(), context_bytes=context_bytes)
    found = project(made, Rung(0, 1, 8), sequence_length=16, card=small)
    saves = checkpointing_saves(made, found, small, length=16)
    assert cannot_help(saves, found.device_bytes)
    text = why_not(found.phase, found.parts)
    assert text.startswith(START)
    return text.removeprefix(START)


@pytest.mark.parametrize(
    ("changed", "context_bytes", "told"),
    [
        ({"weight_bytes": 60 * GiB}, 0, "most of it is weights"),
        ({"optimizer_bytes": 60 * GiB}, 0, "most of it is optimizer"),
        ({}, 60 * GiB, "most of it is context"),
        ({"load_bytes": 60 * GiB}, 0, "while the model is loaded: most of it is transients"),
        ({"save_bytes": 60 * GiB}, 0, "while the result is saved: most of it is transients"),
        ({"optimizer_transient_bytes": 60 * GiB}, 0, "in the optimizer step: most of it is transients"),
        ({"weight_bytes": 30 * GiB}, 30 * GiB, "most of it is weights and context"),
    ],
)
def test_what_binds_is_what_is_named(changed: dict[str, int], context_bytes: int, told: str) -> None:
    assert _told(replace(profile(), **changed), context_bytes).endswith(told)


def test_every_phase_has_words_of_its_own() -> None:
    told = {why_not(phase, {"weights": 1}) for phase in PHASES}
    assert len(told) == len(PHASES)
    assert not any(f"in the {phase}:" in text for text in told for phase in ("load", "save", "forward end"))


def test_parts_are_named_until_they_make_up_three_quarters() -> None:
    parts = {"weights": 40 * MiB, "logits_and_loss": 36 * MiB, "context": 24 * MiB, "nccl": 0}
    assert why_not("loss", parts) == f"{START}in the loss: most of it is weights and logits and loss"
    assert "weights, logits and loss and context" in why_not("loss", {**parts, "context": 30 * MiB})


def test_a_hundredth_of_the_peak_is_worth_saving() -> None:
    assert cannot_help(99, round(100 / FLAT)) and not cannot_help(100, round(100 / FLAT))
