"""What projects and users used, in a simulation: as a server counts it."""

from __future__ import annotations

import pytest

from orchestrator.scheduler.policy import Rules
from orchestrator.scheduler.usage import HALF_LIFE_S
from orchestrator.simulate.engine import simulate
from orchestrator.simulate.fleet_file import read_fleet
from orchestrator.simulate.usage import SETTLE_S, Usage
from tests.simulate.test_engine import cluster, job

ADA = ("default", "ada")
DAY_S = 86400.0


def test_what_runs_counts_and_what_ended_fades():
    usage = Usage.of(cluster(1, 2))
    first, second = usage.weights
    usage.begins(1, ADA, (first, second), 0.0)
    assert usage.look(SETTLE_S)[ADA] == 2 * SETTLE_S
    usage.ends(1, SETTLE_S + 100)
    usage.begins(2, ("default", "bob"), (first,), SETTLE_S + 100)
    assert usage.look(SETTLE_S + 100)[ADA] == 2 * (SETTLE_S + 100)
    later = usage.look(SETTLE_S + HALF_LIFE_S)
    assert later[ADA] == pytest.approx(SETTLE_S + 100, rel=1e-3)
    assert later["default", "bob"] == pytest.approx(HALF_LIFE_S - 100)


def test_a_second_counts_by_the_price_of_the_card():
    fleet = read_fleet(
        "hosts: [{card: h100}, {card: rtx4090}, {card: l4}]\nprices: {h100: 2.5, rtx4090: 0.5}", "f"
    )
    usage = Usage.of(fleet.hosts)
    assert [usage.weights[host.gpus[0].id] for host in fleet.hosts] == [5.0, 1.0, 1.0]


def test_who_used_much_long_ago_goes_before_who_used_less_lately():
    """Ada had 20 hours, two weeks later bob has 15; ada's are worth five by then, so hers is the next."""
    hour = 3600.0
    jobs = [
        job(1, 0, 20 * hour, user="ada"),
        job(2, 14 * DAY_S, 15 * hour, user="bob"),
        job(3, 14 * DAY_S + hour, hour, user="bob"),
        job(4, 14 * DAY_S + 2 * hour, hour, user="ada"),
    ]
    ran = simulate(jobs, cluster(1, 1), Rules("fair", preempt=False), known="told")
    assert [one.first_start_s for one in ran[2:]] == [14 * DAY_S + 16 * hour, 14 * DAY_S + 15 * hour]
