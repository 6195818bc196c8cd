"""Published policies under the published rules, simulated apart from tuneyard: what its results stand beside.

Strict FIFO and SJF, and Tiresias as the Lucid artifact has it (ASPLOS'23): two queues, apart at 18,000 GPU-s attained,
FIFO in each, decided every 60 s, 40 s lost at a preemption (60 s above a node). Placement: up to 8 GPUs on the fullest
node that has them, more on whole free nodes with the remainder on one more. Each virtual cluster by itself.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.simulate.trace import Ran, TraceJob

NODE = 8  # GPUs
LEVEL_GPU_S = 18_000.0
ROUND_S = 60.0


@dataclass
class Nodes:
    """Free GPUs of each node of one virtual cluster."""

    free: list[int]

    def place(self, gpus: int) -> list[tuple[int, int]] | None:
        """(node, GPUs) pairs, taken; None where there is no room of that shape."""
        whole, rest = (0, gpus) if gpus <= NODE else divmod(gpus, NODE)
        empty = [node for node, free in enumerate(self.free) if free == NODE]
        if len(empty) < whole:
            return None
        taken = [(node, NODE) for node in empty[:whole]]
        if rest:
            used = {node for node, _ in taken}
            fitting = [
                (free, node) for node, free in enumerate(self.free) if free >= rest and node not in used
            ]
            if not fitting:
                return None
            # A remainder goes to the emptiest node, a small job to the fullest.
            _, node = max(fitting, key=lambda pair: (pair[0], -pair[1])) if whole else min(fitting)
            taken.append((node, rest))
        for node, count in taken:
            self.free[node] -= count
        return taken

    def give_back(self, taken: Sequence[tuple[int, int]]) -> None:
        for node, count in taken:
            self.free[node] += count


def clusters(jobs: Sequence[TraceJob], nodes: dict[str, int], run: Callable[..., list[Ran]]) -> list[Ran]:
    """Every virtual cluster by itself; in the order of the jobs. nodes: of each."""
    found: dict[int, Ran] = {}
    for pool, count in nodes.items():
        mine = [job for job in jobs if job.pool == pool]
        found |= {ran.job.job_id: ran for ran in run(mine, Nodes([NODE] * count))}
    return [found[job.job_id] for job in jobs]


def strict(key: Callable[[TraceJob], float]) -> Callable[[Sequence[TraceJob], Nodes], list[Ran]]:
    """A policy that starts the first of its queue or nobody. key: of the order; equal ones in that of the trace."""

    def run(jobs: Sequence[TraceJob], nodes: Nodes) -> list[Ran]:
        queue: list[tuple[float, int, Ran]] = []
        ends: list[tuple[float, int, list[tuple[int, int]]]] = []
        ran = [Ran(job) for job in jobs]
        coming = 0
        while coming < len(ran) or queue:
            times = [ends[0][0]] if ends else []
            times += [ran[coming].job.submit_s] if coming < len(ran) else []
            now = min(times)
            while ends and ends[0][0] <= now:
                nodes.give_back(heapq.heappop(ends)[2])
            while coming < len(ran) and ran[coming].job.submit_s <= now:
                heapq.heappush(queue, (key(ran[coming].job), coming, ran[coming]))
                coming += 1
            while queue and (taken := nodes.place(queue[0][2].job.gpus)) is not None:
                _, number, one = heapq.heappop(queue)
                one.first_start_s, one.end_s = now, now + one.job.duration_s
                one.waited_s = now - one.job.submit_s
                one.gpu_s = one.job.gpus * one.job.duration_s
                heapq.heappush(ends, (one.end_s, number, taken))
        return ran

    return run


@dataclass
class _Job:
    ran: Ran
    left_s: float
    queued_s: float
    attained_gpu_s: float = 0.0
    since_s: float = 0.0
    taken: list[tuple[int, int]] | None = None
    preempted: int = 0
    number: int = 0

    def attained(self, now: float) -> float:
        held = (now - self.since_s) * self.ran.job.gpus if self.taken is not None else 0.0
        return self.attained_gpu_s + held


def tiresias(jobs: Sequence[TraceJob], nodes: Nodes) -> list[Ran]:
    """Tiresias on one virtual cluster."""
    total = sum(nodes.free)
    ran = [Ran(job) for job in jobs]
    waiting_to_come = [_Job(one, one.job.duration_s, one.job.submit_s, number=i) for i, one in enumerate(ran)]
    here: list[_Job] = []
    coming, now = 0, 0.0
    while coming < len(ran) or here:
        if not here:
            now = max(now, math.ceil(waiting_to_come[coming].ran.job.submit_s / ROUND_S) * ROUND_S)
        here = _ended(here, nodes, now)
        while coming < len(ran) and ran[coming].job.submit_s <= now:
            here.append(waiting_to_come[coming])
            coming += 1
        _round(here, nodes, total, now)
        now += ROUND_S
    return ran


def _ended(here: list[_Job], nodes: Nodes, now: float) -> list[_Job]:
    """Those that go on; the others' GPUs are given back."""
    kept = []
    for job in here:
        if job.taken is not None and job.since_s + job.left_s <= now:
            nodes.give_back(job.taken)
            job.ran.end_s = job.since_s + job.left_s
            job.ran.gpu_s += job.left_s * job.ran.job.gpus
        else:
            kept.append(job)
    return kept


def _round(here: list[_Job], nodes: Nodes, total: int, now: float) -> None:
    """Who runs until the next round: by queue, then first come; GPUs are counted first, and looked for after."""
    wanted: list[_Job] = []
    dropped: list[_Job] = []
    quota = total
    for job in sorted(
        here, key=lambda job: (job.attained(now) > LEVEL_GPU_S, job.ran.job.submit_s, job.number)
    ):
        if job.ran.job.gpus <= quota:
            quota -= job.ran.job.gpus
            if job.taken is None:
                wanted.append(job)
        elif job.taken is not None:
            dropped.append(job)
    for job in dropped:
        assert job.taken is not None
        nodes.give_back(job.taken)
        job.attained_gpu_s = job.attained(now)
        ran_s = now - job.since_s
        job.ran.gpu_s += ran_s * job.ran.job.gpus
        job.left_s += (40.0 if job.ran.job.gpus <= NODE else 60.0) - ran_s
        job.taken, job.queued_s = None, now
        job.ran.preemptions += 1
    for job in wanted:
        job.taken = nodes.place(job.ran.job.gpus)
        if job.taken is not None:
            job.since_s = now
            job.ran.waited_s += now - job.queued_s
            if job.ran.first_start_s is None:
                job.ran.first_start_s = now
