"""The whole product on cards that are not there: server, agent, NVML, Ray, TRL on `cuda`, through the command line."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.units import MiB
from orchestrator.store import Store
from tests.acceptance.conftest import Fleet, processes_of
from tests.cuda_double.processes import Process
from tests.cuda_double.trainers import WIDE
from tests.workers.agents import wait_until
from tests.workers.builders import answer, make_tokenizer, prompt_rows, question, write_rows
from workers.cuda_double.environment import find, variables

LONG = {"steps": 10_000, "checkpoint_steps": 5}
CARDS = "rtx4090:3GiB,a4000:2300MiB,rtx4090:3GiB"
FOREIGN = """
import torch
held = torch.empty({size}, dtype=torch.uint8, device="cuda:{card}")
answer(pid=os.getpid())
input()
"""


class CudaFleet(Fleet):
    """A fleet whose host has CUDA cards."""

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        command = [str(find().folder / "bin" / "tuneyard"), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)

    def up(self, *flags: str) -> subprocess.CompletedProcess[str]:
        return self.run("up", *flags)

    def gpus(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("gpus")["gpus"]
        return found

    @property
    def faults(self) -> Path:
        return Path(self.environment["CUDA_DOUBLE_FAULTS"])

    @contextmanager
    def foreign(self, card: int, size: int) -> Iterator[int]:
        """The pid of a process of somebody else that holds memory of a card."""
        environment = {name: value for name, value in self.environment.items() if name != "TUNEYARD_HOME"}
        process = Process(find().python, FOREIGN.format(size=size, card=card), environment)
        try:
            process.answer()
            yield process.popen.pid
        finally:
            process.kill()


def reached(step: int) -> Callable[[dict[str, Any]], bool]:
    """Whether a job's attempt that is open has done this step."""
    return lambda shown: bool(shown["progress"]) and shown["progress"]["step"] >= step


@pytest.fixture(scope="module")
def fleet(cuda_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CudaFleet]:
    inputs = tmp_path_factory.mktemp("inputs")
    make_tokenizer(inputs / "tokenizer")
    write_rows(inputs / "rows.jsonl", prompt_rows(64))
    made = variables(find(), CARDS, ledger=inputs / "ledger", faults=str(inputs / "faults"))
    with tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        fleet = CudaFleet(home, inputs, {**made, "TUNEYARD_HOME": folder})
        try:
            up = fleet.up("--port", "0")
            assert up.returncode == 0, up.stdout + up.stderr
            yield fleet
        finally:
            down = fleet.run("down")
            left = [" ".join(process.cmdline())[:100] for process in processes_of(home)]
            print((home / "server.log").read_text()[-3000:], (home / "host.log").read_text()[-3000:])
        assert down.returncode == 0, down.stdout + down.stderr
        assert not left, left


def test_a_job_goes_from_submit_to_its_result_beside_its_projection(fleet: CudaFleet) -> None:
    """QLoRA with the real bitsandbytes, on a trainer that was warm before its card was known."""
    job = fleet.submit("qlora", method={"kind": "qlora"}, training={"steps": 30})
    cards = {gpu["uuid"]: gpu for gpu in fleet.gpus()}
    names = sorted(gpu["name"] for gpu in cards.values())
    assert names == ["NVIDIA GeForce RTX 4090"] * 2 + ["NVIDIA RTX A4000"]
    shown = fleet.end(job)
    assert shown["state"] == "succeeded", fleet.logs(job)
    (attempt,) = shown["attempts_detail"]
    measured, projected = attempt["measured"], attempt["projection"]
    assert measured["allocated_bytes"] < measured["reserved_bytes"] < measured["device_bytes"]
    assert measured["device_bytes"] < projected["upper_bytes"]
    assert (Path(attempt["result"]) / "adapter_model.safetensors").is_file()
    (row,) = fleet.json("accuracy")["attempts"]
    assert row["expandable"] is True and row["measured"]["reserved_bytes"] == measured["reserved_bytes"]
    store = Store(f"sqlite:///{fleet.home / 'tuneyard.db'}")
    seen = store.samples(attempt["gpus"][0]["id"], attempt["opened_at"], attempt["ended_at"])
    store.close()
    assert max(one.memory_used_bytes or 0 for one in seen) > 500 * MiB, "NVML saw it on its card"


@pytest.mark.slow
def test_two_jobs_side_by_side_on_one_card_are_each_measured_alone(fleet: CudaFleet) -> None:
    wanted = {"gpus": 1, "card": "A4000", "share": True}
    jobs = [fleet.submit(f"shared-{n}", resources=wanted, training=LONG) for n in (1, 2)]
    for job in jobs:
        fleet.wait(job, reached(2))
    card = next(gpu for gpu in fleet.gpus() if gpu["name"].endswith("A4000"))
    trainers = {fleet.trainer(job).pid for job in jobs}
    store = Store(f"sqlite:///{fleet.home / 'tuneyard.db'}")
    sample = store.samples(card["id"], 0, time.time())[-1]
    store.close()
    held = {int(pid): size for pid, size in (sample.process_memory or {}).items()}
    assert held.keys() == trainers
    for job in jobs:
        fleet.run("cancel", str(job))
        (attempt,) = fleet.end(job)["attempts_detail"]
        size = attempt["measured"]["device_bytes"]
        assert size < attempt["projection"]["upper_bytes"]
        assert size == pytest.approx(max(held.values()), abs=64 * MiB), "its own of what is on the card"


@pytest.mark.slow
def test_memory_that_runs_out_takes_the_job_a_rung_down_from_its_checkpoint(fleet: CudaFleet) -> None:
    """Somebody's desktop takes what the projection counted on: the one long row of the data does not fit.

    Of its batch the loss works on the few tokens that are not padding, so the step takes its backward pass's 0.85 GB,
    half as much as projected. 500 MiB, and the context beside them, leave 0.81 GB, and are less than a card may lack.
    """
    rows = [{"prompt": question(i), "completion": answer(i) * (60 if i == 0 else 1)} for i in range(256)]
    write_rows(fleet.inputs / "uneven.jsonl", rows)
    with fleet.foreign(1, 500 * MiB):
        job = fleet.submit(
            "uneven",
            model=WIDE,
            data="./uneven.jsonl",
            resources={"gpus": 1, "card": "A4000"},
            method={"kind": "lora"},
            training={"steps": 16, "sequence_length": 256, "global_batch": 16, "checkpoint_steps": 1},
        )
        shown = fleet.end(job, timeout_s=240)
    first, *_, last = attempts = shown["attempts_detail"]
    assert first["outcome"] == "oom" and first["steps"] > 0, fleet.logs(job)
    assert "tried to allocate" in first["message"] and "beside" in first["message"]
    assert shown["state"] == "succeeded", [one["message"] for one in attempts]
    assert last["resumed"]["step"] >= first["steps"] and last["steps"] == 16
    assert last["projection"]["device_bytes"] < first["projection"]["device_bytes"]


@pytest.mark.slow
def test_a_job_whose_card_is_lost_goes_on_on_another(fleet: CudaFleet) -> None:
    job = fleet.submit("lost", resources={"gpus": 1, "card": "RTX 4090"}, training=LONG)
    shown = fleet.wait(job, reached(6))
    (lost,) = [gpu for gpu in fleet.gpus() if gpu["id"] == shown["attempts_detail"][-1]["gpus"][0]["id"]]
    fleet.faults.write_text(f"lost card={lost['index']}\n")
    try:
        shown = fleet.wait(job, lambda shown: len(shown["attempts_detail"]) == 2)
        assert "GPU is lost" in next(gpu for gpu in fleet.gpus() if gpu["id"] == lost["id"])["fault"]
        shown = fleet.wait(job, reached(7))
    finally:
        fleet.faults.unlink()
    first, second = shown["attempts_detail"]
    assert first["outcome"] == "lost" and f"{lost['uuid']} failed after step " in first["message"]
    assert second["gpus"][0]["id"] != lost["id"] and second["resumed"]["step"] > 0
    fleet.run("cancel", str(job))
    fleet.end(job)


@pytest.mark.slow
def test_a_card_that_somebody_else_fills_is_not_offered(fleet: CudaFleet) -> None:
    with fleet.foreign(1, 1200 * MiB) as pid:
        wanted = f"of it is in use by process {pid} (python), and by no trainer of tuneyard"
        wait_until(lambda: any(wanted in (gpu["fault"] or "") for gpu in fleet.gpus()), 60)
        job = fleet.submit("waits", resources={"gpus": 1, "card": "A4000"})
        shown = fleet.wait(job, lambda shown: shown["reason"]["code"] not in ("new", "profile_pending"))
        assert shown["state"] == "queued" and not shown["attempts_detail"], shown["reason"]
    assert fleet.end(job)["state"] == "succeeded", fleet.logs(job)
