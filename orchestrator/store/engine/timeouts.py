"""How long a PostgreSQL is waited for: to connect, for an answer, for a connection of the pool."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

CONNECT_S = 5
STATEMENT_S = 20.0  # also of one that waits for a lock
SILENCE_S = 25.0  # the server itself says nothing, not even that a statement took too long: it hangs
POOL_S = 5.0

ARGUMENTS: dict[str, Any] = {
    "connect_timeout": CONNECT_S,
    "options": f"-c statement_timeout={STATEMENT_S * 1000:.0f} -c idle_in_transaction_session_timeout=60000",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": int(SILENCE_S * 1000),
}


class Watch:
    """Ends the connections on which a transaction has waited for SILENCE_S: libpq itself would wait for ever."""

    def __init__(self) -> None:
        self._waiting: dict[int, float] = {}  # until when, by a descriptor of the connection that is ours
        self._changed = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def over(self, connection: sa.Connection) -> Iterator[None]:
        """The time of a transaction on this connection, its commit too."""
        driver: Any = connection.connection.dbapi_connection
        line = os.dup(driver.fileno())
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="database-watch", daemon=True)
                self._thread.start()
            self._waiting[line] = time.monotonic() + SILENCE_S
        try:
            yield
        finally:
            with self._changed:
                self._waiting.pop(line, None)
            os.close(line)

    def close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _look(self) -> None:
        with self._changed:
            while not self._ended:
                now = time.monotonic()
                for line in [line for line, until in self._waiting.items() if until <= now]:
                    del self._waiting[line]
                    _cut(line)
                self._changed.wait(1.0)


def _cut(line: int) -> None:
    """The thread that waits on this connection sees that it is broken."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(line)) as end:
        end.shutdown(socket.SHUT_RDWR)


def refuse_broken(driver: Any, _record: Any, _proxy: Any) -> None:
    """Of a connection from the pool: what the server has to say now is that it ended it. Waits for nobody."""
    look = select.poll()
    look.register(driver.fileno(), select.POLLIN | select.POLLHUP)
    if look.poll(0):
        raise sa.exc.DisconnectionError("the server has ended this connection")
