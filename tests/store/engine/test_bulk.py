"""Rows by the thousand arrive as they are, whatever their number; a fault undoes all of them."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.store import Store
from orchestrator.store.engine.bulk import BulkInsert
from orchestrator.store.schema.tables import samples
from tests.builders import NOW, joined

NAMES = ["gpu_id", "ts", "memory_used_bytes", "utilization", "fault"]
insert = BulkInsert(samples, NAMES)
insert_new = BulkInsert(samples, NAMES, ignore_known=True)


@pytest.fixture
def card(store: Store) -> int:
    _, (gpu_id,) = joined(store)
    return gpu_id


def rows_of(card: int, count: int) -> list[tuple[Any, ...]]:
    return [(card, NOW + n, n, n / 7, None if n % 2 else f"fault {n}") for n in range(count)]


def stored(store: Store) -> list[tuple[Any, ...]]:
    query = sa.select(*(samples.c[name] for name in NAMES)).order_by(samples.c.ts)
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 63, 64, 65, 341, 1000])
def test_every_row_arrives_once_and_whole(store: Store, card: int, count: int) -> None:
    rows = rows_of(card, count)
    with store.write() as connection:
        insert(connection, rows)
    assert stored(store) == rows


def test_known_rows_stay_as_they_are(store: Store, card: int) -> None:
    rows = rows_of(card, 300)
    with store.write() as connection:
        insert_new(connection, rows[100:200])
    with store.write() as connection:
        insert_new(connection, [(*row[:2], -1, *row[3:]) for row in rows])
    assert [row[2] for row in stored(store)] == [n if 100 <= n < 200 else -1 for n in range(300)]


def test_a_row_that_can_not_be_undoes_all_and_the_next_transaction_is_sound(store: Store, card: int) -> None:
    rows = rows_of(card, 400)
    with pytest.raises(sa.exc.IntegrityError), store.write() as connection:
        insert(connection, [*rows, rows[7]])
    assert stored(store) == []
    with store.write() as connection:
        insert(connection, rows)
    assert stored(store) == rows


def test_a_transaction_that_is_given_up_leaves_nothing_to_the_next(store: Store, card: int) -> None:
    with pytest.raises(KeyError), store.write() as connection:
        insert(connection, rows_of(card, 10))
        raise KeyError
    with store.write() as connection:
        insert(connection, rows_of(card, 3))
    assert len(stored(store)) == 3
