"""What changed of the fleet of late, encoded once for all who follow."""

from __future__ import annotations

import asyncio
import logging
import secrets
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from jobs.errors import Busy, TuneyardError
from jobs.units import MiB
from orchestrator.api.live.columns import State, changes
from orchestrator.api.live.window import Window

log = logging.getLogger(__name__)

BEAT_S = 10.0  # without news, followers are told that there is none
MOST_FOLLOWERS, MOST_OF_ADDRESS = 256, 64
MOST_PIECES, MOST_BYTES = 120, 8 * MiB  # that are kept for who was away
SHORTEST_S = 0.02  # between two rounds
AGAIN_S = 5  # when to come again, where too many follow
# For the query of a table by a client; a page has no use for it, and it is a third of a snapshot.
NOT_STREAMED = {"cards": ("uuid",)}


@dataclass(frozen=True)
class Piece:
    """One event as it is sent. packed: a piece of a raw deflate stream, which begins and ends at a byte."""

    number: int
    plain: bytes
    packed: bytes = field(repr=False)


def piece(number: int, name: str, value: Mapping[str, Any], mark: str = "") -> Piece:
    """An event. mark: its id."""
    head = f"id: {mark}\nevent: {name}\n" if mark else f"event: {name}\n"
    plain = head.encode() + b"data: " + to_json(value, inf_nan_mode="null") + b"\n\n"
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return Piece(number, plain, packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH))


class Feed:
    """For the event loop; the fleet is read, compared and encoded on a thread of its own."""

    def __init__(self, window: Window, beat_s: float = BEAT_S) -> None:
        self._window, self._beat_s = window, beat_s
        self._thread = ThreadPoolExecutor(1, "live")
        self.boot = secrets.token_hex(4)  # of this server: places in another's feed mean nothing here
        self._number = 0  # of the newest piece
        self._state: State = {}
        self._kept: tuple[Piece, ...] = ()  # numbered without a gap
        self._whole: Piece | None = None
        self._trouble: Piece | None = None  # why it can't be read
        self._said = ""  # the same in words
        self._news: asyncio.Future[None] | None = None
        self._rounds: asyncio.Task[None] | None = None
        self._followers: Counter[str] = Counter()  # by address
        self._closed = False

    @property
    def followers(self) -> int:
        """How many follow."""
        return self._followers.total()

    def admit(self, address: str) -> None:
        """Count one that follows, until leave(). Raises Busy where too many do already."""
        if self.followers >= MOST_FOLLOWERS or self._followers[address] >= MOST_OF_ADDRESS:
            raise Busy(
                f"{self.followers} follow the fleet already, {self._followers[address]} of this address",
                AGAIN_S,
            )
        self._followers[address] += 1

    def leave(self, address: str) -> None:
        """One that was admitted follows no more."""
        self._followers -= Counter({address: 1})

    async def follow(self, mark: str, gone: asyncio.Future[None]) -> AsyncGenerator[Piece]:
        """The events, from after that of the mark (Last-Event-ID) or from a whole state on, until gone is done."""
        fresh = self._begin()
        await asyncio.wait({fresh, gone}, return_when=asyncio.FIRST_COMPLETED)
        at, told = self._place(mark), None
        while not (gone.done() or self._closed):
            news = self._next()
            if self._trouble is not None and self._trouble is not told:
                yield self._trouble
            told = self._trouble
            for one in await self._after(at):
                yield one
                at = one.number
            done, _ = await asyncio.wait(
                {news, gone}, timeout=self._beat_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done and self._trouble is None:
                yield piece(at or 0, "beat", {"at": self._state.get("at")})

    def close(self) -> None:
        """Everybody's stream ends."""
        self._closed = True
        if self._rounds is not None:
            self._rounds.cancel()
        self._tell()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> asyncio.Future[None]:
        """What is done once there is a state that is fresh enough to begin with."""
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._all_rounds())
            return self._next()
        if self._state or self._trouble:
            ready = asyncio.get_running_loop().create_future()
            ready.set_result(None)
            return ready
        return self._next()

    async def _all_rounds(self) -> None:
        """Read, compare, tell, until nobody follows any more."""
        loop = asyncio.get_running_loop()
        first = True  # who waits for a state that is fresh is told of it, though nothing changed
        while self.followers and not self._closed:
            number, text = self._number, ""
            try:
                await loop.run_in_executor(self._thread, self._round)
            except TuneyardError as error:
                text = str(error)
            except Exception:  # the outermost edge: whoever watches is told, and it is tried again
                log.exception("reading the fleet failed")
                text = "the server failed to read the fleet; its log says why"
            if text != self._said:
                self._said, self._trouble = text, piece(0, "trouble", {"text": text}) if text else None
                self._tell()
            elif first or number != self._number:
                self._tell()
            first = False
            await asyncio.sleep(max(SHORTEST_S, self._window.wait_s))

    def _round(self) -> None:
        """On the thread: the next piece, where something changed. Time alone is no news."""
        state = _streamed(self._window.look())
        changed = changes({**self._state, "at": state["at"]}, state)
        if not changed:
            return
        if self._state:
            changed["at"] = {"all": state["at"]}
            self._keep(piece(self._number + 1, "delta", changed, self._mark(self._number + 1)))
        # In this order: whoever sees the number finds its piece.
        self._state, self._whole = state, None
        self._number += 1

    def _keep(self, made: Piece) -> None:
        """A new tuple each time: the event loop may be reading the last one."""
        kept, size = [made], len(made.plain)
        for one in reversed(self._kept):
            size += len(one.plain)
            if len(kept) == MOST_PIECES or size > MOST_BYTES:
                break
            kept.append(one)
        self._kept = tuple(reversed(kept))

    def _mark(self, number: int) -> str:
        return f"{self.boot}-{number}"

    def _place(self, mark: str) -> int | None:
        """The number of a mark of this feed, None for any other."""
        boot, _, number = mark.partition("-")
        if boot != self.boot or not (number.isascii() and number.isdigit()) or len(number) > 18:
            return None
        return int(number) if int(number) <= self._number else None

    async def _after(self, at: int | None) -> list[Piece]:
        """What is to be sent after a place: the pieces since, or where those are gone, the whole state."""
        if not self._state or (at is not None and at >= self._number):
            return []
        kept = self._kept
        if at is not None and kept and kept[0].number <= at + 1:
            return [one for one in kept if one.number > at]
        whole = self._whole
        if whole is None:
            whole = await asyncio.get_running_loop().run_in_executor(self._thread, self._snapshot)
        return [whole]

    def _snapshot(self) -> Piece:
        """On the thread, where no round changes the state meanwhile."""
        if self._whole is None:
            self._whole = piece(self._number, "snapshot", self._state, self._mark(self._number))
        return self._whole

    def _next(self) -> asyncio.Future[None]:
        """Done with the next news."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        self._news = None


def _streamed(state: State) -> State:
    return {
        name: {column: values for column, values in value.items() if column not in NOT_STREAMED[name]}
        if name in NOT_STREAMED
        else value
        for name, value in state.items()
    }
