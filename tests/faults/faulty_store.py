"""A store whose methods fail as chance has it: refused, timed out, or committed though a time-out is reported."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jobs.errors import Unavailable
from orchestrator.store import Store
from orchestrator.store.engine.database import Database, make_engine

REFUSED, TIMED_OUT, COMMITTED = "refused", "timed out", "committed, but reported as timed out"
KINDS = (REFUSED, TIMED_OUT, COMMITTED)
# Of a method's transactions the one that times out: the others before it are committed.
MOST_TRANSACTIONS = 3
_engines: dict[Path, sa.Engine] = {}


def _fast(connection: Any, _record: Any) -> None:
    """Nothing here outlives its process, and no power fails."""
    connection.execute("PRAGMA synchronous=OFF")


def fresh_engine(path: Path, template: Path) -> sa.Engine:
    """The engine of a database that is a copy of template. One of a path, so that statements are compiled once."""
    if path not in _engines:
        _engines[path] = make_engine(sa.make_url(f"sqlite:///{path}"))
        sa.event.listen(_engines[path], "connect", _fast)
    _engines[path].dispose()
    for name in (f"{path}-wal", f"{path}-shm"):
        Path(name).unlink(missing_ok=True)
    path.write_bytes(template.read_bytes())
    return _engines[path]


def methods() -> list[str]:
    """Those of Store that ask the database: all but what every one of them is made of."""
    return [
        name
        for name in dir(Store)
        if not name.startswith("_")
        and name not in vars(Database)
        and name != "thin_lines"  # takes a connection
        and callable(getattr(Store, name))
    ]


class FaultyStore(Store):
    """rate: the mean share of calls that fail; each method has a rate of its own, from none to twice that.

    kind: of all faults; None: drawn for each.
    """

    def __init__(self, engine: sa.Engine, chance: random.Random, kind: str | None = None) -> None:
        self.rate = 0.0
        self._chance, self._kind = chance, kind
        self._times_out_in: int | None = None  # transactions from now
        self._inside = False
        super().__init__(str(engine.url))
        self._engine.dispose()
        self._engine = self._reader = engine
        self._writer = engine.execution_options(writes=True)
        for name in methods():
            setattr(self, name, self._faulty(name, getattr(self, name), chance.uniform(0, 2)))

    def _faulty(self, name: str, method: Callable[..., Any], share: float) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*given: Any, **named: Any) -> Any:
            if self._inside or not self.rate or self._chance.random() >= self.rate * share:
                return method(*given, **named)
            how = self._kind or self._chance.choice(KINDS)
            fault = Unavailable(f"the database, of {name}: {how} (drawn)")
            if how == REFUSED:
                raise fault
            if how == TIMED_OUT:
                self._times_out_in = self._chance.randint(1, MOST_TRANSACTIONS)
            self._inside = True
            try:
                method(*given, **named)
            finally:
                self._inside, self._times_out_in = False, None
            raise fault  # where it had fewer transactions, its answer is what was lost

        return call

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        with super().write() as connection:
            yield connection
            if self._times_out_in is not None:
                self._times_out_in -= 1
                if not self._times_out_in:
                    raise Unavailable("the database: timed out (drawn)")
