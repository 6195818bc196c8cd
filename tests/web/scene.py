"""A small fleet at work, as the pages are shown and tested with: trains, waits, failed, is ill."""

from __future__ import annotations

import math
from typing import Any

from jobs.messages.reports import GpuInfo, GpuSample, HostReport
from jobs.state import Outcome
from jobs.units import GiB
from tests.api.scheduling.test_scheduling import FakeHost, end
from tests.profiles import small_profile
from tests.web.served import Served

HOSTS, CARDS = 4, 4
H100 = "NVIDIA H100 80GB HBM3"
LOG = "loading the model\n\x1b[32mtraining\x1b[0m begins\n" + "".join(
    f"step {step}: loss {1.2 + 1.6 * math.exp(-step / 80):.3f}\n" for step in range(1, 300)
)


class Fleet:
    """Hosts gpu-01 to gpu-04; job 1 succeeded, 2 failed, 3 trains, a sweep trains and waits."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.hosts = [
            FakeHost(
                served,
                *(self._card(host, index) for index in range(CARDS)),
                name=f"gpu-{host:02}",
                stack={"torch": "2.13.0", "cuda": "13.0", "driver": "610.1"},
            )
            for host in range(1, HOSTS + 1)
        ]
        self.running: dict[int, tuple[FakeHost, int, int]] = {}

    def _card(self, host: int, index: int) -> dict[str, Any]:
        ill = {"fault": "Xid 79: the GPU has fallen off the bus"} if (host, index) == (3, 2) else {}
        uuid = f"GPU-{host:02}{index}-4f2a"
        return {"uuid": uuid, "index": index, "kind": "cuda", "name": H100, "memory_bytes": 80 * GiB, **ill}

    def build(self) -> None:
        """All of it, from submissions to curves."""
        served = self.served
        self.sicken()
        training = {"sequence_length": 1024, "steps": 600, "global_batch": 16}
        served.submit(name="glossary", training=training)
        served.submit(name="too-fast", training={**training, "learning_rate": 0.1})
        self.start()
        self.end(1, Outcome.SUCCEEDED, device_bytes=18 * GiB, step_s=0.8, result="/out/glossary")
        self.end(2, Outcome.FAILED, message="RuntimeError: the learning rate is too high")
        served.submit(name="support-answers", training=training, priority=1)
        rates = {"training.learning_rate": [1e-4, 2e-4, 5e-4]}
        served.submit(name="rate", training=training, matrix=rates)
        served.submit(name="wide", training=training, resources={"gpus": 4})
        served.submit(name="wider", training=training, resources={"gpus": 4})
        self.start()
        served.submit(name="evaluation-night", training=training, resources={"gpus": 4}, priority=2)
        served.submit(name="patient", training=training, resources={"gpus": 4, "min_memory": "90GiB"})
        self.start()
        for number, job in enumerate(sorted(self.running)):
            self.train(job, 40 + 97 * (number + 1) % 260, slope=1 + 0.15 * number)
        self.read(0)

    def sicken(self) -> None:
        """What the first card told before: an error of its driver, memory errors, clocks held down by heat."""
        now, host = self.served.now, self.hosts[0]
        cards = [GpuInfo(**one) for one in host.cards]
        well = {"throttle": 0, "ecc_corrected": 3, "ecc_uncorrected": 0}
        told = {2600: {"xids": [63], "ecc_corrected": 3}, 1500: {"throttle": 0x40}, 1100: {"throttle": 0x40}}
        for ago in (2600, 1500, 1100, 1090, 1000):
            sample = GpuSample(uuid=cards[0].uuid, ts=now - ago, **{**well, **told.get(ago, {})})
            report = HostReport.model_construct(boot="b", sent=now - ago, gpus=cards, samples=[sample])
            self.served.services.store.record_reports([(host.id, report)], now - ago)

    def start(self) -> None:
        """Traces are answered, and the trainers that were started say that they run."""
        profile = small_profile(layers=32, weight_mib=15_000, layer_bytes_a_token=90_000, flops_a_token=1e9)
        for host in self.hosts:
            host.report()
        for host in self.hosts:
            host.trace(profile)
        self.served.tick()
        for attempt in self.served.services.store.open_attempts():
            if attempt.job_id in self.running:
                continue
            host = next(one for one in self.hosts if one.id == attempt.host_id)
            self.running[attempt.job_id] = (host, attempt.id, attempt.number)
            started = {"ts": self.served.now - 400, "pid": 1, "create_time": 1.0}
            self._tell(attempt.job_id, started=started, log=LOG)

    def _tell(self, job: int, **news: Any) -> None:
        host, attempt, number = self.running[job]
        host.report(attempts=[{"attempt_id": attempt, "number": number, **news}])

    def end(self, job: int, outcome: Outcome, **measured: Any) -> None:
        host, attempt, number = self.running.pop(job)
        (news,) = end(attempt, number, outcome, **measured)
        news["ended"]["ts"] = self.served.now
        news["started"]["ts"] = self.served.now - 300
        host.report(attempts=[news])
        self.served.tick()

    def train(self, job: int, until: int, begin: int = 1, slope: float = 1.0) -> None:
        """Steps of a job, of one second each up to now."""
        now = self.served.now
        lines = [
            {
                "ts": now - (until - step),
                "step": step,
                "total_steps": 600,
                "loss": 1.2 + 1.6 * math.exp(-step * slope / 80) + 0.05 * math.sin(step * 1.7),
                "learning_rate": 2e-4 * min(1, step / 30) * (1 - step / 700),
                "grad_norm": 0.4 + 2 * math.exp(-step / 40) + 0.1 * math.sin(step),
                "tokens": 16_384 * step,
                "tokens_per_s": 16_000 + 400 * math.sin(step / 9),
                "step_s": 1.0,
                "device_bytes": int((17.2 + min(step, 20) / 20) * GiB),
            }
            for step in range(begin, until + 1)
        ]
        tests = [
            {"ts": now - (until - step), "step": step, "loss": 1.35 + 1.5 * math.exp(-step * slope / 80)}
            for step in range(50, until + 1, 50)
            if step >= begin
        ]
        self._tell(job, progress=lines, evaluations=tests)

    def read(self, minute: int, used: int | None = None) -> None:
        """A reading of each card now, and of the last half hour. used: bytes of each, None: as they come."""
        now = self.served.now
        holds = {gpu.uuid: gpu.job_id for gpu in self.served.services.store.gpus()}
        for number, host in enumerate(self.hosts):
            rows = [
                self._sample(one["uuid"], holds[one["uuid"]], number * CARDS + index, now - ago, used)
                for index, one in enumerate(host.cards)
                for ago in range(1800 if minute == 0 else 0, -1, -10)
            ]
            host.report(samples=rows)

    def _sample(self, uuid: str, job: int | None, n: int, ts: float, used: int | None) -> dict[str, Any]:
        busy = job is not None
        wave = math.sin(ts / 60 + n)
        memory = int((18.2 + 0.6 * (n % 3) + 0.3 * wave) * GiB) if busy else GiB
        return {
            "uuid": uuid,
            "ts": ts,
            "memory_used_bytes": memory if used is None else used,
            "utilization": 0.62 + 0.08 * (n % 5) + 0.05 * wave if busy else 0.0,
            "power_w": 470 + 30 * (n % 6) + 25 * wave if busy else 82.0,
            "power_limit_w": 700.0,
            "temperature_c": 58.0 + n % 9 + 2 * wave if busy else 34.0,
            "sm_clock_mhz": 1755.0 if busy else 345.0,
            "memory_clock_mhz": 2619.0,
            "energy_j": 480.0 * (ts % 1e6),
        }
