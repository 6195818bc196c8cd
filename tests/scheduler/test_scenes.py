"""Whose turn it is, which card, gangs, reservations: small scenes, in the words of tests/scenes.py.

Everything that is decided is named: a start, a stop or a wait that a scene does not expect fails it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.scheduler.fleet import Project
from tests.scenes import Scene, check, decide

SCENES = (
    # ---- whose turn it is
    Scene(
        "first come, first served", "a 24", ("1 waited=60", "2 waited=90"), starts="2@a0", waits="1 behind"
    ),
    Scene("priority goes before age", "a 24", ("1 waited=900", "2 prio=75"), starts="2@a0", waits="1 behind"),
    Scene(
        "a job of low priority that waited two days counts as high, and goes first",
        "a 24",
        ("1 prio=25 waited=172800", "2 prio=74 waited=60"),
        starts="1@a0",
        waits="2 behind",
    ),
    Scene(
        "the project that used less lately goes first, though its job came later",
        "a 24",
        ("1 project=x user=ann waited=900", "2 project=y user=bob"),
        usage={"x/ann": 7200, "y/bob": 3600},
        starts="2@a0",
        waits="1 behind",
    ),
    Scene(
        "the same usage on three times the weight is a third of it",
        "a 24",
        ("1 project=x user=ann", "2 project=y user=bob"),
        projects={"x": Project(weight=3)},
        usage={"x/ann": 7200, "y/bob": 3600},
        starts="1@a0",
        waits="2 behind",
    ),
    Scene(
        "inside a project the user that used less goes first",
        "a 24",
        ("1 project=x user=ann waited=900", "2 project=x user=bob"),
        usage={"x/ann": 7200, "x/bob": 3600},
        starts="2@a0",
        waits="1 behind",
    ),
    Scene(
        "a burst of one user's jobs does not all go first: each start is charged at once",
        "a 24 24",
        ("1 user=ann waited=90", "2 user=ann waited=80", "3 user=bob waited=70"),
        starts="1@a0 3@a1",
        waits="2 behind",
    ),
    Scene(
        "with equal usage the one that waited longer goes first, whatever they are called",
        "a 24",
        ("1 project=alpha waited=10", "2 project=beta waited=90"),
        starts="2@a0",
        waits="1 behind",
    ),
    Scene(
        "fifo does not look at usage",
        "a 24",
        ("1 user=ann waited=900", "2 user=bob"),
        rules={"policy": "fifo"},
        usage={"default/ann": 7200},
        starts="1@a0",
        waits="2 behind",
    ),
    Scene(
        "strict: nobody passes the first, though its cards are not there",
        "a 24 | b 24",
        ("1 gpus=2 waited=90", "2"),
        running=("7 on=a0", "8 on=b0"),
        rules={"policy": "fifo", "passing": False},
        waits="1 gang; 2 busy",
    ),
    Scene(
        "shortest: by GPU time to go, not by time alone",
        "a 24 24",
        ("1 gpus=2 left=600", "2 left=1000", "3 left=5000"),
        rules={"policy": "shortest"},
        starts="2@a0 3@a1",
        waits="1 behind",
    ),
    Scene(
        "attained: who held less comes first",
        "a 24",
        ("1 had=20000 waited=900", "2"),
        rules={"policy": "attained"},
        starts="2@a0",
        waits="1 behind",
    ),
    Scene(
        "attained: inside a level the order of arrival holds",
        "a 24",
        ("1 had=3000 waited=900", "2 had=0"),
        rules={"policy": "attained"},
        starts="1@a0",
        waits="2 behind",
    ),
    Scene(
        "a job that waited six hours is promoted over its level",
        "a 24",
        ("1 had=900000 waited=21600", "2"),
        rules={"policy": "attained"},
        starts="1@a0",
        waits="2 behind",
    ),
    # ---- which card
    Scene("the smallest card that fits", "a 80 24", ("1",), starts="1@a1"),
    Scene("a small one with checkpointing", "a 80 24", ("1 needs=40/20",), starts="1@a1"),
    Scene(
        "the fullest host, so that others stay whole",
        "a 24 24 | b 24 24",
        ("1",),
        running=("7 on=b0",),
        starts="1@b1",
    ),
    Scene("a card type", "a 24 80", ("1 card=card80",), starts="1@a1"),
    Scene("least memory", "a 24 80", ("1 min=48GiB",), starts="1@a1"),
    Scene(
        "a label",
        "a:rack=x 24 | b:rack=y 24",
        ("1 label=rack:y", "2 label=rack:z"),
        starts="1@b0",
        waits="2 no_card no label rack=z",
    ),
    Scene(
        "not on a host that let it down, while another will do", "a 24 | b 80", ("1 shaky=a",), starts="1@b0"
    ),
    Scene("on it, where no other will do", "a 24", ("1 shaky=a",), starts="1@a0"),
    Scene(
        "a faulty card, a drained and a silent host take nothing",
        "a 24! | b:drained 24 | c:away 24 | d 24",
        ("1 waited=9", "2"),
        starts="1@d0",
        waits="2 behind",
    ),
    Scene("nothing is online", "a:away 24", ("1",), waits="1 no_host does not answer"),
    Scene("a host that is coming up", "a:booting 24", ("1",), waits="1 busy Ray worker is still coming up"),
    Scene("too large for every card", "a 24", ("1 needs=60/40",), waits="1 memory fits no card: needs 40"),
    # ---- gangs
    Scene("a gang stays on one host", "a 24 | b 24 24", ("1 gpus=2",), starts="1@b0,b1"),
    Scene(
        "and waits where none is large enough",
        "a 24 | b 24",
        ("1 gpus=2",),
        waits="1 gang resources.across_hosts: true would let it span hosts",
    ),
    Scene(
        "nor would several hosts do",
        "a 24 | b 24",
        ("1 gpus=3",),
        waits="1 gang of 3, at most 1 card of one type",
    ),
    Scene(
        "across hosts, and the fleet is too small",
        "a 24 | b 24",
        ("1 gpus=3 across",),
        waits="1 busy 2 of 2 that it fits are free",
    ),
    Scene("across hosts where it may", "a 24 24 | b 24 24", ("1 gpus=3 across",), starts="1@a0,a1,b0"),
    Scene(
        "across hosts it takes all or nothing",
        "a 24 24 | b 24 24",
        ("1 gpus=4 across",),
        running=("7 on=b1",),
        waits="1 busy held by job 7",
    ),
    # ---- reservations
    Scene(
        "backfill: what ends before the gang's start may use its cards, what ends later may not",
        "a 24 24",
        ("1 gpus=2 waited=900", "2 left=3600", "3 left=1000"),
        running=("7 on=a0 ends=1200",),
        starts="3@a1",
        waits="1 busy cards are kept for it; 2 reserved reservation of job 1",
    ),
    Scene(
        "backfill: the spread of the running job's end only moves the start out",
        "a 24 24",
        ("1 gpus=2 waited=900", "2 left=2000"),
        running=("7 on=a0 ends=1200 spread=1",),
        starts="2@a1",
        waits="1 busy",
    ),
    Scene(
        "backfill: a card that the gang won't need is free to all",
        "a 24 24 24",
        ("1 gpus=2 waited=900", "2 left=99999", "3 left=99999"),
        running=("7 on=a0 ends=1200", "8 on=a1 ends=1200"),
        starts="2@a2",
        waits="1 busy; 3 behind",
    ),
    Scene(
        "one that did not is passed, and says why",
        "a 24 24",
        ("1 gpus=2 waited=900", "2 left=1000"),
        running=("7 on=a0",),
        starts="2@a1",
        waits="1 busy nobody knows when they come free, so others pass it until it has waited 3d",
    ),
    Scene(
        "a gang that waited for long enough keeps a host whose end nobody knows",
        "a 24 24",
        ("1 gpus=2 waited=86400", "2 left=1000"),
        running=("7 on=a0",),
        rules={"drain_after_s": 86400},
        waits="1 busy a host is kept empty for it; 2 reserved reservation of job 1",
    ),
    Scene(
        "backfill: a shared card comes free when the last job on it ends",
        "a 24 24",
        ("1 gpus=2 waited=900", "2 left=3000"),
        running=("7 on=a0 share=4 ends=100", "8 on=a0 share=4 ends=5000"),
        starts="2@a1",
        waits="1 busy",
    ),
    # ---- before a job is looked at
    Scene("after another job", "a 24", ("1 after=7",), waits="1 after comes after job 7"),
    Scene("resting after a failure", "a 24", ("1 rests=30",), waits="1 backoff waits after a failure"),
    Scene(
        "its profile is being traced", "a 24", ("1 profile=pending",), waits="1 profile_pending being traced"
    ),
    Scene(
        "its profile could not be traced",
        "a 24",
        ("1 profile=failed",),
        waits="1 profile_failed no such layer",
    ),
)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scene(scene: Scene):
    check(scene, decide(scene))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_order_in_which_a_scene_is_told_does_not_matter(scene: Scene):
    told = replace(scene, queue=scene.queue[::-1], running=scene.running[::-1])
    assert decide(told) == decide(scene)
