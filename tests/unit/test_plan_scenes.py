"""Sixty small scenes and what the planner makes of each, in words that an operator can read (tests/scenes.py has them).

Everything that is decided is named: a start, a stop or a wait that a scene does not expect fails it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.fleet import Project
from tests.scenes import Scene, decide, starts_of, stops_of

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
        "and waits where none is large enough", "a 24 | b 24", ("1 gpus=2",), waits="1 gang has 1 such cards"
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
        waits="1 busy cards are kept for it; 2 behind",
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
        "a gang that waited for long enough keeps a host whose end nobody knows",
        "a 24 24",
        ("1 gpus=2 waited=86400", "2 left=1000"),
        running=("7 on=a0",),
        rules={"drain_after_s": 86400},
        waits="1 busy; 2 behind",
    ),
    Scene(
        "backfill: a shared card comes free when the last job on it ends",
        "a 24 24",
        ("1 gpus=2 waited=900", "2 left=3000"),
        running=("7 on=a0 share=4 ends=100", "8 on=a0 share=4 ends=5000"),
        starts="2@a1",
        waits="1 busy",
    ),
    # ---- stopping others
    Scene(
        "a higher priority stops a lower one",
        "a 24",
        ("1 prio=75",),
        running=("7 on=a0 prio=50",),
        stops="7>1",
        waits="1 room job 7 is being stopped for it",
    ),
    Scene("never one of its own", "a 24", ("1",), running=("7 on=a0",), waits="1 busy held by job 7"),
    Scene(
        "nor one that began just now", "a 24", ("1 prio=75",), running=("7 on=a0 ran=200",), waits="1 busy"
    ),
    Scene(
        "nor one that can't go on from a checkpoint",
        "a 24",
        ("1 prio=75",),
        running=("7 on=a0 fixed",),
        waits="1 busy",
    ),
    Scene(
        "nor anybody, where the rules say so",
        "a 24",
        ("1 prio=75",),
        running=("7 on=a0",),
        rules={"preempt": False},
        waits="1 busy",
    ),
    Scene(
        "of two that would do, the one with fewer cards",
        "a 24 24 | b 24",
        ("1 prio=75",),
        running=("7 on=a0,a1", "8 on=b0"),
        stops="8>1",
        waits="1 room",
    ),
    Scene(
        "no second one while the first is stopping, and nobody else gets its card",
        "a 24 | b 24",
        ("1 prio=75 waited=60", "2 prio=50"),
        running=("7 on=a0 stopping=30", "8 on=b0"),
        waits="1 room being given back; 2 busy",
    ),
    Scene(
        "nor where the first one's card is of the second choice",
        "a 24 | b 80",
        ("1 prio=75 waited=60",),
        running=("7 on=b0 stopping=30", "8 on=a0"),
        waits="1 room being given back",
    ),
    Scene(
        "for a gang across hosts only so many as it needs",
        "a 24 24 | b 24 24",
        ("1 gpus=3 prio=75 across",),
        running=("5 on=a0", "6 on=a1", "7 on=b0", "8 on=b1"),
        stops="5>1 6>1 7>1",
        waits="1 room jobs 5, 6, 7 are being stopped for it",
    ),
    Scene(
        "attained: after five minutes of waiting, one of a higher level gives way",
        "a 24",
        ("1 waited=300",),
        running=("7 on=a0 ran=7200",),
        rules={"policy": "attained"},
        stops="7>1",
        waits="1 room",
    ),
    Scene(
        "attained: not before",
        "a 24",
        ("1 waited=299",),
        running=("7 on=a0 ran=7200",),
        rules={"policy": "attained"},
        waits="1 busy",
    ),
    Scene(
        "attained: a newcomer's patience is not that of the job behind it",
        "a 24",
        ("1 waited=10", "2 had=5000 waited=900"),
        running=("7 on=a0 had=900000",),
        rules={"policy": "attained"},
        stops="7>2",
        waits="1 busy; 2 room",
    ),
    Scene(
        "shortest: only for one that has far less to go",
        "a 24 | b 24",
        ("1 left=1000 waited=600",),
        running=("7 on=a0 ends=1900", "8 on=b0 ends=9000"),
        rules={"policy": "shortest"},
        stops="8>1",
        waits="1 room",
    ),
    # ---- guarantees
    Scene(
        "what a project is owed goes before what another would borrow",
        "a 24",
        ("1 project=y waited=900", "2 project=x"),
        projects={"x": 1, "y": 0},
        starts="2@a0",
        waits="1 behind",
    ),
    Scene(
        "idle guarantees are lent",
        "a 24 24",
        ("1 project=y", "2 project=y"),
        projects={"x": 2, "y": 0},
        starts="1@a0 2@a1",
    ),
    Scene(
        "and taken back from the job that began last, without waiting",
        "a 24 24",
        ("1 project=x",),
        running=("7 on=a0 project=y ran=9000", "8 on=a1 project=y ran=4000"),
        projects={"x": 1, "y": 1},
        stops="8>1",
        waits="1 room job 8",
    ),
    Scene(
        "but not beyond the guarantee",
        "a 24 24",
        ("1 project=x waited=60", "2 project=x"),
        running=("7 on=a0 project=y ran=9000", "8 on=a1 project=y ran=4000"),
        projects={"x": 1},
        stops="8>1",
        waits="1 room; 2 busy",
    ),
    Scene(
        "a project that may not borrow stays within its guarantee",
        "a 24 24",
        ("1 project=x",),
        running=("7 on=a0 project=x",),
        projects={"x": Project(1, borrows=False)},
        waits="1 quota project x holds 1 of its 1 GPUs",
    ),
    # ---- sharing a card
    Scene("side by side where both fit", "a 24", ("1 share",), running=("7 on=a0 share=12",), starts="1@a0+"),
    Scene(
        "not where their upper bounds add up to more than the card",
        "a 24",
        ("1 share needs=14",),
        running=("7 on=a0 share=12",),
        waits="1 busy",
    ),
    Scene(
        "a job that does not share never lies beside another",
        "a 24",
        ("1",),
        running=("7 on=a0 share=4",),
        waits="1 busy",
    ),
    Scene("two that start together", "a 24", ("1 share waited=9", "2 share"), starts="1@a0 2@a0+"),
    Scene(
        "nobody lies down beside others where a gang's host would be held up",
        "a 24 24",
        ("1 gpus=2 waited=7200", "2 share left=9000"),
        running=("7 on=a0 share=4 ends=100",),
        waits="1 busy; 2 behind",
    ),
    # ---- before a job is looked at
    Scene("after another job", "a 24", ("1 after=7",), waits="1 after comes after job 7"),
    Scene("resting after a failure", "a 24", ("1 rests=30",), waits="1 backoff rests after a failure"),
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
    decided = decide(scene)
    assert starts_of(scene, decided) == scene.starts
    assert stops_of(decided) == scene.stops
    expected = [part.split(maxsplit=2) for part in scene.waits.split(";") if part.strip()]
    assert {job: str(reason.code) for job, reason in decided.waits.items()} == {
        int(job): code for job, code, *_ in expected
    }
    for job, _, *text in expected:
        for words in text:
            assert words in decided.waits[int(job)].text


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_order_in_which_a_scene_is_told_does_not_matter(scene: Scene):
    decided = decide(scene)
    told = replace(scene, queue=scene.queue[::-1], running=scene.running[::-1])
    assert decide(told) == decided
