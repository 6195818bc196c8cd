"""What an attempt goes on from when its job was on another host before: a real trainer, hosts that are folders."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from jobs.messages.reports import Ended, Kept
from jobs.state import Outcome
from tests.workers.builders import claimed, make_assignment
from tests.workers.checkpoints.test_folders import stage
from tests.workers.checkpoints.test_transfer import Clock, Network
from tests.workers.trainer.test_entrypoint import start
from tests.workers.trainer.test_rendezvous import homes, span
from tests.workers.trainer.test_stops import StopsAfter, losses, run
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints.folders import (
    clear_leftovers,
    latest_good,
    listed,
    name_of,
    publish_checkpoint,
    staging_folder,
)
from workers.trainer.callbacks import Figures
from workers.trainer.memory_meter import Meter
from workers.trainer.ranks.rendezvous import Others
from workers.trainer.saving.resume import checkpoint_of
from workers.trainer.train import Stopped, train

pytestmark = pytest.mark.timeout(400)


def attempt(rows: Path, tokenizer: Path, number: int, *kept: Kept, **more: Any) -> Any:
    training = {"steps": 8, **more.pop("training", {})}
    made = make_assignment(rows, tokenizer, attempt_id=number, training=training, **more)
    return made.model_copy(update={"kept": list(kept)})


def preempted_on(home: Path, rows: Path, tokenizer: Path) -> Path:
    """Job 1 was stopped on this host after step 4; the checkpoint."""
    ended = run(home, StopsAfter(home, 1, step=3, reason="preempted"), attempt(rows, tokenizer, 1))
    assert (ended.outcome, ended.steps) == (Outcome.PREEMPTED, 4)
    assert ended.last_checkpoint is not None
    return Path(ended.last_checkpoint)


def go_on(home: Path, assignment: Any, network: Network | None) -> Ended:
    folder = claimed(home, assignment)
    reach = network and network.reach
    return train(assignment, folder, home, home / "out", line_every_s=0.0, reach=reach)


def test_it_goes_on_at_the_step_it_had_as_if_it_had_not_left(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    a, b = homes(tmp_path)
    whole = attempt(rows, tokenizer, 9, job_id=9)
    run(tmp_path, AttemptFolder(tmp_path, 9), whole)
    left = preempted_on(a, rows, tokenizer)
    network = Network({"a": a}, Clock(), piece=1 << 20)
    ended = go_on(b, attempt(rows, tokenizer, 2, Kept(host="a", home=str(a), step=4)), network)
    assert (ended.outcome, ended.steps) == (Outcome.SUCCEEDED, 8)
    folder = AttemptFolder(b, 2)
    assert sorted(losses(folder)) == [5, 6, 7, 8]
    before = losses(AttemptFolder(a, 1))
    assert before | losses(folder) == pytest.approx(losses(AttemptFolder(tmp_path, 9)), rel=1e-5)
    resumed = folder.resumed()
    assert resumed is not None and resumed.step == 4
    root = checkpoints_root(b, 1)
    assert [step for _, step in listed(root)] == [4, 8]
    carried = {path.name: path.read_bytes() for path in (root / name_of(4)).iterdir()}
    assert carried == {path.name: path.read_bytes() for path in left.iterdir()}
    last = root / name_of(8)
    size = sum(path.stat().st_size for path in last.rglob("*") if path.name != "manifest.json")
    assert ended.last_checkpoint == str(last) and ended.checkpoint_bytes == size
    assert not list(root.glob(".*")), "leftovers"
    assert latest_good(checkpoints_root(a, 1)) is not None, "the host that it left keeps its own meanwhile"


def test_what_can_not_be_had_is_done_again(
    tmp_path: Path, tokenizer: Path, rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, b = homes(tmp_path)
    away = Kept(host="a", home="/a", step=4, away=True)
    ended = go_on(b, attempt(rows, tokenizer, 2, away), Network({}, Clock()))
    assert (ended.outcome, ended.steps) == (Outcome.SUCCEEDED, 8)
    assert AttemptFolder(b, 2).progress()[0].step == 1
    assert "the checkpoint of step 4 can't be had, so this attempt goes on from step 0" in caplog.text


def test_a_trainer_without_ray_says_that_it_can_fetch_nothing(
    tmp_path: Path, tokenizer: Path, rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, b = homes(tmp_path)
    kept = [Kept(host="a", home="/a", step=4)]
    assert go_on(b, attempt(rows, tokenizer, 2, *kept), None).outcome is Outcome.SUCCEEDED
    assert "there is no way to the checkpoints on a: this trainer runs without Ray" in caplog.text


def test_a_stop_while_it_fetches_ends_it_before_the_first_step(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    a, b = homes(tmp_path)
    preempted_on(a, rows, tokenizer)
    network = Network({"a": a}, Clock(), piece=1000)
    assignment = attempt(rows, tokenizer, 2, Kept(host="a", home=str(a), step=4))
    folder = claimed(b, assignment)
    network.at_piece = {5: lambda: folder.request_stop("preempted")}
    figures = Figures(Meter(assignment.card))
    with pytest.raises(Stopped, match="preempted before the first step"):
        train(assignment, folder, b, b / "out", figures, reach=network.reach)
    assert len(network.sent) == 5 and listed(checkpoints_root(b, 1)) == []
    assert figures.ended(ts=0.0, outcome=Outcome.PREEMPTED).last_checkpoint is None


def test_all_ranks_of_a_host_go_on_from_what_rank_0_found(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    """Should a rank look by itself, it might look before the checkpoint is there."""
    training = {"steps": 4, "checkpoint_steps": 2}
    pair = [attempt(rows, tokenizer, 1, rank=rank, world_size=2, training=training) for rank in (0, 1)]
    pair = with_port(pair)
    trainers = [start(one, tmp_path) for one in pair]
    assert [trainer.wait(timeout=180) for trainer in trainers] == [0, 0], log(tmp_path, 1)
    first = AttemptFolder(tmp_path, 1).resumed()
    assert first is not None and first.step is None
    shutil.rmtree(tmp_path / "out")
    training["steps"] = 6
    pair = [attempt(rows, tokenizer, 2, rank=rank, world_size=2, training=training) for rank in (0, 1)]
    trainers = [start(one, tmp_path) for one in with_port(pair)]
    assert [trainer.wait(timeout=180) for trainer in trainers] == [0, 0], log(tmp_path, 2)
    second = AttemptFolder(tmp_path, 2).resumed()
    assert second is not None and second.step == 4
    assert log(tmp_path, 2).count("resuming after step 4") == 2


class OtherRanks(Others):
    """The ranks on other hosts, as rank 0 sees them: remembers what they were handed."""

    def __init__(self) -> None:
        self.handed: list[tuple[Path, int] | None] = []

    def checkpoint(self, root: Path, found: tuple[Path, int] | None) -> tuple[Path, int] | None:
        self.handed.append(found)
        return found


def test_the_lead_of_a_gang_over_several_hosts_hands_on_what_it_fetched(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    a, b = homes(tmp_path)
    publish_checkpoint(stage(checkpoints_root(a, 1)), checkpoints_root(a, 1), 4)
    lead, _ = span(rows, tokenizer, attempt_id=2)
    lead = lead.model_copy(update={"kept": [Kept(host="a", home=str(a), step=4)]})
    folder, root, others = claimed(b, lead), checkpoints_root(b, 1), OtherRanks()
    clear_leftovers(root, 2)
    reach = Network({"a": a}, Clock()).reach
    found = checkpoint_of(lead, folder, root, staging_folder(root, 2), lambda: None, reach, others)
    assert found == (root / name_of(4), 4) and others.handed == [found]


def with_port(pair: list[Any]) -> list[Any]:
    """They meet at a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [one.model_copy(update={"master_port": port}) for one in pair]


def log(home: Path, attempt_id: int) -> str:
    return AttemptFolder(home, attempt_id).read_log().decode()
