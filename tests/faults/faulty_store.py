"""A store whose transactions fail as chance has it: refused, timed out, or committed though a time-out is reported."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from jobs.errors import Unavailable
from orchestrator.store import Store

REFUSED, TIMED_OUT, COMMITTED = "refused", "timed out", "committed, but reported as timed out"


class FaultyStore(Store):
    """rate: the share of transactions that fail. Every method of Store is one, or a few."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self.rate = 0.0
        self._chance = chance
        super().__init__(url)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        if self._draws():
            raise Unavailable("the database refuses (drawn)")
        with super().read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        how = self._chance.choice((REFUSED, TIMED_OUT, COMMITTED)) if self._draws() else ""
        if how == REFUSED:
            raise Unavailable(f"the database: {how} (drawn)")
        with super().write() as connection:
            yield connection
            if how == TIMED_OUT:
                raise Unavailable(f"the database: {how} (drawn)")
        if how == COMMITTED:
            raise Unavailable(f"the database: {how} (drawn)")

    def _draws(self) -> bool:
        return self.rate > 0 and self._chance.random() < self.rate
