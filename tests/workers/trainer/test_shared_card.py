"""Several trainers on one card: each held to its share, each seen for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.cards import card_for
from jobs.messages.reports import GpuInfo
from jobs.state import Outcome
from jobs.units import GiB, MiB
from tests.stub_nvml import card_line, compile_stub, write_cards
from tests.workers.agents import IGNORES, REPOSITORY, Host
from tests.workers.builders import TINY, make_assignment
from tests.workers.fake_server import FakeServer
from workers.trainer.memory_meter import cuda_fraction

# 17 million weights: 64 MiB in float32, as much again for gradients, twice that for AdamW.
WIDE = {**TINY, "hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 2}
CARD = GpuInfo(uuid="cpu-alpha-1", index=1, kind="cpu", name="cpu", memory_bytes=2 * GiB)


def begin(
    host: Host, attempt_id: int, rows: Path, tokenizer: Path, share: int, **sections: Any
) -> subprocess.Popen[bytes]:
    """A real trainer, as a rank actor runs it, with `share` bytes of the card cpu-alpha-1."""
    made = make_assignment(rows, tokenizer, attempt_id=attempt_id, job_id=attempt_id, **sections)
    given = {"number": 1, "gpus": [CARD], "upper_bytes": share, "shared": True}
    path = host.home / f"given-{attempt_id}.json"
    path.write_text(made.model_copy(update=given).model_dump_json())
    command = [
        sys.executable,
        "-m",
        "workers.trainer.ray_actor",
        str(path),
        str(host.root),
        str(host.home / "out"),
    ]
    trainer = subprocess.Popen(
        command, cwd=REPOSITORY, env={**os.environ, "TUNEYARD_CPU_THREADS": "1"}, start_new_session=True
    )
    host.trainers.append(trainer)
    return trainer


def test_two_train_side_by_side_and_one_that_exceeds_its_share_ends_alone(
    server: FakeServer, host: Host, tokenizer: Path, rows: Path
) -> None:
    """The card has 2 GiB. One wants four times its share of it; the other goes on to its end."""
    for attempt_id in (1, 2):
        server.open_attempt(attempt_id, job_id=attempt_id)
    steps = {"steps": 40, "sequence_length": 32, "global_batch": 4}
    small = begin(host, 1, rows, tokenizer, 500 * MiB, training=steps)
    greedy = begin(host, 2, rows, tokenizer, 200 * MiB, model={"config": WIDE}, training=steps)
    both: set[int] = set()

    def over() -> bool:
        for sample in server.reports[-1].samples if server.reports else ():
            if sample.uuid == CARD.uuid:
                both.update(sample.process_memory or {})
        return server.ended.keys() == {1, 2}

    host.tick_until(over, 120)
    assert both == {small.pid, greedy.pid}, "both trainers of the card are told apart"
    assert server.ended[1].outcome is Outcome.SUCCEEDED, server.ended[1].message
    assert server.ended[2].outcome is Outcome.OOM, server.ended[2].message
    assert "a share of 200 MiB of 2.00 GiB" in server.ended[2].message
    assert (server.ended[2].device_bytes or 0) <= 210 * MiB


def test_a_neighbour_that_is_stopped_leaves_the_other_alone(server: FakeServer, host: Host) -> None:
    for attempt_id in (1, 2):
        server.open_attempt(attempt_id)
        host.train(attempt_id, IGNORES)
    host.tick_until(lambda: bool(server.reports) and sorted(server.reports[-1].running) == [1, 2])
    del server.open[2]
    host.tick_until(lambda: host.trainers[1].poll() is not None)
    assert host.trainers[0].poll() is None
    host.tick_until(lambda: server.reports[-1].running == [1])
    assert all(info.fault is None for info in server.reports[-1].gpus), "the card is free for others again"


def test_what_a_cpu_card_holds_is_counted_from_each_trainers_own_baseline(
    server: FakeServer, host: Host
) -> None:
    """IGNORES says a baseline of 0, so all that is resident counts: of both, not of one."""
    for attempt_id in (1, 2):
        server.open_attempt(attempt_id)
        host.train(attempt_id, IGNORES)
    host.tick_until(lambda: any(len(one.process_memory or {}) == 2 for one in server.samples.values()))
    sample = next(one for one in server.samples.values() if len(one.process_memory or {}) == 2)
    assert sample.memory_used_bytes == sum((sample.process_memory or {}).values())


@pytest.mark.parametrize(
    ("upper_gib", "fraction"),
    [(20.0, (20 - 600 / 1024) / 44), (0.1, 0.0), (100.0, 1.0)],
    ids=["its share less the context", "less than a context", "more than the card"],
)
def test_the_fraction_that_torch_is_held_to(upper_gib: float, fraction: float) -> None:
    card = GpuInfo(uuid="GPU-0", index=0, kind="cuda", name="NVIDIA L40S", memory_bytes=46068 * MiB)
    assert card_for(card.kind, card.name, card.memory_bytes).context_bytes == 600 * MiB
    assert cuda_fraction(card, round(upper_gib * GiB), 44 * GiB) == pytest.approx(fraction)


def test_shares_that_fill_a_card_leave_no_byte_promised_twice() -> None:
    card = GpuInfo(uuid="GPU-0", index=0, kind="cuda", name="NVIDIA L40S", memory_bytes=46068 * MiB)
    context = card_for(card.kind, card.name, card.memory_bytes).context_bytes
    shares = (20 * GiB, 16 * GiB, card.memory_bytes - 36 * GiB)
    held = [cuda_fraction(card, share, card.memory_bytes) * card.memory_bytes + context for share in shares]
    assert sum(held) == pytest.approx(card.memory_bytes)


def test_a_process_finds_what_it_holds_itself_of_a_shared_card(tmp_path: Path) -> None:
    """Through the real pynvml on the stub; None where the driver shows other process ids, as in a container."""
    library = compile_stub(tmp_path)
    state = tmp_path / "cards"
    write_cards(state, card_line("GPU-0", pids="4242:1048576,4243:2097152", used=5 * GiB))
    script = (
        "from workers.gpus import process_bytes as p; print(p('GPU-0', 4243), p('GPU-0', 1), p('GPU-9', 1))"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "CUDA_DOUBLE_READINGS": str(state)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(2 * MiB), "None", "None"], done.stderr
