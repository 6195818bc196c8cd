"""What the jobs of a submission wait for: names -> places in it, and every fault of what they name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from jobs.errors import Fault
from jobs.jobfile.sections.sweep import AfterSpec
from jobs.jobfile.sweep import Member
from jobs.state import JobState, On, opens
from orchestrator.store.requests import NewLink

MAX_LINKS = 10_000  # of one submission

States = Callable[[Collection[int]], Mapping[int, JobState]]
Newest = Callable[[str], int | None]


class File(NamedTuple):
    """A job file of a submission. name: that its jobs go by together; first: place of its first job among all jobs;

    listed: whether its `after` is a list, and faults name the place in it.
    """

    source: str
    name: str
    members: Sequence[Member]
    first: int
    listed: bool

    @property
    def after(self) -> Sequence[AfterSpec]:
        return self.members[0].spec.after

    @property
    def places(self) -> range:
        return range(self.first, self.first + len(self.members))

    def waits(self) -> Iterator[tuple[str, AfterSpec]]:
        """Each job that it waits for, with the path it is named at."""
        for index, link in enumerate(self.after):
            yield (f"after.{index}" if self.listed else "after"), link


def links_of(
    files: Sequence[File], states: States, newest: Newest
) -> tuple[list[tuple[NewLink, ...]], list[tuple[File, Fault]]]:
    """For each file the links of all its jobs, and every fault.

    states: of jobs of the database, by id; newest: the id of its newest job of a name.
    """
    if not any(file.after for file in files):
        return [()] * len(files), []
    asked = {link.job for file in files for link in file.after if isinstance(link.job, int)}
    known = states(asked) if asked else {}
    named = _names(files)
    found: list[tuple[NewLink, ...]] = []
    faults: list[tuple[File, Fault]] = []
    before: dict[int, set[int]] = {}
    for at, file in enumerate(files):
        links: dict[tuple[bool, int], NewLink] = {}
        for path, link in file.waits():
            if isinstance(link.job, int):
                if fault := _stored_fault(path, link, known):
                    faults.append((file, fault))
                links[False, link.job] = NewLink(link.job, link.on)
                continue
            others = named.get(link.job, [])
            if len(others) != 1:
                faults.append(
                    (file, _name_fault(path, link.job, [other for other, _ in others], files, newest))
                )
                continue
            other, places = others[0]
            before.setdefault(at, set()).add(other)
            if fault := _outdone(path, link, files[other], places):
                faults.append((file, fault))
            if any((True, place) in links for place in places):
                problem = "names a job that is waited for already"
                faults.append((file, Fault(path, link.job, problem, "name each job once")))
            links |= {(True, place): NewLink(place, link.on, here=True) for place in places}
        found.append(tuple(links.values()))
    faults += _circle(files, before)
    count = sum(len(links) * len(file.members) for links, file in zip(found, files, strict=True))
    if count > MAX_LINKS:
        fix = f"a submission has at most {MAX_LINKS:,}; put a job between the groups that waits for the one"
        faults.append(
            (next(f for f in files if f.after), Fault("after", f"{count:,}", "makes too many links", fix))
        )
    return found, faults


def _names(files: Sequence[File]) -> dict[str, list[tuple[int, range]]]:
    """By name, which file and which of all jobs it means: a group by its own, each member by its number too."""
    named: dict[str, list[tuple[int, range]]] = {}
    for at, file in enumerate(files):
        mine = {file.name: file.places} if file.name else {}
        for place, member in zip(file.places, file.members, strict=True):
            if member.spec.name:
                mine.setdefault(member.spec.name, range(place, place + 1))
        for name, places in mine.items():
            named.setdefault(name, []).append((at, places))
    return named


def _stored_fault(path: str, link: AfterSpec, known: Mapping[int, JobState]) -> Fault | None:
    if link.job not in known:
        return Fault(path, str(link.job), "there is no such job", "`tuneyard list` shows the jobs there are")
    state = known[int(link.job)]
    if opens(link.on, state) is not False:
        return None
    ended = "was cancelled" if state is JobState.CANCELLED else f"has {state}"
    problem = f"job {link.job} {ended}, so this one could never start"
    other = "success" if state is JobState.SUCCEEDED else "failure"
    return Fault(
        path, f"{link.job}, on {link.on}", problem, f"name another job, or write on: any or on: {other}"
    )


def _outdone(path: str, link: AfterSpec, other: File, places: range) -> Fault | None:
    """The fault of waiting for the success of every job of a sweep that stops some of them."""
    if link.on is not On.SUCCESS or len(places) < 2 or other.members[0].spec.sweep.early_stop is None:
        return None
    problem = f"{other.name} stops its worst jobs early, so they will not all succeed"
    return Fault(
        path, f"{link.job}, on {link.on}", problem, "write on: any, which waits for all of them to end"
    )


def _name_fault(path: str, name: str, among: Sequence[int], files: Sequence[File], newest: Newest) -> Fault:
    if among:
        where = " and ".join(files[at].source for at in among[:3])
        return Fault(path, name, f"names jobs of several files ({where})", "give them names of their own")
    known = newest(name)
    fix = "submit that job's file together with this one, or write " + (
        "the id of a job" if known is None else f"{known}, the newest job of that name"
    )
    return Fault(path, name, "no job of this submission has that name", fix)


def _circle(files: Sequence[File], before: Mapping[int, Collection[int]]) -> list[tuple[File, Fault]]:
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        circle: list[int] = error.args[1][::-1]  # each waits for the next
        file = files[circle[0]]
        if len(circle) == 2:
            return [(file, Fault("after", file.name, "waits for itself", "leave it out"))]
        shown = " -> ".join(files[at].name or files[at].source for at in circle)
        return [
            (file, Fault("after", shown, "goes in a circle, so none of these could start", "break it at one"))
        ]
    return []
