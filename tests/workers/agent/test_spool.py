"""The telemetry spool: nothing lost, nothing doubled, bounded."""

from __future__ import annotations

from pathlib import Path

from jobs.messages.reports import GpuSample
from workers.agent.spool import Spool


def samples(first: int, last: int) -> list[GpuSample]:
    return [
        GpuSample(uuid="a", ts=float(ts), memory_used_bytes=ts, process_memory={42: ts})
        for ts in range(first, last + 1)
    ]


def drain(spool: Spool) -> list[GpuSample]:
    found: list[GpuSample] = []
    while batch := spool.batch():
        found += batch
        spool.confirm()
    return found


def test_with_a_server_nothing_touches_the_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(samples(1, 3))
    assert spool.batch() == samples(1, 3)
    spool.put(samples(4, 4))  # taken while the report is under way
    spool.confirm()
    assert spool.batch() == samples(4, 4)
    assert list(tmp_path.iterdir()) == []


def test_an_unconfirmed_batch_comes_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(samples(1, 2))
    assert spool.batch() == spool.batch() == samples(1, 2)
    spool.spill()
    assert spool.batch() == samples(1, 2)


def test_an_absence_is_told_oldest_first_in_batches(tmp_path: Path) -> None:
    spool = Spool(tmp_path, batch=10)
    for ts in range(1, 36):
        spool.put(samples(ts, ts))
        spool.batch()
        spool.spill()
    spool.put(samples(36, 37))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"{n:012d}.jsonl" for n in range(1, 5)]
    assert spool.backlog()
    assert [sample.ts for sample in spool.batch()] == [float(ts) for ts in range(1, 11)]
    assert drain(spool) == samples(1, 37)
    assert list(tmp_path.iterdir()) == [] and not spool.backlog()


def test_another_agent_finds_what_was_spooled(tmp_path: Path) -> None:
    first = Spool(tmp_path, batch=10)
    first.put(samples(1, 25))
    first.spill()
    second = Spool(tmp_path, batch=10)
    second.put(samples(26, 27))
    second.spill()
    assert drain(second) == samples(1, 27)


def test_a_line_torn_by_a_crash_costs_itself_alone(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    first.put(samples(1, 5))
    first.spill()
    (segment,) = tmp_path.iterdir()
    segment.write_bytes(segment.read_bytes()[:-20])
    assert drain(Spool(tmp_path)) == samples(1, 4)


def test_over_the_limit_the_oldest_goes(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit_bytes=4000, batch=10)
    spool.put(samples(1, 500))
    spool.spill()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000
    kept = drain(spool)
    assert 10 <= len(kept) < 500
    assert kept == samples(500 - len(kept) + 1, 500), "the newest, without a gap"


def test_a_disk_that_takes_no_more_does_not_end_the_agent(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder, batch=2)
    folder.write_text("no folder")  # every write fails
    spool.put(samples(1, 50))
    spool.spill()
    folder.unlink()
    assert drain(spool) == samples(31, 50), "the newest ten batches stay in memory"
