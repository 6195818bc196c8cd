"""One fault at one phase: a job is brought there, the fault happens, and the job is followed to its end."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from benchmarks.chaos.faults import Fault
from benchmarks.chaos.fleet import EVERY, JOB_S, STEPS, Fleet, await_that

ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class Seen:
    """What came of it. None of the four counts may be more than 0.

    difference: of the result's weights from those of a job that nothing disturbed, the largest; repeated: steps that
    were trained twice; took_s: from submit to the end.
    """

    fault: str
    phase: str
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    ended: int = 0
    repeated: int = 0
    noticed_s: float | None = None
    took_s: float = 0.0
    difference: float | None = None
    said: list[str] = field(default_factory=list)

    def well(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.ended)


class Watch:
    """Counts the trainers of a job as long as it lasts: two that live are one too many."""

    def __init__(self, fleet: Fleet, job: int) -> None:
        self.most = 0
        self._fleet, self._job, self._over = fleet, job, threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self.most = max(self.most, len(self._fleet.trainers(self._job)))

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def undisturbed(fleet: Fleet, path: Path) -> Path:
    """The result of the same job, left alone."""
    job = fleet.json("submit", str(path))["jobs"][0]["id"]
    shown = _followed(fleet, job, JOB_S)
    if shown is None or shown["state"] != "succeeded":
        raise RuntimeError(f"the undisturbed job did not succeed: {json.dumps(shown)}")
    return Path(shown["attempts_detail"][-1]["result"])


def run(fleet: Fleet, fault: Fault, phase: str, path: Path, reference: Path) -> Seen:
    """Bring the fault about at that phase, and judge what came of it."""
    seen, began = Seen(fault.name, phase), time.monotonic()
    fleet.ready()
    job = fleet.json("submit", str(path))["jobs"][0]["id"]
    watch = Watch(fleet, job)
    try:
        await_that(lambda: fleet.at(job, phase), JOB_S, f"job that is {phase}", 0.002)
        uuid = fleet.uuid(job)
        seen.noticed_s = fault.do(fleet, job)
        shown = _followed(fleet, job, JOB_S)
    finally:
        watch.close()
    seen.took_s = time.monotonic() - began
    seen.doubled = int(watch.most > 1)
    if seen.doubled:
        seen.said.append(f"{watch.most} trainers at once")
    _judge(seen, fault, shown, uuid, reference)
    return seen


def _followed(fleet: Fleet, job: int, within_s: float) -> dict[str, Any] | None:
    """The job once it has ended; None: it is gone, or did not end."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            shown: dict[str, Any] = fleet.json("show", str(job), patience_s=60.0)
        except RuntimeError:
            return None
        if shown["state"] in ENDED:
            return shown
        time.sleep(2.0)
    return None


def _judge(seen: Seen, fault: Fault, shown: dict[str, Any] | None, uuid: str, reference: Path) -> None:
    if shown is None or shown["state"] != "succeeded":
        seen.lost = 1
        seen.said.append("gone, or never ended" if shown is None else f"{shown['state']}: {shown['reason']}")
        return
    attempts = shown["attempts_detail"]
    unhappy = [one["outcome"] for one in attempts if one["outcome"] not in ("succeeded", "not_started")]
    seen.ended = max(0, len(unhappy) - fault.ends)
    seen.said += [str(outcome) for outcome in unhappy]
    for earlier, later in pairwise(attempts):
        done, on = earlier["steps"] or 0, (later.get("resumed") or {}).get("step") or 0
        seen.repeated += max(0, done - on)
        if done - on > EVERY:  # more than the steps since the last checkpoint
            seen.wrong = 1
            seen.said.append(f"attempt {later['number']} went on from step {on} after {done}")
    result = Path(attempts[-1]["result"])
    manifest = json.loads((result / "manifest.json").read_text())
    if attempts[-1]["steps"] != STEPS or manifest["job_uuid"] != uuid:
        seen.wrong = 1
        seen.said.append(f"step {attempts[-1]['steps']} of {STEPS}, made by {manifest.get('job_uuid')}")
    seen.difference = _difference(result, reference)
    if seen.difference:  # steps that were left out or trained twice, or another job's weights
        seen.wrong = 1
        seen.said.append(f"weights differ by {seen.difference:.1g}")


def _difference(result: Path, reference: Path) -> float:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (result, reference))
    return max(float(abs(ours[name] - theirs[name]).max()) for name in theirs)
