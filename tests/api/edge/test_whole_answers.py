"""An answer leaves in one piece, and nothing is lost or held back."""

from __future__ import annotations

import asyncio
from typing import Any

from orchestrator.api.edge.whole_answers import AT_ONCE_BYTES, WholeAnswers


class Recorder(asyncio.Transport):
    """Keeps what is written, a list for each call."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def writelines(self, list_of_data: Any) -> None:
        self.written.append(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return name


def test_what_is_written_in_one_round_leaves_together() -> None:
    async def work() -> list[bytes]:
        below = Recorder()
        transport = WholeAnswers(below, asyncio.get_running_loop())
        transport.write(b"head ")
        transport.write(b"body")
        assert not below.written
        await asyncio.sleep(0)
        transport.write(b"next")
        await asyncio.sleep(0)
        assert transport.get_extra_info("socket") == "socket"
        return below.written

    assert asyncio.run(work()) == [b"head body", b"next"]


def test_what_is_large_is_not_held_back() -> None:
    async def work() -> list[bytes]:
        below = Recorder()
        transport = WholeAnswers(below, asyncio.get_running_loop())
        transport.write(b"h")
        transport.write(b"b" * AT_ONCE_BYTES)
        assert len(below.written) == 1
        transport.write(b"rest")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return below.written

    written = asyncio.run(work())
    assert b"".join(written) == b"h" + b"b" * AT_ONCE_BYTES + b"rest"


def test_closing_writes_what_is_left_and_nothing_is_written_afterwards() -> None:
    async def work() -> tuple[list[bytes], bool]:
        below = Recorder()
        transport = WholeAnswers(below, asyncio.get_running_loop())
        transport.write(b"last words")
        transport.close()
        transport.write(b"too late")
        await asyncio.sleep(0)
        return below.written, below.closed

    assert asyncio.run(work()) == ([b"last words"], True)
