"""What a fault of a method leaves behind: nothing, nothing, and all of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jobs.errors import Unavailable
from tests.faults.__main__ import template
from tests.faults.faulty_store import COMMITTED, REFUSED, TIMED_OUT, FaultyStore, fresh_engine, methods


@pytest.mark.parametrize(("kind", "kept"), [(REFUSED, False), (TIMED_OUT, False), (COMMITTED, True)])
def test_a_fault_leaves_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, kept: bool
) -> None:
    monkeypatch.setattr("tests.faults.faulty_store.MOST_TRANSACTIONS", 1)
    engine = fresh_engine(tmp_path / "world.db", template(tmp_path))
    store = FaultyStore(engine, random.Random(1), kind)
    store.rate = 1e9
    with pytest.raises(Unavailable, match="drawn"):
        store.set_project("lab", {"guarantee": 2}, 1.0)
    store.rate = 0.0
    assert [row.name for row in store.projects()] == ["lab"] * kept
    engine.dispose()


def test_every_method_can_fail(tmp_path: Path) -> None:
    engine = fresh_engine(tmp_path / "world.db", template(tmp_path))
    store = FaultyStore(engine, random.Random(1), REFUSED)
    store.rate = 1e9
    assert {"fleet_rows", "record_reports", "start_attempts", "end_attempts", "submit"} <= {*methods()}
    for name in methods():
        with pytest.raises(Unavailable, match=f"of {name}: refused"):
            getattr(store, name)()
    engine.dispose()
