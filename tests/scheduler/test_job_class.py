"""What is kept of classes of jobs from plan to plan: as long as nothing that they hang on has changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from jobs.state import Code
from orchestrator.scheduler.cache.job_classes import JobClasses
from orchestrator.scheduler.fleet import NoProfile
from orchestrator.scheduler.placement.card_groups import Layout
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


def job_class(classes: JobClasses, hosts=HOSTS, profiles=None, job=JOB):
    found = fleet(hosts, [job], profiles)
    classes.look(Layout.of(found.hosts), found.profiles)
    return classes.of(job)


def test_cards_that_change_hands_change_no_class():
    chooser = Counted()
    classes = JobClasses(chooser)
    first = job_class(classes)
    asked = chooser.asked
    held = [host(1, gpu(1, 24, held_by=9), gpu(2, 24)), HOSTS[1]]
    assert job_class(classes, held) is first
    assert job_class(classes, job=dataclasses.replace(JOB, job_id=2)) is first
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
def test_another_fleet_has_other_classes(hosts):
    classes = JobClasses(Peaks(20, 10))
    before = job_class(classes)
    again = job_class(JobClasses(Peaks(20, 10)), hosts)
    after = job_class(classes, hosts)
    assert after == again
    assert after != before
    assert after.number > before.number


def test_a_host_of_the_same_name_is_another():
    classes, job = JobClasses(Peaks(20, 10)), dataclasses.replace(JOB, home=2)
    assert classes.on_host(job_class(classes, job=job), 2) is not None
    hosts = [HOSTS[0], dataclasses.replace(HOSTS[1], id=3)]
    assert classes.on_host(job_class(classes, hosts, job=job), 2) is None
    assert classes.on_host(job_class(classes, hosts, job=job), 3) is not None


def test_a_profile_that_has_come_counts_at_once():
    classes = JobClasses(Peaks(20, 10))
    pending = job_class(classes, profiles={KEY: NoProfile()})
    assert (pending.tiers, pending.misfits["h1"].code) == ((), Code.PROFILE_PENDING)
    assert job_class(classes, profiles={KEY: NoProfile()}) is pending
    assert len(job_class(classes, profiles={KEY: PROFILE}).tiers) == 2


def test_what_the_chooser_learns_counts_once_it_was_told_to_forget():
    chooser = Peaks(20, 10)
    classes = JobClasses(chooser)
    assert len(job_class(classes).tiers) == 2
    chooser.off, chooser.every_layer = 60, 40
    classes.forget()
    assert len(job_class(classes).tiers) == 1


def test_classes_of_the_same_card_groups_share_a_number_unless_one_must_take_its_home():
    classes = JobClasses(Peaks(20, 10))
    one = job_class(classes)
    other = job_class(classes, job=dataclasses.replace(JOB, shape="other"))
    assert one.number != other.number
    assert one.group_set == other.group_set
    home = classes.with_host(one, 2)
    assert home is not None and home.group_set != one.group_set
    assert classes.with_host(one, 2) is home
