"""The room on a host's disks, as its agent tells it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from jobs.units import MiB
from tests.workers.agents import Host, wait_until
from tests.workers.disks import mounted
from tests.workers.fake_server import FakeServer
from workers.agent.disks import Disks


def test_one_entry_a_disk_with_what_it_holds(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with mounted(tmp_path / "disk", 2 * MiB) as disk:
        disks = Disks({"checkpoints": home, "results": disk.path / "not" / "yet"}, every_s=0.0)
        wait_until(lambda: len(disks.latest()) == 2)
        checkpoints, results = disks.latest()
        assert (checkpoints.holds, checkpoints.path) == ("checkpoints", str(tmp_path))
        assert (results.holds, results.path, results.total_bytes) == ("results", str(disk.path), 2 * MiB)
        disk.fill()
        wait_until(lambda: disks.latest()[1].free_bytes == 0)
        same = Disks({"checkpoints": disk.path, "results": disk.path / "output"}, every_s=0.0)
        wait_until(lambda: bool(same.latest()))
        (one,) = same.latest()
        assert one.holds == "checkpoints and results"


def test_a_disk_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    answers = threading.Event()

    class Hangs(type(tmp_path)):  # type: ignore[misc]  # a folder on a network that is gone
        def exists(self, **options: Any) -> bool:
            answers.wait(60)
            return bool(super().exists(**options))

    disks = Disks({"results": Hangs(tmp_path)}, every_s=0.0)
    try:
        before = threading.active_count()
        for _ in range(20):
            assert disks.latest() == []
        assert threading.active_count() <= before + 1, "one look at a time"
    finally:
        answers.set()
    wait_until(lambda: bool(disks.latest()))


def test_the_agent_reports_them(server: FakeServer, host: Host) -> None:
    host.tick_until(lambda: any(report.disks for report in server.reports))
    told = next(report.disks for report in reversed(server.reports) if report.disks)
    assert {word for disk in told for word in disk.holds.split(" and ")} == {"checkpoints", "results"}
    assert all(0 <= disk.free_bytes <= disk.total_bytes for disk in told)
