"""What this version can't read of one row: every GET answers, with all that can be read, and names the row."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from jobs.state import JobState, On, Outcome
from orchestrator.api.app import PREFIX
from orchestrator.store.schema.column_types import Flag, Json
from orchestrator.store.schema.tables import metadata
from tests.api.conftest import Yard
from tests.api.scheduling.test_quarantine import MARK, NO_UTF8, bound, is_text, key_of, runs
from tests.api.scheduling.test_scheduling import FakeHost, card, end
from tests.documented import DOCUMENT

# What stands for the parameters of a path; a route with another one has to be added here.
GIVEN = {"job": ("1", "2", "3"), "group": ("3",), "name": ("default",), "card": ("1",)}
# Beside each route alone: what reads other columns.
QUERIES = {
    "/jobs": ("sort=gpus", "sort=-submitted"),
    "/jobs/{job}/result/files": ("manifest=00",),
    "/jobs/{job}/logs": ("since=0",),
}
LISTS = {
    "/jobs": "jobs",
    "/hosts": "hosts",
    "/gpus": "gpus",
    "/projects": "projects",
    "/projects/{name}/secrets": "secrets",
    "/audit": "actions",
    "/notify": "targets",
    "/events": "events",
    "/accuracy": "attempts",
    "/history": "jobs",
}
# Which database it is, who leads, and what of history is to be made: no record of anybody's, and read by nobody who
# asks for one. Curves have a test of their own (tests/store/history).
NOT_ROWS = ("yard", "leader", "history_state", "history_late", "curves")
# What is measured is shown by step: one that holds a value that can't be read has none, and says so by that.
STEPS = (("samples", "/jobs/{job}/curves"),)
# By which it is asked for: one of another name is another one.
NAMES = (("jobs", "group_id"),)
ENUMS = {("jobs", "state"): JobState, ("attempts", "outcome"): Outcome, ("job_links", "on"): On}


def paths() -> list[tuple[str, str]]:
    """Every GET of the route table: the route, and a path of it."""
    found = []
    for path, operations in DOCUMENT["paths"].items():
        if "get" not in operations:
            continue
        named = path.removeprefix(PREFIX)
        names = re.findall(r"{(\w+)}", named)
        for values in [(value,) for value in GIVEN[names[0]]] if names else [()]:
            path = named
            for name, value in zip(names, values, strict=True):
                path = path.replace(f"{{{name}}}", value)
            found += [(named, path), *((named, f"{path}?{query}") for query in QUERIES.get(named, ()))]
    return found


def poisons(column: sa.Column[Any]) -> list[Any]:
    """What may stand there that this version can't read."""
    if isinstance(column.type, Json) or (column.table.name, column.name) == ("jobs", "spec"):
        return ["{no json", '{"colour": "red"}', "[1]", NO_UTF8]
    if isinstance(column.type, sa.Integer | sa.Double | Flag):
        return ["garbage"]
    if (column.table.name, column.name) in ENUMS:
        return ["bored"]
    return [b"\x01\x02", NO_UTF8]  # a BLOB; any other text is one of a column of text


def poisoned() -> Iterator[tuple[str, str, Any]]:
    for table in metadata.sorted_tables:
        for column in table.columns:
            names_a_row = column.foreign_keys or (column.primary_key and column.name != "ts")
            if table.name not in NOT_ROWS and not names_a_row and (table.name, column.name) not in NAMES:
                for value in poisons(column):
                    yield table.name, column.name, value


def lived_in(yard: Yard) -> None:
    """Two hosts; job 1 trains, job 2 has succeeded, job 3 and 4 are a sweep that waits for it; every table has rows."""
    first = runs(yard)
    second = FakeHost(yard, card(1, 2), name="h2")
    yard.submit(name="second", training={"sequence_length": 128})
    for host in (first, second):
        host.trace()
    second.report()
    yard.tick()
    began = end(2, 1, Outcome.SUCCEEDED, device_bytes=123, step_s=0.5, result="/o/second")
    began[0]["started"] = {"ts": yard.now, "pid": 1, "create_time": 1.0}
    yard.now += 10
    began[0]["ended"]["ts"] = yard.now
    second.report(attempts=began)
    yard.tick()
    assert yard.services.store.job_states([2])[2] == "succeeded"
    rates = {"training.learning_rate": [0.1, 0.2]}
    yard.submit(name="many", matrix=rates, after=[{"job": 1, "on": "success"}])
    assert yard.http.post(f"{PREFIX}/jobs/4/hold", headers={"X-Tuneyard-User": "ann"}).status_code == 200
    yard.http.post(f"{PREFIX}/hosts/h2/drain", json={"drained": True})
    yard.now += 30  # h2 is away: nobody waits for what it is to send
    first.report()
    yard.tick()
    yard.http.put(f"{PREFIX}/projects/default/secrets/TOKEN", json={"value": "0123456789"})
    yard.http.post(f"{PREFIX}/notify", json={"url": "https://example.org/hook"})
    yard.http.post(f"{PREFIX}/notify/1/test", json={})


def test_every_table_has_rows_in_the_fleet_of_these_tests(yard: Yard) -> None:
    lived_in(yard)
    with yard.services.store.read() as connection:
        counts = {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }
    assert not [name for name, count in counts.items() if not count and name not in NOT_ROWS], counts


@pytest.mark.parametrize("table", [one.name for one in metadata.sorted_tables if one.name not in NOT_ROWS])
def test_one_row_that_can_t_be_read_hides_no_other(yard: Yard, table: str) -> None:
    lived_in(yard)
    before = {path: yard.http.get(f"{PREFIX}{path}") for _, path in paths()}
    wrong = []
    for _, column, value in [found for found in poisoned() if found[0] == table]:
        told = poison_one(yard, table, column, value)
        for route, path in paths():
            try:
                answer = yard.http.get(f"{PREFIX}{path}")
                fault = fault_of(route, answer, before[path], value)
                if fault and (table, route) in STEPS:
                    fault = figures_not_of(answer.json(), before[path].json())
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                fault = f"{error!r} {last.filename}:{last.lineno}"
            if fault:
                wrong.append(f"{table}.{column} = {value!r}: GET {path}: {fault}")
        heal(yard, table, column, told)
    assert not wrong, "\n".join(wrong[:50])


@pytest.mark.parametrize("ask", ["cancel", "hold", "release", "requeue"])
def test_who_changes_a_job_that_can_t_be_read_is_told_that_it_can_t(yard: Yard, ask: str) -> None:
    lived_in(yard)
    job = {"cancel": 3, "hold": 3, "release": 4, "requeue": 2}[ask]
    wrong = []
    for _, column, value in [found for found in poisoned() if found[0] == "jobs"]:
        with yard.services.store.write() as connection:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = 1")
            name = f'"{column}"'
            old = connection.exec_driver_sql(f"SELECT {name} FROM jobs WHERE id = ?", (job,)).scalar()
            wrong_one = f"UPDATE jobs SET {name} = {MARK[is_text(value)]} WHERE id = ?"
            connection.exec_driver_sql(wrong_one, (bound(value), job))
        try:
            answer = yard.http.post(f"{PREFIX}/jobs/{job}/{ask}")
            if answer.status_code == 409 and answer.json()["error"]["kind"] == "unreadable":
                assert f"job {job} can't be read" in answer.text, answer.text
        except Exception as error:
            wrong.append(f"jobs.{column} = {value!r}: {error!r}")
        with yard.services.store.write() as connection:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = 1")
            connection.exec_driver_sql("PRAGMA foreign_keys = 0")
            connection.exec_driver_sql(f"UPDATE jobs SET {name} = ? WHERE id = ?", (old, job))
    assert not wrong, "\n".join(wrong)


def fault_of(route: str, answer: Any, before: Any, value: Any) -> str:
    """What is wrong with an answer after one row was poisoned, beside what it was before; empty: nothing."""
    if answer.status_code == 409 and answer.json()["error"]["kind"] == "unreadable":
        named = "can't be read by this version" in answer.json()["error"]["message"]
        if route in LISTS:
            return f"a list is refused: {answer.text}"
        return "" if named else f"no record is named: {answer.text}"
    if answer.status_code != before.status_code:
        return f"{answer.status_code} {answer.text[:200]}"
    if answer.status_code != 200:
        return ""
    told, known = answer.json(), before.json()
    if (name := LISTS.get(route)) and len(told[name]) < len(known[name]) - 1:
        return f"{len(told[name])} of {len(known[name])} are left"
    same = told == known or route == "/health"
    if not same and not told.get("unreadable") and not shown_as_it_is(value, answer.text):
        return f"it differs without a word: {answer.text[:300]} was {before.text[:300]}"
    return ""


def figures_not_of(told: Any, known: Any) -> str:
    """What telemetry says now that it did not say before; empty: it only says less."""
    for now, then in zip(told["telemetry"], known["telemetry"], strict=True):
        for name, stats in now["values"].items():
            for stat, values in stats.items():
                wrong = {*values} - {None, *then["values"][name][stat]}
                if wrong:
                    return f"{name} {stat} is {wrong}"
    return ""


def shown_as_it_is(value: Any, text: str) -> bool:
    """What is JSON may be shown; of an object of another version what it has not is shown as unknown."""
    plain = value.decode() if isinstance(value, bytes) else value
    try:
        read = json.loads(value)
    except ValueError:
        return json.dumps(plain) in text or (plain == NO_UTF8 and plain in text)
    return isinstance(read, dict) or json.dumps(read, separators=(",", ":")) in text


def poison_one(yard: Yard, table: str, column: str, value: Any) -> list[tuple[Any, ...]]:
    """The first row has this there. What stood there, with its key."""
    with yard.services.store.write() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = 1")
        keys = key_of(table)
        first = (
            f'SELECT {", ".join(keys)} FROM {table} ORDER BY "{column}" IS NULL, {", ".join(keys)} LIMIT 1'
        )
        row = connection.exec_driver_sql(first).one()
        mine = " AND ".join(f"{name} = ?" for name in keys)
        old = connection.exec_driver_sql(f'SELECT "{column}" FROM {table} WHERE {mine}', tuple(row)).scalar()
        wrong = f'UPDATE {table} SET "{column}" = {MARK[is_text(value)]} WHERE {mine}'
        connection.exec_driver_sql(wrong, (bound(value), *row))
    if column in keys:
        row = tuple(value if name == column else part for name, part in zip(keys, row, strict=True))
    return [(old, *row)]


def heal(yard: Yard, table: str, column: str, before: list[tuple[Any, ...]]) -> None:
    with yard.services.store.write() as connection:
        for row in before:
            mine = " AND ".join(f"{name} = ?" for name in key_of(table))
            connection.exec_driver_sql(f'UPDATE {table} SET "{column}" = ? WHERE {mine}', row)
