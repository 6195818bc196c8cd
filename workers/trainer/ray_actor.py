"""The Ray actor that runs one rank of one attempt. It is warm before it is given work, and used once.

python -m workers.trainer.ray_actor ASSIGNMENT.json HOST_HOME OUTPUT_ROOT     runs an attempt in this process,
without Ray
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import ray

from jobs.messages.reports import Assignment
from jobs.state import Outcome
from workers.attempt_folder import AttemptFolder
from workers.checkpoints.ray_transport import reach
from workers.ports import free_port
from workers.trainer.entrypoint import before_imports, run_rank, warm

EXIT_S = 5.0
# An actor that is made ready while another trains takes a core for 8 s, and on a host whose cores all train each step
# took three times as long meanwhile (2 cores, OpenMP waits for its slowest thread). So it waits for a core to spare.
LOOK_S = 0.5
SPARE_CORES = 0.8


class Rank:
    """Methods of the group "control" answer while the others, one at a time, import or train."""

    def __init__(self) -> None:
        before_imports()
        self._lock = threading.Lock()
        self._warm = False
        self._adopted: Assignment | None = None
        self._wanted = threading.Event()  # an attempt is adopted, or this process is to end

    def warm(self, patient: bool = False) -> None:
        """Do the imports. patient: each part of them once a core is idle, or work has come."""
        warm(self._await_spare_core if patient else lambda: None)
        self._warm = True

    def _await_spare_core(self) -> None:
        while not self._wanted.is_set():
            before = idle_core_s()
            if self._wanted.wait(LOOK_S) or idle_core_s() - before >= SPARE_CORES * LOOK_S:
                return

    @ray.method(concurrency_group="control")
    def state(self) -> dict[str, Any]:
        """pid, whether the imports are done, and the attempt it works on."""
        attempt = self._adopted.attempt_id if self._adopted else None
        return {"pid": os.getpid(), "warm": self._warm, "attempt": attempt}

    @ray.method(concurrency_group="control")
    def free_port(self) -> int:
        """A TCP port that nobody on this host has now."""
        return free_port("")

    @ray.method(concurrency_group="control")
    def adopt(
        self, assignment_json: str, host_home: str, output_root: str, env: dict[str, str] | None = None
    ) -> bool:
        """Claim a rank of an attempt and begin; returns at once.

        False: another process has it, and this one ends; or this one works on something else.
        """
        assignment = Assignment.model_validate_json(assignment_json)
        with self._lock:
            if self._adopted is not None:
                mine = (self._adopted.key, self._adopted.rank)
                return mine == (assignment.key, assignment.rank)
            me = ray.get_runtime_context().current_actor
            if not AttemptFolder(host_home, assignment.attempt_id).claim(assignment):
                self._wanted.set()  # or it would first wait to be warm
                me.leave.remote()
                return False
            self._adopted = assignment
            self._wanted.set()
            me.run.remote(host_home, output_root, env or {})
            return True

    def run(self, host_home: str, output_root: str, env: dict[str, str]) -> None:
        """Train what was adopted; the process ends with it."""
        assert self._adopted is not None, "adopt comes first"
        try:
            run_rank(self._adopted, host_home, output_root, env, reach)
        finally:
            self.leave()

    def leave(self) -> None:
        """End this process, gently if Ray still answers."""
        timer = threading.Timer(EXIT_S, os._exit, (0,))
        timer.daemon = True
        timer.start()
        ray.actor.exit_actor()


def idle_core_s() -> float:
    """Seconds that the cores which this process may use were idle, all of them together, since boot."""
    usable = os.sched_getaffinity(0)
    return sum(core.idle for number, core in enumerate(psutil.cpu_times(percpu=True)) if number in usable)


def rank_actor() -> Any:
    """The actor class. It asks Ray for nothing: cards are ours to assign."""
    return ray.remote(num_cpus=0, max_restarts=0, concurrency_groups={"control": 2})(Rank)


def main() -> int:
    """Run the attempt of an assignment file; its output goes to the attempt's log. 0 if it succeeded."""
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    assignment = Assignment.model_validate_json(Path(sys.argv[1]).read_bytes())
    folder = AttemptFolder(sys.argv[2], assignment.attempt_id)
    if not folder.claim(assignment):
        print(f"attempt {assignment.attempt_id} is taken: see {folder.path}", file=sys.stderr)
        return 1
    ended = run_rank(assignment, sys.argv[2], sys.argv[3])
    return 0 if ended.outcome is Outcome.SUCCEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
