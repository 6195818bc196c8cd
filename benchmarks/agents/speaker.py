"""The generator: one process that speaks as all hosts, each over a connection of its own, once a second."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks.agents.news import HostNews

PERIOD_S = 1.0
ANSWER_S = 15.0  # what an agent waits for an answer
WARM_S = 240.0  # until the cards are busy and all starts are told, at most
CALM = 5  # answers to each host from then on, before it is measured
JOINING = 16  # at once


@dataclass
class Seen:
    """What came of the reports that were sent in the window that is measured."""

    since: float = float("inf")
    until: float = float("inf")
    taken_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    asked_to_wait: int = 0
    skipped: int = 0  # seconds in which a host still waited for an answer

    def counts(self, sent: float) -> bool:
        return self.since <= sent < self.until


class Line:
    """One keep-alive connection. Raises OSError and what asyncio does for an answer that does not come."""

    def __init__(self, url: str, token: str, source: str) -> None:
        """source: the address on loopback that it comes from: the server has bounds for each address."""
        self._source = source
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = (
            f" HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, float, bytes]:
        """Status, seconds of Retry-After, body."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._post(path, body)
        except BaseException:
            self.close()
            raise

    async def _post(self, path: str, body: bytes) -> tuple[int, float, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                self._host, self._port, limit=2**20, local_addr=(self._source, 0)
            )
        reader, writer = self._streams
        writer.write(b"".join((f"POST {path}".encode(), self._head, f"{len(body)}\r\n\r\n".encode(), body)))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        answer = await reader.readexactly(int(fields[b"content-length"]))
        if fields.get(b"connection") == b"close":
            self.close()
        return int(head[9:12]), float(fields.get(b"retry-after", 0)), answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def speak(host: HostNews, line: Line, seen: Seen, phase: float) -> None:
    """Report at phase, phase + 1, ... on the loop's clock. As an agent does, it sends nothing while it waits."""
    due = phase
    while due < seen.until:
        await asyncio.sleep(due - time.monotonic())
        sent = time.monotonic()
        body = host.report(time.time())
        wait_s = 0.0
        try:
            status, wait_s, answer = await line.post(f"/api/v1/hosts/{host.host_id}/report", body)
            taken_s = time.monotonic() - sent
            if status == 200:
                host.told(answer)
            elif not wait_s and seen.counts(sent):
                seen.errors[f"{status}: {answer[:200].decode()}"] += 1
        except (OSError, EOFError, TimeoutError) as error:
            status = 0
            if seen.counts(sent):
                seen.errors[type(error).__name__] += 1
        if seen.counts(sent):
            if status == 200:
                seen.taken_s.append(taken_s)
            seen.asked_to_wait += bool(wait_s)
        missed = max(0, int((time.monotonic() - due) / PERIOD_S))
        if wait_s:  # as an agent: no sooner, and not all at once
            missed = max(missed, int(wait_s * random.uniform(1.0, 1.5)))
        if seen.counts(sent):
            seen.skipped += missed
        due += PERIOD_S * (1 + missed)


async def until(true: Callable[[], bool], deadline: float) -> None:
    """Wait until it holds, or the loop's clock is at the deadline."""
    while not true() and time.monotonic() < deadline:
        await asyncio.sleep(0.2)


async def run(url: str, token: str, hosts: int, cards: int, seconds: float) -> dict[str, Any]:
    """Join, wait until the cards are busy, say so, measure."""
    speakers = [
        (HostNews(number, cards), Line(url, token, f"127.0.{1 + number // 250}.{1 + number % 250}"))
        for number in range(hosts)
    ]
    gate = asyncio.Semaphore(JOINING)

    async def join(host: HostNews, line: Line) -> None:
        async with gate:
            status, _, answer = await line.post("/api/v1/hosts/join", host.join())
            if status != 200:
                sys.exit(f"a join was answered {status}: {answer.decode()}")
            host.joined(answer)

    await asyncio.gather(*(join(*one) for one in speakers))
    seen, begin = Seen(), time.monotonic()
    tasks = [
        asyncio.create_task(speak(*one, seen, begin + PERIOD_S * number / hosts))
        for number, one in enumerate(speakers)
    ]
    await until(lambda: all(host.running == cards for host, _ in speakers), begin + WARM_S)
    told = {host.name: host.answers for host, _ in speakers}
    await until(lambda: all(host.answers >= told[host.name] + CALM for host, _ in speakers), begin + WARM_S)
    seen.since = time.monotonic()
    seen.until = seen.since + seconds
    busy = sum(host.running for host, _ in speakers)
    used_s = sum(os.times()[:2])
    print(json.dumps({"busy": busy}), flush=True)
    await asyncio.gather(*tasks)
    return {
        "taken_s": sorted(seen.taken_s),
        "errors": dict(seen.errors),
        "asked_to_wait": seen.asked_to_wait,
        "skipped": seen.skipped,
        "generator_core": (sum(os.times()[:2]) - used_s) / seconds,
    }


def main() -> None:
    """Prints a line as it begins to measure, and one with what it saw."""
    parser = argparse.ArgumentParser()
    for name in ("url", "token"):
        parser.add_argument(name)
    for name in ("hosts", "cards", "seconds"):
        parser.add_argument(name, type=int)
    given = parser.parse_args()
    import uvloop  # half the cost of asyncio's own, which the server would lack

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(given.url, given.token, given.hosts, given.cards, given.seconds))))


if __name__ == "__main__":
    main()
