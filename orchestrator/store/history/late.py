"""Minutes whose samples came late: marked with the samples, so that their step of history is made again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from orchestrator.store.engine.bulk import BulkInsert
from orchestrator.store.history.fields import MINUTE_S
from orchestrator.store.schema.tables import history_late

# A minute is taken up so long after its end: what comes later is late.
GRACE_S = 10.0
_insert = BulkInsert(history_late, ("gpu_id", "ts"), ignore_known=True)


def mark_late(connection: sa.Connection, rows: Iterable[tuple[Any, ...]], now: float) -> None:
    """Marks the minutes of samples (gpu_id, ts, ...) that come later than their step waits for them."""
    late = {(row[0], int(row[1] // MINUTE_S) * MINUTE_S) for row in rows if row[1] < now - GRACE_S}
    if late:
        _insert(connection, sorted(late))
