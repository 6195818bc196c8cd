"""What is kept of kinds of jobs from plan to plan: as long as nothing that they hang on has changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from jobs.state import Code
from orchestrator.scheduler.fleet import NoProfile
from orchestrator.scheduler.job_class import Fits
from orchestrator.scheduler.placement.capacity import Stock
from tests.fleets import KEY, PROFILE, Peaks, fleet, gpu, host, waiting

HOSTS = [host(1, gpu(1, 24), gpu(2, 24)), host(2, gpu(3, 80))]
JOB = dataclasses.replace(waiting(1), shape="shape")


class Counted(Peaks):
    """A chooser that counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(20, 10)
        self.asked = 0

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.asked += 1
        return super().__call__(*given, **named)


def kind(fits: Fits, chooser: Peaks, hosts=HOSTS, profiles=None, job=JOB):
    return Stock.of(fleet(hosts, [job], profiles), chooser, fits).kind(job)


def test_cards_that_change_hands_change_no_kind():
    fits, chooser = Fits(), Counted()
    first = kind(fits, chooser)
    asked = chooser.asked
    held = [host(1, gpu(1, 24, held_by=9), gpu(2, 24)), HOSTS[1]]
    assert kind(fits, chooser, held) is first
    assert kind(fits, chooser, job=dataclasses.replace(JOB, job_id=2)) is first
    assert chooser.asked == asked


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param([HOSTS[0]], id="a host is gone"),
        pytest.param([*HOSTS, host(3, gpu(9, 24))], id="a host has joined"),
        pytest.param([HOSTS[0], dataclasses.replace(HOSTS[1], drained=True)], id="a host is drained"),
        pytest.param([host(1, gpu(1, 24, fault="lost"), gpu(2, 24)), HOSTS[1]], id="a card is faulty"),
    ],
)
def test_another_fleet_has_other_kinds(hosts):
    fits = Fits()
    kind(fits, Peaks(20, 10))
    anew = kind(Fits(), Peaks(20, 10), hosts)
    assert kind(fits, Peaks(20, 10), hosts) == anew
    assert anew != kind(Fits(), Peaks(20, 10))


def test_a_profile_that_has_come_counts_at_once():
    fits = Fits()
    pending = kind(fits, Peaks(20, 10), profiles={KEY: NoProfile()})
    assert (pending.tiers, pending.misfits["h1"].code) == ((), Code.PROFILE_PENDING)
    assert kind(fits, Peaks(20, 10), profiles={KEY: NoProfile()}) is pending
    assert len(kind(fits, Peaks(20, 10), profiles={KEY: PROFILE}).tiers) == 2


def test_what_the_chooser_learns_counts_once_it_was_told_to_forget():
    fits = Fits()
    assert len(kind(fits, Peaks(20, 10)).tiers) == 2
    fits.forget()
    assert len(kind(fits, Peaks(60, 40)).tiers) == 1
