"""What an error says on one line."""

from __future__ import annotations

import pytest

from jobs.errors import MISSING, UNREADABLE, Fault, InputError, SpecError, words_of


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "ValueError"),
        ("one\ntwo", "ValueError: one"),
        ("\n  one  \n", "ValueError: one"),
        (
            "GenerationConfig is invalid: \n- `a`: b\n- `c`: d",
            "ValueError: GenerationConfig is invalid: - `a`: b - `c`: d",
        ),
        ("x" * 700, "ValueError: " + "x" * 599 + "…"),
    ],
)
def test_what_a_colon_announces_is_said_too(text: str, says: str) -> None:
    assert words_of(ValueError(text)) == says


def test_only_what_every_fault_misses_is_missing() -> None:
    gone, closed = Fault("a", "x", MISSING), Fault("b", "y", UNREADABLE + "Permission denied")
    broken = Fault("c", "z", "can't be read as Parquet: no")
    assert SpecError([gone]).missing and SpecError([gone, closed]).missing
    assert (
        not SpecError([gone, broken]).missing and not SpecError([]).missing and not InputError("no").missing
    )
    assert SpecError([gone, broken]).line == f"{gone}; {broken}"
