"""Each guard stands where the script that takes it out looks for it, and its tests are there."""

from __future__ import annotations

import pytest

from tests.faults.guards import CHECKOUT, GUARDS, Guard


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_it_can_be_taken_out(guard: Guard) -> None:
    assert (CHECKOUT / guard.file).read_text().count(guard.text) == 1
    assert guard.text != guard.instead and all((CHECKOUT / test).is_file() for test in guard.tests)
