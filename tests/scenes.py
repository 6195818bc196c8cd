"""Scenes for the planner, written as an operator would say them, and what was decided in the same words.

A fleet is `a 24 24 | b:rack=x 80`: hosts with the memory of their cards in GiB; `24!` is a faulty card, and `:drained`,
`:away`, `:booting` (no trainer can start yet) or `:label=value` follow the host's name. Cards are a0, a1, b0 ...

A job is its number and words. Queued: `3 gpus=2 prio=75 waited=600 left=1200 project=x user=ann`; running: `7 on=a0,a1
ran=600 ends=1200 stopping=30 for=3` (asked to stop, for job 3). Times are seconds, before now (waited, ran) or from now
(left, ends, stopping, rests). A step of every job takes a second, so left=1200 is 1,200 steps. Without more, a job
takes one card and any will do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from jobs.cards import Card
from jobs.memory.ladder import Choice, NoFit
from jobs.state import Code, Reason
from jobs.units import GiB
from orchestrator.scheduler.fleet import Fleet, Host, NoProfile, PendingJob, Project, RunningJob
from orchestrator.scheduler.plan import Plan
from orchestrator.scheduler.policy import Rules
from tests.fleets import KEY, PROFILE, Peaks, gpu, host, plan, waiting

NOW = 1_000_000.0


@dataclass(frozen=True)
class Scene:
    """A fleet, what runs, what waits, and the rules; then what the plan must be.

    projects: name -> guaranteed GPUs (None: no guarantee), or a Project; usage: `project/user` -> GPU-seconds;
    cleared: `a0>1`, card a0 came back from a job that was stopped for job 1;
    starts: `1@a0,a1 2@b0` (`+`: beside others); stops: `7 8`, or `7>1` to say for whom; waits: `3 busy held by job 7`,
    one after the other with `;` between.
    """

    name: str
    fleet: str
    queue: tuple[str, ...]
    running: tuple[str, ...] = ()
    rules: dict[str, Any] = field(default_factory=dict)
    projects: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, float] = field(default_factory=dict)
    cleared: str = ""
    starts: str = ""
    stops: str = ""
    waits: str = ""


class Needs:
    """The chooser of a scene: what a job needs without checkpointing and with it, by its number."""

    def __init__(self, needs: dict[int, Peaks]) -> None:
        self.needs = needs

    def __call__(self, job: PendingJob, profile: Any, card: Card, stack: str = "") -> Choice | NoFit:
        return self.needs[job.job_id](job, profile, card)


def hosts_of(text: str) -> list[Host]:
    found = []
    for number, part in enumerate(text.split("|") if text else [], 1):
        words = part.split()
        name, *marks = words[0].split(":")
        gpus = [
            gpu(number * 10 + index, float(word.rstrip("!")), fault="lost" if word.endswith("!") else None)
            for index, word in enumerate(words[1:])
        ]
        gpus = [replace(card, index=index) for index, card in enumerate(gpus)]
        labels = dict(mark.split("=") for mark in marks if "=" in mark)
        states = {"online": "away" not in marks, "drained": "drained" in marks}
        found.append(
            replace(host(number, *gpus), name=name, labels=labels, ray_ready="booting" not in marks, **states)
        )
    return found


def scene_fleet(scene: Scene) -> tuple[Fleet, Needs]:
    """The snapshot of a scene, and its chooser."""
    hosts = hosts_of(scene.fleet)
    cards = {f"{one.name}{card.index}": (one, card) for one in hosts for card in one.gpus}
    running = tuple(_running(line, cards) for line in scene.running)
    # Of a card that is shared, the first that came.
    oldest = sorted(running, key=lambda job: -job.job_id)
    held = {gpu_id: job.job_id for job in oldest for gpu_id in job.gpu_ids}
    hosts = [
        replace(one, gpus=tuple(replace(card, held_by=held.get(card.id)) for card in one.gpus))
        for one in hosts
    ]
    needs: dict[int, Peaks] = {}
    by_name = {one.name: one.id for one in hosts}
    queue = tuple(_waiting(line, by_name, needs) for line in scene.queue)
    projects = {
        name: terms if isinstance(terms, Project) else Project(terms)
        for name, terms in scene.projects.items()
    }
    usage = {(name.split("/")[0], name.split("/")[1]): spent for name, spent in scene.usage.items()}
    profiles = {KEY: PROFILE, "failed": NoProfile("no such layer"), "pending": NoProfile()}
    cleared = {
        cards[name][1].id: int(job)
        for name, _, job in (word.partition(">") for word in scene.cleared.split())
    }
    fleet = Fleet(tuple(hosts), queue, profiles, running, projects, usage, cleared=cleared)
    return fleet, Needs(needs)


def _words(line: str) -> tuple[int, dict[str, str]]:
    first, *rest = line.split()
    return int(first), dict(word.partition("=")[::2] for word in rest)


def _waiting(line: str, hosts: dict[str, int], needs: dict[int, Peaks]) -> PendingJob:
    number, words = _words(line)
    off, _, every = words.pop("needs", "10/5").partition("/")
    needs[number] = Peaks(float(off), float(every or off))
    resources: dict[str, Any] = {"gpus": int(words.pop("gpus", 1))}
    if "share" in words:
        resources["share"] = words.pop("share") == ""
    for key, name in (("card", "card"), ("min", "min_memory"), ("policy", "policy")):
        if key in words:
            resources[name] = words.pop(key)
    if "label" in words:
        resources["labels"] = dict([words.pop("label").split(":")])
    job = waiting(
        number,
        int(words.pop("prio", 50)),
        words.pop("profile", KEY),
        resources=resources,
        training={"global_batch": resources["gpus"]},
    )
    waited = float(words.pop("waited", 0))
    changes: dict[str, Any] = {"submitted_at": NOW - waited, "across": words.pop("across", None) == ""}
    if "left" in words:
        changes["steps_left"] = float(words.pop("left"))
    if "had" in words:
        changes["attained_gpu_s"] = float(words.pop("had"))
    if "after" in words:
        other = int(words.pop("after"))
        changes["blocked"] = Reason(Code.AFTER, f"comes after job {other}", {"after": [other]})
    if "rests" in words:
        changes["not_before"] = NOW + float(words.pop("rests"))
    if "shaky" in words:
        changes["shaky"] = frozenset(hosts[name] for name in words.pop("shaky").split(","))
    for name in ("project", "user"):
        if name in words:
            changes[name] = words.pop(name)
    assert not words, f"{line!r}: nobody knows {words}"
    return replace(job, **changes)


def _running(line: str, cards: dict[str, Any]) -> RunningJob:
    number, words = _words(line)
    places = [cards[name] for name in words.pop("on").split(",")]
    ran = float(words.pop("ran", 3600))
    upper = words.pop("share", None)
    job = RunningJob(
        *(number, number, places[0][0].id, tuple(card.id for _, card in places)),
        priority=int(words.pop("prio", 50)),
        submitted_at=NOW - ran,
        started_at=NOW - ran,
        attained_gpu_s=float(words.pop("had", 0)),
        ends_at=NOW + float(words.pop("ends")) if "ends" in words else None,
        spread=float(words.pop("spread", 0)),
        stopping_until=NOW + float(words.pop("stopping")) if "stopping" in words else None,
        shares=upper is not None,
        upper_bytes=int(float(upper or 0) * GiB),
        movable=words.pop("fixed", None) is None,
        stopping_for=int(words.pop("for")) if "for" in words else None,
    )
    for name in ("project", "user"):
        if name in words:
            job = replace(job, **{name: words.pop(name)})
    assert not words, f"{line!r}: nobody knows {words}"
    return job


def decide(scene: Scene) -> Plan:
    """What the planner makes of a scene."""
    fleet, needs = scene_fleet(scene)
    return plan(fleet, NOW, needs, Rules(**scene.rules))


def starts_of(scene: Scene, decided: Plan) -> str:
    """The starts in the words of a scene."""
    names = {card.id: f"{one.name}{card.index}" for one in hosts_of(scene.fleet) for card in one.gpus}
    return " ".join(
        f"{job}@{','.join(names[card.id] for card in found.gpus)}{'+' if found.side else ''}"
        for job, found in sorted(decided.starts.items())
    )


def stops_of(decided: Plan) -> str:
    """The stops, each with the job that it is for."""
    return " ".join(f"{job}>{reason.figures['for_job']}" for job, reason in sorted(decided.stops.items()))


def check(scene: Scene, decided: Plan) -> None:
    """That a plan is what the scene says, to the words of its reasons."""
    assert starts_of(scene, decided) == scene.starts
    assert stops_of(decided) == scene.stops
    expected = [part.split(maxsplit=2) for part in scene.waits.split(";") if part.strip()]
    found = {job: str(reason.code) for job, reason in decided.waits.items()}
    assert found == {int(job): code for job, code, *_ in expected}
    for job, _, *text in expected:
        for words in text:
            assert words in decided.waits[int(job)].text
