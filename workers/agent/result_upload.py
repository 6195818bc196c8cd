"""A job's result, sent to the server piece by piece when it asks: the files that the manifest lists, nothing else."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from jobs.errors import Conflict, NotFound, TuneyardError, Unauthorized, Unavailable
from jobs.identity import Owner, result_fault
from jobs.messages.send_result import SendOrder
from workers.checkpoints.manifest import MANIFEST, Corrupt, files_in

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
MANIFEST_BYTES = 16 << 20
AT_A_TIME = 4
TRIES = 5
PAUSE_S = 1.0


class Outlet(Protocol):
    """Where pieces go. put and fail raise NotFound or Conflict where the server wants no more of it."""

    def put_piece(self, order_id: str, offset: int, total: int, data: bytes) -> None: ...

    def fail_order(self, order_id: str, kind: str, message: str) -> None: ...


class ResultReader:
    """A result folder as its manifest has it: one stream of bytes, the files one after the other by name.

    Raises NotFound where there is none, Conflict where it is another's or was changed.
    """

    def __init__(self, folder: Path, owner: Owner, attempt_id: int, attempt_uuid: str = "") -> None:
        self.folder = folder
        try:
            self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise NotFound(f"the result of job {owner.job_id} is gone: {folder}: {error.strerror}") from None
        try:
            self.manifest = self._read_manifest()
            self.files = self._listed(owner, attempt_id, attempt_uuid)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._root)

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())

    def pieces(self, offset: int, size: int = PIECE_BYTES) -> Iterator[bytes]:
        """The stream from an offset, in pieces of at most `size`; at least one, which may be empty."""
        if offset >= self.total:
            yield b""
        for name, (length, _) in sorted(self.files.items()):
            if offset < length:
                yield from self._file(name, length, offset, size)
            offset = max(0, offset - length)

    def _file(self, name: str, length: int, offset: int, size: int) -> Iterator[bytes]:
        with open(self._open(name), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size != length:
                raise Conflict(f"{self.folder / name} is not what its manifest says: it was changed")
            file.seek(offset)
            while offset < length:
                piece = file.read(min(size, length - offset))
                if not piece:
                    raise Conflict(f"{self.folder / name} ended after {offset} bytes: it was changed")
                yield piece
                offset += len(piece)

    def _open(self, name: str) -> int:
        """A file below the folder. No part of its name is followed where it is a link."""
        at, last = os.dup(self._root), name.split("/")[-1]
        try:
            for part in name.split("/")[:-1]:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = below
            # Non-blocking: a pipe in its place would wait for ever.
            return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        except FileNotFoundError:
            raise NotFound(f"{self.folder / name} is gone from the result") from None
        except OSError as error:
            raise Conflict(f"{self.folder / name} can't be sent: {error.strerror}") from None
        finally:
            os.close(at)

    def _read_manifest(self) -> bytes:
        with open(self._open(MANIFEST), "rb") as file:
            text = file.read(MANIFEST_BYTES + 1)
        if len(text) > MANIFEST_BYTES:
            raise Conflict(f"{self.folder / MANIFEST} has more than {MANIFEST_BYTES} bytes")
        return text

    def _listed(self, owner: Owner, attempt_id: int, attempt_uuid: str) -> dict[str, tuple[int, str]]:
        try:
            text = self.manifest.decode()
            files = files_in(text)
        except (Corrupt, UnicodeDecodeError) as error:
            raise Conflict(f"{self.folder} is damaged: {error}") from None
        if fault := result_fault(json.loads(text), owner, attempt_id, attempt_uuid):
            raise Conflict(f"what {self.folder} holds {fault}")
        return files


class Sender:
    """Carries out the server's orders to send, each in a thread of its own, some at a time."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._running: dict[str, threading.Thread] = {}
        self._over: set[str] = set()
        self._epoch = 0

    def follow(self, orders: Sequence[SendOrder], epoch: int = 0) -> None:
        """Begin what is new. What the server has no order for any more ends by itself. epoch: that this host joined."""
        self._epoch = epoch
        self._over &= {order.id for order in orders}
        self._running = {key: thread for key, thread in self._running.items() if thread.is_alive()}
        for order in orders:
            if (
                order.id not in self._running
                and order.id not in self._over
                and len(self._running) < AT_A_TIME
            ):
                thread = threading.Thread(target=self._send, args=(order,), name="result", daemon=True)
                self._running[order.id] = thread
                thread.start()

    def _send(self, order: SendOrder) -> None:
        owner = order.owner or Owner(job_id=order.job_id)
        try:
            if order.epoch and order.epoch != self._epoch:
                raise Conflict("this was asked for before the database was restored; ask again")
            made_by = (order.attempt_id, order.attempt_uuid)
            with closing(ResultReader(Path(order.folder), owner, *made_by)) as reader:
                self._carry(order, reader)
            self._over.add(order.id)
        except (NotFound, Conflict, OSError) as error:
            self._over.add(order.id)
            kind = "not_found" if isinstance(error, NotFound) else "conflict"
            log.warning("the result of job %d is not sent: %s", order.job_id, error)
            self._tell(order, kind, str(error))
        except _Unwanted:
            self._over.add(order.id)
        except TuneyardError as error:  # the server is away: it orders again once it is back, or does not
            log.warning("the result of job %d is not sent: %s", order.job_id, error)

    def _carry(self, order: SendOrder, reader: ResultReader) -> None:
        if order.what == "manifest":
            self._put(order, 0, len(reader.manifest), reader.manifest)
            return
        if order.manifest_sha256 != sha256(reader.manifest).hexdigest():
            raise Conflict(f"{reader.folder} was replaced by another result meanwhile")
        offset = order.offset
        if offset > reader.total:
            raise Conflict(f"{offset} is beyond the {reader.total} bytes of the result")
        for piece in reader.pieces(offset):
            self._put(order, offset, reader.total, piece)
            offset += len(piece)

    def _put(self, order: SendOrder, offset: int, total: int, data: bytes) -> None:
        for left in range(TRIES - 1, -1, -1):
            try:
                self._outlet.put_piece(order.id, offset, total, data)
                return
            except NotFound:
                raise _Unwanted from None
            except (
                Conflict
            ) as error:  # the server has this piece already: its next order says which is wanted
                raise Unavailable(str(error)) from None
            except Unavailable:
                if not left:
                    raise
                threading.Event().wait(PAUSE_S)

    def _tell(self, order: SendOrder, kind: str, message: str) -> None:
        try:
            self._outlet.fail_order(order.id, kind, message)
        except (NotFound, Conflict, Unavailable, Unauthorized) as error:
            log.warning("the server can't be told: %s", error)


class _Unwanted(Exception):
    """The server has no order for this any more."""
