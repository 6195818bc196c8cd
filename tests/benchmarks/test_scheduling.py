"""The scheduling benchmark's own parts: its reference agrees with the simulator, its stored profiles can be read."""

from __future__ import annotations

import pytest

from benchmarks.scheduling.kinds import KINDS, kinds, spec_of
from benchmarks.scheduling.memory import CARDS, WAYS
from benchmarks.scheduling.reference import Nodes, clusters, strict, tiresias
from benchmarks.scheduling.tables import Check
from benchmarks.scheduling.venus import Strict, fewer
from jobs.cards import find_card
from jobs.memory.ladder import Choice, choose
from orchestrator.simulate.engine import simulate
from orchestrator.simulate.fleet_file import read_clusters
from orchestrator.simulate.generate import Wish, generate
from orchestrator.simulate.trace import TraceJob

FLEET = read_clusters("vc,nodes,gpus\na,4,32\nb,2,16\n", "vc.csv")
NODES = {"a": 4, "b": 2}


def trace(count: int = 150) -> list[TraceJob]:
    return generate(Wish(jobs=count, load=1.5, seed=11, users=6, longest_s=20_000), 48, FLEET.pools)


@pytest.mark.parametrize("policy", ["fifo", "shortest"])
def test_strict_policies_end_every_job_when_the_simulation_apart_does(policy: str):
    jobs = trace()
    apart = clusters(jobs, NODES, strict(lambda job: job.submit_s if policy == "fifo" else job.duration_s))
    ours = simulate(jobs, FLEET.hosts, Strict(policy=policy), known="told")
    assert [one.end_s for one in ours] == [one.end_s for one in apart]
    assert max(one.waited_s for one in apart) > 0


def test_tiresias_by_hand():
    # The first holds all 8 GPUs beyond 18,000 GPU-s (2,250 s); the second, in the first queue then, takes them.
    first, second = TraceJob(1, 0.0, 5_000.0, 8), TraceJob(2, 60.0, 120.0, 8)
    one, other = tiresias([first, second], Nodes([8]))
    assert (other.first_start_s, other.end_s) == (2_280.0, 2_400.0)
    assert one.preemptions == 1
    assert one.end_s == 5_000.0 + 120.0 + 40.0


def test_placement_of_the_papers():
    nodes = Nodes([8, 5, 8])
    assert nodes.place(4) == [(1, 4)]  # the fullest that has room
    assert nodes.place(12) == [(0, 8), (2, 4)]
    assert nodes.place(16) is None
    nodes.give_back([(0, 8), (2, 4)])
    assert nodes.place(16) == [(0, 8), (2, 8)]


def test_fewer_nodes_are_taken_from_every_pool_alike():
    small = fewer(FLEET, 3)
    assert small.pools == {"a": 16, "b": 8}
    assert fewer(FLEET, 6).hosts == FLEET.hosts


def test_stored_profiles_can_be_read_and_fit_a_card():
    found = kinds()
    assert [(kind.shape, kind.method) for kind in found] == list(KINDS)
    largest = find_card(CARDS[-1])
    for kind in found:
        spec = spec_of(kind.shape, kind.method, 1024, 8)
        assert isinstance(choose(kind.profile, spec, largest), Choice), (kind.shape, kind.method)


def test_never_checkpointing_needs_a_larger_card_than_the_ladder():
    kind = next(kind for kind in kinds() if (kind.shape, kind.method) == ("8B", "lora"))
    small = find_card("rtx4090")
    fits = {
        way: isinstance(choose(kind.profile, spec_of("8B", "lora", 4096, 8, 1, memory), small), Choice)
        for way, memory in WAYS.items()
    }
    assert fits == {"auto": True, "always": True, "never": False}


def test_a_goal():
    assert Check("1", "mean", 10.0, 10.0).met and not Check("1", "mean", 10.1, 10.0).met
    assert Check("5", "fair", 0.5, 0.4, least=True).met and not Check("5", "fair", 0.3, 0.4, least=True).met
