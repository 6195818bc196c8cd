"""Trainers of the product on cards that are not there: what they measure, run out of, are refused and lose."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from jobs.memory.rung import Rung
from jobs.state import Outcome
from jobs.units import GiB, MiB
from tests.cuda_double.processes import REPOSITORY
from tests.cuda_double.trainers import Trainers
from workers.attempt_folder import AttemptFolder
from workers.cuda_double.environment import find
from workers.expandable_segments import refused

LONG = {"steps": 10_000, "checkpoint_steps": 5}


def test_a_job_is_measured_as_cuda_and_nvml_see_it(trainers: Trainers) -> None:
    trainer = trainers.start(method={"kind": "lora"}, training={"steps": 400})
    trainer.trains()
    _, samples = trainers.see()
    seen = samples[0]["process_memory"]
    assert seen.keys() == {str(trainer.pid)}, "its own process, on the card that it was given by uuid"
    trainer.folder.request_stop("cancelled")
    ended = trainer.end()
    assert ended.outcome is Outcome.CANCELLED and ended.expandable is True
    assert ended.allocated_bytes and ended.reserved_bytes and ended.device_bytes
    assert 60 * MiB < ended.allocated_bytes <= ended.reserved_bytes < ended.device_bytes - 300 * MiB
    assert abs(seen[str(trainer.pid)] - ended.device_bytes) < 64 * MiB
    assert [line.expandable for line in trainer.folder.progress()][-1] is True
    assert trainers.see()[1][0]["process_memory"] == {}, "all of it is given back"


def test_running_out_of_memory_is_told_with_its_figures(trainers: Trainers) -> None:
    """torch.OutOfMemoryError of its own allocator, on a card that is too small for the step."""
    trainer = trainers.start(
        card=1, rung=Rung(0, 64), training={"steps": 3, "global_batch": 64, "sequence_length": 256}
    )
    ended = trainer.end()
    assert ended.outcome is Outcome.OOM, trainer.log()
    assert ended.message.startswith(
        "memory ran out before the end of the first step on NVIDIA GeForce RTX 4090 with 1."
    )
    assert ": tried to allocate " in ended.message and "torch.OutOfMemoryError" in trainer.log()
    assert ended.device_bytes and ended.reserved_bytes and ended.device_bytes > 1000 * MiB


def test_a_job_goes_on_a_rung_down_from_its_checkpoint(trainers: Trainers) -> None:
    first = trainers.start(card=1, method="full", training=LONG)
    first.trains(step=7)
    first.folder.request_stop("preempted")
    stopped = first.end()
    assert stopped.outcome is Outcome.PREEMPTED and stopped.steps >= 7
    lower = Rung(1, 1, accumulation=4)
    again = trainers.start(
        card=1, rung=lower, attempt_of=first.folder.attempt_id, method="full", training=LONG
    )
    again.trains(step=stopped.steps + 2)
    again.folder.request_stop("cancelled")
    assert again.end().steps > stopped.steps
    resumed = again.folder.resumed()
    assert resumed is not None and resumed.step == stopped.steps


def test_two_on_one_card_are_held_to_their_shares(trainers: Trainers) -> None:
    """One wants more than its share of a card that has room for it; the other goes on."""
    modest = trainers.start(share=1 * GiB, training=LONG)
    modest.trains()
    greedy = trainers.start(
        share=900 * MiB, rung=Rung(0, 64), training={"global_batch": 64, "sequence_length": 256}
    )
    ended = greedy.end()
    assert ended.outcome is Outcome.OOM, greedy.log()
    assert "on NVIDIA GeForce RTX 4090 with a share of 900 MiB of 2" in ended.message
    assert ended.device_bytes is not None and ended.device_bytes <= 900 * MiB
    both = trainers.start(share=1 * GiB, training=LONG)
    both.trains()
    held = {int(pid): size for pid, size in trainers.see()[1][0]["process_memory"].items()}
    assert held.keys() == {modest.pid, both.pid} and max(held.values()) <= 1 * GiB
    for one in (modest, both):
        one.folder.request_stop("cancelled")
        assert one.end().device_bytes == pytest.approx(held[one.pid], abs=64 * MiB), (
            "of the card its own alone"
        )


def test_a_card_that_is_lost_in_training_is_no_fault_of_the_job(trainers: Trainers) -> None:
    trainer = trainers.start(card=2, training=LONG)
    trainer.trains(step=2)
    trainers.faults.write_text("lost card=2\n")
    ended = trainer.end()
    assert ended.outcome is Outcome.LOST, trainer.log()
    assert ended.message.startswith(f"NVIDIA H100 80GB HBM3 {trainers.cards[2].uuid} failed after step ")
    assert [info.uuid for info in trainers.see()[0]] == [card.uuid for card in trainers.cards[:2]]


def test_a_card_that_is_not_there_is_the_hosts_fault(trainers: Trainers) -> None:
    gone = trainers.cards[0].model_copy(update={"uuid": "GPU-00000000-0000-0000-0000-000000000000"})
    ended = trainers.start(card=gone).end()
    assert ended.outcome is Outcome.HOST_FAULT, ended.message
    assert ended.message.startswith("CUDA does not start on this host: ")


def test_a_card_whose_driver_refuses_segments_that_expand_trains_with_fixed_ones(trainers: Trainers) -> None:
    trainers.faults.write_text("fixed card=2\n")
    trainer = trainers.start(card=2, method={"kind": "lora"})
    ended = trainer.end()
    assert ended.outcome is Outcome.SUCCEEDED and ended.expandable is False, trainer.log()
    line = trainer.folder.progress()[0]
    assert line.expandable is False and line.note is not None
    assert line.note.startswith(
        "segments of torch's allocator can't expand on this card (CUDA driver error: "
    )
    assert "segments are fixed: the first step has the longest rows" in trainer.log()
    card = trainers.cards[2].uuid
    assert refused(trainers.home, card), "which the agent tells the server"
    trainers.faults.unlink()
    trainer = trainers.start(card=2, method={"kind": "lora"})
    assert trainer.end().expandable is True and "the longest rows" not in trainer.log()
    assert not refused(trainers.home, card), "until a trainer finds it otherwise"


def test_the_hosts_own_allocator_settings_win_and_are_reported(trainers: Trainers, tmp_path: Path) -> None:
    """In a process of its own: torch reads them when it is imported."""
    made = trainers.assignment(card=0, method={"kind": "lora"})
    path = tmp_path / "given.json"
    path.write_text(made.model_dump_json())
    command = [
        str(find().python),
        "-m",
        "workers.trainer.ray_actor",
        str(path),
        str(tmp_path / "home"),
        str(tmp_path / "out"),
    ]
    settings = {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**trainers.variables, **settings}, timeout=150, check=False
    )
    ended = AttemptFolder(tmp_path / "home", made.attempt_id).ended()
    assert done.returncode == 0 and ended is not None
    assert ended.outcome is Outcome.SUCCEEDED and ended.expandable is False
    assert not refused(tmp_path / "home", made.card.uuid), "nothing refused: it was asked for"


@pytest.mark.parametrize("method", ["full", {"kind": "qlora"}], ids=["full", "qlora"])
def test_ranks_train_as_one_over_nccl(trainers: Trainers, method: Any) -> None:
    """Two ranks of one host, each on its card, and one checkpoint of both."""
    training = {"steps": 6, "checkpoint_steps": 2}
    first = trainers.gang((0, 2), method=method, training=training)
    ends = [one.end() for one in first]
    outcomes = [trainer.folder.ended(rank) for rank, trainer in enumerate(first)]
    assert [one and one.outcome for one in outcomes] == [Outcome.SUCCEEDED] * 2, first[0].log()
    assert ends[0].steps == 6 and ends[0].allocated_bytes and ends[0].expandable is True
    lead, other = (one for one in outcomes if one is not None)
    # Each measures its own card: cuBLAS takes two workspaces of 32 MiB on Hopper, of 8 MiB before.
    assert other.allocated_bytes == pytest.approx((lead.allocated_bytes or 0) + 48 * MiB, abs=16 * MiB)
    assert lead.last_checkpoint is not None and (Path(lead.last_checkpoint) / "rng_state_1.pth").exists()


def test_ranks_whose_cards_have_unlike_segments_train_as_one(trainers: Trainers) -> None:
    """The driver of one rank's card refuses segments that expand: that rank alone has fixed ones."""
    trainers.faults.write_text("fixed card=2\n")
    ranks = trainers.gang((0, 2), method="full", training={"steps": 4})
    ends = [(one.end(), one.folder.ended(rank)) for rank, one in enumerate(ranks)]
    found = [own for _, own in ends]
    assert [one and one.outcome for one in found] == [Outcome.SUCCEEDED] * 2, ranks[0].log()
    assert [one and one.expandable for one in found] == [True, False]
    assert "the longest rows" in ranks[0].log(), (
        "one order for all ranks, or they would share out rows in two ways"
    )


def test_a_rank_whose_card_runs_out_ends_the_other_with_its_reason(trainers: Trainers) -> None:
    """The second rank's card has no room for what NCCL takes."""
    ranks = trainers.gang(
        (0, 1), rung=Rung(0, 32), training={"steps": 3, "global_batch": 64, "sequence_length": 256}
    )
    ended, _ = (one.end() for one in ranks)
    assert ended.outcome is Outcome.OOM, ranks[0].log()
    assert "rank 1: memory ran out" in ended.message and "NCCL found no memory for itself" in ended.message
