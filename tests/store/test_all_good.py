"""What is looked at by column is wrong exactly where it is by row."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.store import Store
from orchestrator.store.engine.text import NO_TEXT
from orchestrator.store.schema import tables
from orchestrator.store.schema.column_types import Garbled, Unreadable
from orchestrator.store.unreadable import all_good, check
from tests.builders import NOW, a_line, a_report, news, training

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    7,
    1.5,
    "text",
    "",
    "é",
    f"h{NO_TEXT}ff",
    b"bytes",
    {},
    {"a": 1},
    [],
    (),
    Unreadable("no JSON"),
]


@pytest.fixture
def rows(sqlite_store: Store) -> list[tuple[Any, sa.Table]]:
    attempt = training(sqlite_store)
    host_id = attempt.host_id
    told = news(attempt, progress=[a_line(10)])
    sqlite_store.record_report(host_id, a_report(attempts=[told]), NOW)
    found = sqlite_store.fleet_rows(now=NOW)
    return [
        (found.attempts[0], tables.attempts),
        (found.running[0], tables.jobs),
        (found.gpus[0], tables.gpus),
        (found.hosts[0], tables.hosts),
        (next(iter(found.progress.values())), tables.progress),
    ]


def passes(row: Any, table: sa.Table) -> bool:
    try:
        check(row, table)
    except Garbled:
        return False
    return True


def test_every_value_in_every_column_is_judged_alike(rows: list[tuple[Any, sa.Table]]) -> None:
    refused = 0
    for sound, table in rows:
        assert all_good([sound, sound], table) and passes(sound, table)
        for column in fields(sound):
            for value in VALUES:
                if not column.init:
                    continue
                row = replace(sound, **{column.name: value})
                good = passes(row, table)
                assert all_good([sound, row], table) == good, f"{table.name}.{column.name}: {value!r}"
                refused += not good
    assert refused > 100
    assert all_good([], tables.jobs)
