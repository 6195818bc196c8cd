"""The migrations: up, down, and equal to what orchestrator/store/schema/tables.py says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobs.identity import is_derived
from migrations import revisions
from migrations.run import differences, downgrade, head, migrate
from orchestrator.store.engine.database import make_engine, parse_url
from orchestrator.store.schema.tables import metadata


@pytest.fixture
def engine(empty_url: str) -> Iterator[sa.Engine]:
    made = make_engine(parse_url(empty_url))
    yield made
    made.dispose()


def described(engine: sa.Engine) -> dict[str, Any]:
    """With what Alembic's own comparison leaves out: checks, partial indexes, names of constraints."""
    seen = sa.inspect(engine)
    return {
        table: {
            "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in seen.get_columns(table)],
            "key": seen.get_pk_constraint(table)["constrained_columns"],
            "checks": sorted((c["name"], c["sqltext"]) for c in seen.get_check_constraints(table)),
            "unique": sorted((u["name"], u["column_names"]) for u in seen.get_unique_constraints(table)),
            "foreign": sorted((f["name"], f["referred_table"]) for f in seen.get_foreign_keys(table)),
            "indexes": sorted(
                (i["name"], i["unique"], str(i["column_names"]), _where(i.get("dialect_options", {})))
                for i in seen.get_indexes(table)
            ),
            "options": seen.get_table_options(table),
        }
        for table in sorted(seen.get_table_names())
        if table != "alembic_version"
    }


def _where(options: dict[str, Any]) -> list[str]:
    return [str(value) for name, value in sorted(options.items()) if name.endswith("_where")]


def test_migrating_gives_what_the_tables_say(engine: sa.Engine) -> None:
    migrate(engine, metadata)
    with engine.begin() as connection:
        assert differences(connection, metadata) == []
    migrated = described(engine)
    downgrade(engine, metadata, "base")
    metadata.create_all(engine)
    assert migrated == described(engine)
    assert set(migrated) == set(metadata.tables)


def test_a_difference_would_be_found(engine: sa.Engine) -> None:
    migrate(engine, metadata)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN colour TEXT")
        connection.exec_driver_sql("DROP INDEX uq_leases_exclusive")
        found = differences(connection, metadata)
    assert {difference[0] for difference in found} == {"remove_column", "add_index"}


def test_down_leaves_nothing_and_up_again_works(engine: sa.Engine) -> None:
    for _ in range(2):
        migrate(engine, metadata)
        downgrade(engine, metadata, "base")
        assert [name for name in sa.inspect(engine).get_table_names() if name != "alembic_version"] == []


@pytest.mark.parametrize("revision", revisions())
def test_every_step_goes_both_ways(engine: sa.Engine, revision: str) -> None:
    migrate(engine, metadata, revision)
    here = described(engine)
    downgrade(engine, metadata, "-1")
    migrate(engine, metadata, revision)
    assert described(engine) == here


def test_the_file_names_tell_the_revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no alembic.ini anywhere near
    assert revisions()[-1] == head()


def test_observations_of_the_first_revision_get_their_groups(engine: sa.Engine) -> None:
    migrate(engine, metadata, "0001")
    rows = {
        "hosts": "id, name, info, joined_at, last_seen, drained, ray_ready, running) "
        "VALUES (1, 'alpha', '{}', 1, 1, false, true, '[]')",
        "gpus": "id, uuid, host_id, idx, kind, name, memory_bytes, present) "
        "VALUES (1, 'u', 1, 0, 'cuda', 'L4', 24, true)",
        "jobs": 'id, name, "user", state, reason_code, reason_text, reason_figures, spec, priority, submitted_at) '
        "VALUES (1, 'a', 'ada', 'succeeded', 'succeeded', 'done', '{}', '{}', 50, 1)",
        "attempts": "id, job_id, number, host_id, rung, projection, opened_at, log_bytes, outcome, ended_at) "
        "VALUES (1, 1, 1, 1, '{}', '{}', 1, 0, 'succeeded', 2)",
        "leases": "attempt_id, gpu_id, rank, exclusive, memory_bytes, released_at) VALUES (1, 1, 0, true, 9, 2)",
        "observations": "attempt_id, ts, architecture, method, card, stack, rung, outcome) "
        "VALUES (1, 2, 'llama', 'qlora', 'L4', '{}', '{}', 'succeeded')",
    }
    with engine.begin() as connection:
        for table, values in rows.items():
            connection.exec_driver_sql(f"INSERT INTO {table} ({values}")
    migrate(engine, metadata, "0002")
    with engine.begin() as connection:
        found = connection.exec_driver_sql("SELECT family, quantisation, card_bytes FROM observations").one()
    assert tuple(found) == ("llama", "nf4", 24)


def test_jobs_of_the_third_revision_were_queued_when_they_came_back_last(engine: sa.Engine) -> None:
    migrate(engine, metadata, "0003")
    columns = (
        'id, name, "user", state, reason_code, reason_text, reason_figures, spec, priority, submitted_at'
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO hosts (id, name, info, joined_at, last_seen, drained, ray_ready, running) "
            "VALUES (1, 'alpha', '{}', 1, 1, false, true, '[]')"
        )
        for id_, state in enumerate(("queued", "queued", "succeeded"), 1):
            values = f"{id_}, 'a', 'ada', '{state}', 'new', 'waits', '{{}}', '{{}}', 50, {id_ * 10}"
            connection.exec_driver_sql(f"INSERT INTO jobs ({columns}) VALUES ({values})")
        for id_, job in enumerate((2, 3), 1):
            connection.exec_driver_sql(
                "INSERT INTO attempts (id, job_id, number, host_id, rung, projection, opened_at, log_bytes, outcome, "
                f"ended_at) VALUES ({id_}, {job}, 1, 1, '{{}}', '{{}}', 50, 0, 'lost', 99)"
            )
    migrate(engine, metadata, "0004")
    with engine.begin() as connection:
        found = connection.exec_driver_sql(
            "SELECT id, queued_at, project, group_id FROM jobs ORDER BY id"
        ).all()
    assert [tuple(row) for row in found] == [
        (1, 10, "default", None),
        (2, 99, "default", None),
        (3, 30, "default", None),
    ]
    downgrade(engine, metadata, "0003")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar() == 3


def test_rows_of_before_get_uuids_that_follow_from_them(engine: sa.Engine) -> None:
    """So that a backup which is brought to this version twice has the same ones."""
    migrate(engine, metadata, "0014")
    rows = {
        "hosts": "id, name, info, joined_at, last_seen, drained, ray_ready, running) "
        "VALUES (1, 'alpha', '{}', 1, 1, false, true, '[]')",
        "jobs": 'id, name, "user", state, reason_code, reason_text, reason_figures, spec, priority, submitted_at) '
        "VALUES (1, 'a', 'ada', 'failed', 'failed', 'x', '{}', '{}', 50, 1.25), "
        "(2, 'a', 'ada', 'failed', 'failed', 'x', '{}', '{}', 50, 1.25)",
        "attempts": "id, job_id, number, host_id, rung, projection, opened_at, log_bytes, outcome, ended_at) "
        "VALUES (1, 1, 1, 1, '{}', '{}', 1, 0, 'lost', 2), (2, 1, 2, 1, '{}', '{}', 1, 0, 'failed', 2)",
    }
    with engine.begin() as connection:
        for table, values in rows.items():
            connection.exec_driver_sql(f"INSERT INTO {table} ({values}")
    found = []
    for _ in range(2):
        migrate(engine, metadata, "0015")
        with engine.begin() as connection:
            uuids = [
                connection.exec_driver_sql(f"SELECT uuid FROM {table} ORDER BY id").scalars().all()
                for table in ("jobs", "attempts")
            ]
            assert connection.exec_driver_sql("SELECT epoch FROM yard").scalar_one() > 1_700_000_000_000
        found.append([uuid for table in uuids for uuid in table])
        downgrade(engine, metadata, "0014")
    assert found[0] == found[1] and len(set(found[0])) == 4 and all(map(is_derived, found[0]))


def test_attempts_may_end_in_new_ways_and_older_versions_read_them(engine: sa.Engine) -> None:
    """SQLite's check is changed in place: what refers to attempts stays, and so does every other constraint."""
    migrate(engine, metadata, "0007")
    rows = {
        "hosts": "id, name, info, joined_at, last_seen, drained, ray_ready, running) "
        "VALUES (1, 'alpha', '{}', 1, 1, false, true, '[]')",
        "jobs": 'id, name, "user", state, reason_code, reason_text, reason_figures, spec, priority, submitted_at) '
        "VALUES (1, 'a', 'ada', 'failed', 'failed', 'x', '{}', '{}', 50, 1)",
        "attempts": "id, job_id, number, host_id, rung, projection, opened_at, log_bytes, outcome, ended_at) "
        "VALUES (1, 1, 1, 1, '{}', '{}', 1, 0, 'lost', 2), (2, 1, 2, 1, '{}', '{}', 1, 0, 'failed', 2)",
        "progress": "attempt_id, step, ts, total_steps, tokens) VALUES (1, 1, 1, 9, 0)",
    }
    with engine.begin() as connection:
        for table, values in rows.items():
            connection.exec_driver_sql(f"INSERT INTO {table} ({values}")
    migrate(engine, metadata, "0008")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE attempts SET outcome = 'host_fault' WHERE id = 1")
        connection.exec_driver_sql("UPDATE attempts SET outcome = 'diverged' WHERE id = 2")
        connection.exec_driver_sql("UPDATE jobs SET reason_code = 'diverged'")
        assert connection.exec_driver_sql("SELECT skipped FROM progress").scalar_one() == 0
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.exec_driver_sql("UPDATE attempts SET outcome = 'bored'")
    downgrade(engine, metadata, "0007")
    with engine.begin() as connection:
        found = connection.exec_driver_sql("SELECT outcome FROM attempts ORDER BY id").scalars().all()
        assert found == ["not_started", "failed"]
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.exec_driver_sql("UPDATE attempts SET outcome = 'diverged'")
    migrate(engine, metadata, "0011")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE attempts SET outcome = 'host_stopped' WHERE id = 1")
    downgrade(engine, metadata, "0010")
    with engine.begin() as connection:
        found = connection.exec_driver_sql("SELECT outcome FROM attempts ORDER BY id").scalars().all()
        assert found == ["preempted", "failed"]


def test_a_database_without_a_leader_gets_one_that_nobody_holds(engine: sa.Engine) -> None:
    migrate(engine, metadata, "0016")
    job = (
        'INSERT INTO jobs (id, name, "user", state, reason_code, reason_text, reason_figures, spec, priority, '
        "submitted_at) VALUES (1, 'a', 'ada', 'queued', 'new', 'waits', '{}', '{}', 50, 1)"
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(job)
    migrate(engine, metadata, "0017")
    with engine.begin() as connection:
        rows = connection.exec_driver_sql("SELECT id, epoch, beat, holder FROM leader").all()
        assert [tuple(row) for row in rows] == [(1, 0, 0, None)]
        assert connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar() == 1
    downgrade(engine, metadata, "0016")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar() == 1
