"""The server's database went back to a backup: what it knows goes on, what it does not is ended and set aside."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.identity import Aside, Owner, new_uuid
from jobs.messages.reports import StopOrder
from tests.workers.agents import IGNORES, OBEYS, SUCCEEDS, Host
from tests.workers.checkpoints.test_folders import stage
from tests.workers.fake_server import FakeServer
from workers.attempt_folder import checkpoints_root, noted_epoch
from workers.checkpoints.folders import publish_checkpoint
from workers.checkpoints.job_folder import take_job_folder

KNOWN, UNKNOWN = new_uuid(), new_uuid()


def aside(host: Host) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in host.root.glob("aside/*") if path.is_dir())


def left_by(host: Host, job_id: int, uuid: str) -> Path:
    owner = Owner(job_id=job_id, job_uuid=uuid, digest="d")
    root = take_job_folder(host.root, owner)
    return publish_checkpoint(stage(root), root, 3, owner.facts())


def test_what_the_backup_knows_trains_on_and_the_rest_is_ended(server: FakeServer, host: Host) -> None:
    server.open_attempt(7, uuid=KNOWN)
    server.open_attempt(8, uuid=UNKNOWN)
    known, unknown = host.train(7, OBEYS, KNOWN), host.train(8, IGNORES, UNKNOWN)
    host.tick_until(lambda: bool(server.progress.get(7)) and bool(server.progress.get(8)))
    server.restore(UNKNOWN)
    host.tick_until(lambda: "attempt-8" in aside(host))
    assert unknown.poll() is not None and known.poll() is None
    told = len(server.progress[7])
    host.tick_until(lambda: len(server.progress[7]) > told)
    assert 8 not in server.ended, "nothing of it is handed over"
    host.tick_until(lambda: noted_epoch(host.root) == server.epoch)
    (log,) = host.root.glob("aside/attempt-8-*/log.txt")
    assert "step 3" in log.read_text()


def test_an_outcome_that_the_backup_has_no_attempt_for_is_kept_beside(server: FakeServer, host: Host) -> None:
    host.tick_until(lambda: bool(server.reports))
    server.down()
    host.train(8, SUCCEEDS, UNKNOWN).wait()
    server.restore(UNKNOWN)
    server.up()
    host.tick_until(lambda: "attempt-8" in aside(host))
    (outcome,) = host.root.glob("aside/attempt-8-*/outcome.json")
    assert json.loads(outcome.read_text())["outcome"] == "succeeded"
    assert 8 not in server.ended


def test_the_id_of_a_trainer_that_runs_is_given_again(server: FakeServer, host: Host) -> None:
    server.open_attempt(8, uuid=UNKNOWN)
    old = host.train(8, IGNORES, UNKNOWN)
    host.tick_until(lambda: bool(server.progress.get(8)))
    server.progress.clear()
    server.logs.clear()
    server.restore(UNKNOWN)
    server.open_attempt(8, uuid=KNOWN)
    host.tick_until(lambda: "attempt-8" in aside(host))
    assert old.poll() is not None and not server.progress.get(8) and not server.logs.get(8)
    host.train(8, SUCCEEDS, KNOWN)
    host.tick_until(lambda: 8 in server.ended)
    assert server.ended[8].steps == 5 and sorted(server.progress[8]) == [1, 2, 3, 4, 5]


def test_folders_of_jobs_are_set_aside_where_the_backup_has_none_or_another(
    server: FakeServer, host: Host
) -> None:
    left_by(host, 3, KNOWN)
    left_by(host, 4, UNKNOWN)
    host.tick_until(lambda: bool(server.reports))
    server.restore(UNKNOWN)
    server.drop = {4}
    host.tick_until(lambda: "job-4" in aside(host))
    assert checkpoints_root(host.root, 3).is_dir()
    (weights,) = host.root.glob("aside/job-4-*/checkpoints/*/weights")
    assert weights.read_bytes() == b"x" * 1000, "not removed, though job 4 of today has ended"


def test_telemetry_of_before_is_not_handed_over(server: FakeServer, host: Host) -> None:
    host.tick_until(lambda: bool(server.samples))
    server.down()
    host.tick_until(lambda: any(host.root.glob("spool/*.jsonl")))
    last = max(ts for _, ts in server.samples)
    waiting = [
        json.loads(line)["ts"]
        for path in host.root.glob("spool/*.jsonl")
        for line in path.read_text().splitlines()
    ]
    server.restore()
    server.up()
    host.tick_until(lambda: "spool" in aside(host))
    host.tick_until(lambda: max(ts for _, ts in server.samples) > max(waiting))
    assert not {ts for _, ts in server.samples} & {ts for ts in waiting if ts > last}


def test_what_was_set_aside_is_told_until_it_is_gone(server: FakeServer, host: Host) -> None:
    left_by(host, 4, UNKNOWN)
    server.restore(UNKNOWN)

    def told_of_4() -> list[Aside]:
        return [one for report in server.reports for one in report.aside or () if one.job_id == 4]

    host.tick_until(lambda: bool(told_of_4()))
    assert UNKNOWN[:12] in told_of_4()[0].text
    count = len(server.reports)
    host.tick_until(lambda: len(server.reports) > count + 3)
    assert all(report.aside is None for report in server.reports[count + 1 :]), "once is enough"
    host.root.joinpath("aside").rename(host.home / "looked-at")
    host.tick_until(lambda: server.reports[-1].aside == [])


def test_a_stop_of_another_attempt_by_its_id_ends_nothing(server: FakeServer, host: Host) -> None:
    server.open_attempt(7, uuid=KNOWN)
    trainer = host.train(7, OBEYS, KNOWN)
    server.stops.append(StopOrder(attempt_id=7, uuid=UNKNOWN, reason="cancelled"))
    count = len(server.reports)
    host.tick_until(lambda: len(server.reports) > count + 3)
    assert trainer.poll() is None and host.folder(7).stop_requested() is None


def test_an_answer_of_another_epoch_is_not_obeyed_and_the_host_joins_anew(
    server: FakeServer, host: Host
) -> None:
    server.open_attempt(7, uuid=KNOWN)
    trainer = host.train(7, OBEYS, KNOWN)
    host.tick_until(lambda: bool(server.progress.get(7)))
    joins, server.answers_of = len(server.joins), server.epoch + 1
    server.stops.append(StopOrder(attempt_id=7, uuid=KNOWN, reason="cancelled"))
    host.tick_until(lambda: len(server.joins) > joins + 1)
    assert trainer.poll() is None and host.folder(7).stop_requested() is None
    server.answers_of = None
    host.tick_until(lambda: 7 in server.ended)
