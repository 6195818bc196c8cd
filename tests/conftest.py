"""Fixtures for every room: `store` is a test's own database, once on SQLite and once on PostgreSQL."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from orchestrator.store import Store, upgrade
from tests import postgres
from tests.invariants import check_all

# No test goes by the clock of a machine that others may be using.
settings.register_profile("tuneyard", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tuneyard")

TESTS = Path(__file__).parent
# Here a warning is an error. Not yet in what starts processes with torch, TRL and Ray, whose warnings are many.
STRICT = (
    *("api", "cli", "control", "deploy", "dispatch", "jobs"),
    *("scheduler", "simulate", "store", "whatif"),
)
WARNINGS = pytest.mark.filterwarnings(
    "error",
    # Raised when objects are collected: in whichever test runs then, also one of another folder.
    "default::ResourceWarning",
    "default::pytest.PytestUnraisableExceptionWarning",
)
TEMPLATE = "template_tuneyard"
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in STRICT:
            item.add_marker(WARNINGS)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """A running PostgreSQL, with a migrated database to copy. Without its binaries: skips, in CI fails."""
    folder = postgres.binaries()
    if folder is None:
        missing = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with postgres.running(folder) as text:
        url = sa.make_url(text)
        _execute(url, f"CREATE DATABASE {TEMPLATE}")
        upgrade(url.set(database=TEMPLATE).render_as_string(hide_password=False))
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated database, on SQLite alone."""
    path = tmp_path / "test.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with nothing in it, on each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    yield from _postgres_database(request.getfixturevalue("postgres_server"), "template0")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database, on each kind."""
    if request.param == "sqlite":
        path = tmp_path / "tuneyard.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    yield from _postgres_database(request.getfixturevalue("postgres_server"), TEMPLATE)


@pytest.fixture
def postgres_urls(postgres_server: sa.URL) -> Iterator[tuple[str, str]]:
    """Two databases of PostgreSQL: a migrated one, and an empty one."""
    for migrated in _postgres_database(postgres_server, TEMPLATE):
        for empty in _postgres_database(postgres_server, "template0"):
            yield migrated, empty


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[[], Store]]:
    """Opens the test's database, as often as it asks: each is another process as far as the store can tell.

    Whatever the test did, the invariants hold at its end.
    """
    opened: list[Store] = []

    def opener() -> Store:
        opened.append(Store(url))
        return opened[-1]

    yield opener
    try:
        for store in opened[:1]:
            check_all(store)
    finally:
        for store in opened:
            store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    """The test's database, on each kind. The invariants are checked at the test's end."""
    return open_store()


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[Store]:
    """The same on SQLite alone, for tests of rooms above the store."""
    opened = Store(sqlite_url)
    yield opened
    try:
        check_all(opened)
    finally:
        opened.close()


def _postgres_database(server: sa.URL, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.set(database=name).render_as_string(hide_password=False)
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(url: sa.URL, statement: str) -> None:
    where = {"host": str(url.query["host"]), "user": url.username, "dbname": url.database}
    with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(statement.encode())
