"""Who is stopped for whom, whose the cards are then, who shares a card with whom: small scenes, as in tests/scenes.py.

Everything that is decided is named: a start, a stop or a wait that a scene does not expect fails it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.scheduler.fleet import Project
from tests.scenes import Scene, check, decide

SCENES = (
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
        "nor more at once than the rules allow: the next plan goes on",
        "a 24 24",
        ("1 prio=75 waited=60", "2 prio=75"),
        running=("7 on=a0", "8 on=a1"),
        rules={"most_stops": 1},
        stops="7>1",
        waits="1 room; 2 busy",
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
        waits="1 room waits until job 7 has saved and stopped; 2 busy",
    ),
    Scene(
        "nor where the first one's card is of the second choice",
        "a 24 | b 80",
        ("1 prio=75 waited=60",),
        running=("7 on=b0 stopping=30", "8 on=a0"),
        waits="1 room waits until job 7",
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
    # ---- what is being cleared is for whom it is cleared
    Scene(
        "what is being cleared for one is not taken by a newcomer that would go first by the policy",
        "a 24",
        ("1 had=5000 waited=900", "2"),
        running=("7 on=a0 had=900000 stopping=30 for=1",),
        rules={"policy": "attained"},
        waits="1 room waits until job 7 has saved and stopped; 2 busy",
    ),
    Scene(
        "nor once it is free",
        "a 24",
        ("1 had=5000 waited=900", "2"),
        rules={"policy": "attained"},
        cleared="a0>1",
        starts="1@a0",
        waits="2 behind",
    ),
    Scene(
        "one of a higher class takes it over, and nobody else is stopped for either",
        "a 24 | b 24",
        ("1 prio=60 waited=900", "2 prio=90"),
        running=("7 on=a0 stopping=30 for=1", "8 on=b0 ran=200"),
        waits="2 room waits until job 7; 1 busy",
    ),
    Scene(
        "but a free card first",
        "a 24 | b 24",
        ("1 prio=60 waited=900", "2 prio=90"),
        cleared="a0>1",
        starts="1@a0 2@b0",
    ),
    Scene(
        "of two that wait, each gets what was cleared for it, whichever comes back first",
        "a 24 | b 80",
        ("1 prio=75 waited=900", "2 prio=75 waited=800 needs=70/60"),
        running=("7 on=a0 stopping=30 for=1",),
        cleared="b0>2",
        starts="2@b0",
        waits="1 room waits until job 7",
    ),
    Scene(
        "half of a gang's cards are back: they wait for the other half, and nobody else is stopped",
        "a 24 24 | b 24",
        ("1 gpus=2 prio=75 waited=900", "2 prio=75 waited=1000"),
        running=("7 on=a0 stopping=30 for=1", "8 on=b0 ran=200"),
        cleared="a1>1",
        waits="1 room waits until job 7; 2 reserved reservation of job 1",
    ),
    Scene(
        "a cancelled job's claim is gone with it",
        "a 24",
        ("2",),
        cleared="a0>1",
        starts="2@a0",
    ),
    Scene(
        "one that may not start now does not hold them up",
        "a 24",
        ("1 prio=75 after=9", "2"),
        cleared="a0>1",
        starts="2@a0",
        waits="1 after",
    ),
    Scene(
        "who is owed is not passed by one of higher priority that would borrow",
        "a 24",
        ("1 project=x prio=25", "2 project=z prio=90"),
        running=("7 on=a0 project=y stopping=30 for=1",),
        projects={"x": 1},
        waits="1 room waits until job 7; 2 busy",
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
        "what one project can't have stopped another may, where it is its own",
        "a 24",
        ("1 project=x prio=75 waited=60", "2 project=y prio=75"),
        running=("7 on=a0 project=y prio=25",),
        projects={"x": 0, "y": 1},
        stops="7>2",
        waits="1 busy; 2 room",
    ),
    Scene(
        "and though a gang of higher priority that would borrow has a reservation there",
        "a 24 24",
        ("1 project=x prio=25", "2 project=y prio=50 gpus=2"),
        running=("7 on=a0,a1 project=y prio=75",),
        projects={"x": 1, "y": 0},
        stops="7>1",
        waits="1 room; 2 busy",
    ),
    Scene(
        "or has one for a card that is free",
        "a 24 24",
        ("1 project=x prio=25 left=9000", "2 project=y prio=50 gpus=2"),
        running=("7 on=a0 project=y ends=500",),
        projects={"x": 1, "y": 0},
        starts="1@a1",
        waits="2 busy",
    ),
    Scene(
        "a project that may not borrow stays within its guarantee",
        "a 24 24",
        ("1 project=x",),
        running=("7 on=a0 project=x",),
        projects={"x": Project(1, borrows=False)},
        waits="1 quota project x holds 1 of its 1 GPU",
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
        "a job that does not share never runs beside another",
        "a 24",
        ("1",),
        running=("7 on=a0 share=4",),
        waits="1 busy",
    ),
    Scene(
        "one that has a card to itself gives way like any other, though it would share it",
        "a 24",
        ("1 prio=75",),
        running=("7 on=a0 share=12",),
        stops="7>1",
        waits="1 room",
    ),
    Scene(
        "one that has another beside it does not: its going would free no card",
        "a 24",
        ("1 prio=75",),
        running=("7 on=a0 share=8", "8 on=a0 share=8"),
        waits="1 busy",
    ),
    Scene(
        "nobody starts beside one that leaves for another",
        "a 24",
        ("1 prio=75", "2 share needs=8"),
        running=("7 on=a0 share=8 stopping=30 for=1",),
        waits="1 room; 2 busy",
    ),
    Scene("two that start together", "a 24", ("1 share waited=9", "2 share"), starts="1@a0 2@a0+"),
    Scene(
        "on an idle card, where nobody else needs it",
        "a 24 24",
        ("1 share",),
        running=("7 on=a0 share=12",),
        starts="1@a1",
    ),
    Scene(
        "beside others, where somebody who comes later in turn needs the idle one",
        "a 24 24",
        ("1 share waited=9", "2"),
        running=("7 on=a0 share=12",),
        starts="1@a0+ 2@a1",
    ),
    Scene(
        "of more than there are cards, only so many side by side as have to",
        "a 24 24",
        ("1 share waited=9", "2 share waited=8", "3 share waited=7"),
        starts="1@a0 2@a0+ 3@a1",
    ),
    Scene(
        "beside others on the small card, rather than alone on a large one",
        "a 24 80",
        ("1 share",),
        running=("7 on=a0 share=12",),
        starts="1@a0+",
    ),
    Scene(
        "but not one that wants to be fastest, where the large one is as fast",
        "a 24 80",
        ("1 share policy=fastest",),
        running=("7 on=a0 share=12",),
        starts="1@a1",
    ),
    Scene(
        "nobody starts beside others where a gang's host would be held up",
        "a 24 24",
        ("1 gpus=2 waited=7200", "2 share left=9000"),
        running=("7 on=a0 share=4 ends=100",),
        waits="1 busy; 2 reserved reservation of job 1",
    ),
)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_scene(scene: Scene):
    check(scene, decide(scene))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_order_in_which_a_scene_is_told_does_not_matter(scene: Scene):
    told = replace(scene, queue=scene.queue[::-1], running=scene.running[::-1])
    assert decide(told) == decide(scene)
