"""A host agent whose ranks belong to an attempt that another host leads."""

from __future__ import annotations

from pathlib import Path

import psutil

from jobs.messages.reports import AttemptOffsets, StopOrder
from jobs.state import Outcome
from tests.workers.agents import DIES, IGNORES, SUCCEEDS, Host, wait_until
from tests.workers.builders import make_assignment
from tests.workers.fake_server import FakeServer
from workers.attempt_folder import log_path


class Second(Host):
    """The host of rank 2 of three, on cpu-alpha-1."""

    def claim(self, attempt_id: int, job_id: int = 1, number: int = 1, **sections: object) -> None:
        three = {"world_size": 3, "rank": 2, "training": {"global_batch": 3}}
        made = make_assignment(Path("/d"), Path("/t"), attempt_id=attempt_id, job_id=job_id, **three)  # type: ignore[arg-type]
        cards = [*made.gpus[:2], made.gpus[2].model_copy(update={"uuid": "cpu-alpha-1"})]
        where = {"hosts": ["lead", "lead", "alpha"], "host": "alpha", "number": number, "gpus": cards}
        assert self.folder(attempt_id).claim(made.model_copy(update=where))


def takes_part(server: FakeServer, attempt_id: int = 7) -> None:
    server.open[attempt_id] = AttemptOffsets(attempt_id=attempt_id, job_id=1, number=1, lead=False)


def test_only_the_end_of_its_ranks_is_told_and_the_log_stays(server: FakeServer, tmp_path: Path) -> None:
    host = Second(server, tmp_path / "home")
    try:
        takes_part(server)
        host.train(7, SUCCEEDS)
        host.tick_until(lambda: 7 in server.ended)
        assert server.ended[7].outcome is Outcome.SUCCEEDED
        told = [one for report in server.reports for one in report.attempts]
        assert told and not any(one.log or one.progress or one.started for one in told)
        server.open.clear()
        server.forget = [7]
        host.tick_until(lambda: not host.folder(7).path.exists())
        assert "step 5" in log_path(host.root, 1, 7).read_text()
    finally:
        host.close()


def test_a_rank_that_dies_is_named_by_its_number_over_all_hosts(server: FakeServer, tmp_path: Path) -> None:
    host = Second(server, tmp_path / "home")
    try:
        takes_part(server)
        trainer = host.train(7, DIES)
        trainer.wait()
        host.tick_until(lambda: 7 in server.ended)
        ended = server.ended[7]
        assert (ended.outcome, ended.rank, ended.echo) == (Outcome.LOST, 2, False)
        assert ended.message == f"the trainer process (pid {trainer.pid}) ended without an outcome"
        assert ended.last_checkpoint is None
    finally:
        host.close()


def test_what_is_ended_by_force_because_another_host_ended_is_no_cause(
    server: FakeServer, tmp_path: Path
) -> None:
    host = Second(server, tmp_path / "home")
    try:
        takes_part(server)
        trainer = host.train(7, IGNORES)
        server.stops = [StopOrder(attempt_id=7, reason="stale", grace_s=0.5)]
        host.tick_until(lambda: 7 in server.ended)
        assert server.ended[7].echo and server.ended[7].outcome is Outcome.LOST
        wait_until(lambda: not psutil.pid_exists(trainer.pid))
        assert not any(gpu.fault for gpu in server.reports[-1].gpus), "its card is free for others"
    finally:
        host.close()


def test_a_part_that_never_began_is_ended_too(server: FakeServer, tmp_path: Path) -> None:
    host = Host(server, tmp_path / "home")
    try:
        takes_part(server)
        server.stops = [StopOrder(attempt_id=7, reason="stale", grace_s=0.2)]
        host.tick_until(lambda: 7 in server.ended)
        assert server.ended[7].echo and "before a trainer started" in server.ended[7].message
        host.claim(7)
        assert not host.folder(7).assignment_path().exists(), "a late trainer must not begin"
    finally:
        host.close()


def test_its_folder_stays_until_the_attempt_has_ended_everywhere(server: FakeServer, tmp_path: Path) -> None:
    host = Host(server, tmp_path / "home")

    def some_reports_later() -> bool:
        takes_part(server)
        server.forget.clear()
        return len(server.reports) > 12

    try:
        takes_part(server)
        server.stops = [StopOrder(attempt_id=7, reason="stale", grace_s=0.0)]
        host.tick_until(some_reports_later)
        assert 7 in server.ended
        assert not [path.name for path in host.root.glob("aside/*")]
    finally:
        host.close()
