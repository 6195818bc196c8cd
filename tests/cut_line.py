"""A line to a server that breaks once the server has answered: what was asked is done, and nobody hears of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


class CutLine:
    """cuts: how many answers to POST are lost; the others come through."""

    def __init__(self, port: int, cuts: int) -> None:
        self.cuts, self.lost = cuts, 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        posted = threading.Event()

        def asked(data: bytes) -> bool:
            if data.startswith(b"POST"):
                posted.set()
            return False

        def answered(data: bytes) -> bool:
            if not posted.is_set() or self.lost >= self.cuts:
                return False
            self.lost += 1
            return True

        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            threading.Thread(target=_pump, args=(server, client, answered), daemon=True).start()
            _pump(client, server, asked)


def _pump(source: socket.socket, target: socket.socket, cut: Callable[[bytes], bool]) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            if cut(data):
                break
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cut_line(port: int, cuts: int) -> Iterator[CutLine]:
    """A line to the server on this port of the machine."""
    line = CutLine(port, cuts)
    try:
        yield line
    finally:
        line.close()
