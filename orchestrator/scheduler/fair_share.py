"""Turns: who is served next in a plan, given who was served and who can't be."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from orchestrator.scheduler.fleet import Project
from orchestrator.scheduler.policy import Ranked, Rules, unowed_key

# What a start is charged before it has run: an hour, so that a burst of one user's jobs does not all go first.
CHARGE_S = 3600.0

LaneKey = tuple[float, ...]
Owner = tuple[str, str]
NOBODY: Owner = ("", "")
_key = attrgetter("key")


@dataclass
class Lanes:
    """Ranked jobs by lane (class, owed, urgent, awaited), in it by owner, and there by what they are alike in.

    Each list is in the order of its keys. by_owner: whether owners take turns (`fair`); else all are nobody's.
    """

    by_owner: bool
    lists: dict[LaneKey, dict[Owner, dict[Hashable, list[Ranked]]]] = field(default_factory=dict)

    def add(self, entry: Ranked) -> None:
        owners = self.lists.setdefault(entry.key[:4], {})
        alike = owners.setdefault(self._owner(entry), {})
        waiting = alike.get(entry.alike)
        if waiting is None:
            alike[entry.alike] = [entry]
        else:
            insort(waiting, entry, key=_key)

    def remove(self, entry: Ranked) -> None:
        lane, owner = entry.key[:4], self._owner(entry)
        waiting = self.lists[lane][owner][entry.alike]
        del waiting[bisect_left(waiting, entry.key, key=_key)]
        if not waiting:
            del self.lists[lane][owner][entry.alike]
            if not self.lists[lane][owner]:
                del self.lists[lane][owner]
                if not self.lists[lane]:
                    del self.lists[lane]

    def __iter__(self) -> Iterator[Ranked]:
        """All of them, in no order that means anything."""
        for owners in self.lists.values():
            for alike in owners.values():
                for waiting in alike.values():
                    yield from waiting

    def _owner(self, entry: Ranked) -> Owner:
        return (entry.job.project, entry.job.user) if self.by_owner else NOBODY


@dataclass(slots=True)
class _Head:
    """The first of a list that had no turn yet. key: of that one; unowed: its project has what it is guaranteed."""

    key: LaneKey
    waiting: list[Ranked]
    at: int
    alike: Hashable
    unowed: bool

    @classmethod
    def of(cls, waiting: list[Ranked], at: int = 0, unowed: bool = False) -> _Head:
        entry = waiting[at].unowed() if unowed else waiting[at]
        return cls(entry.key, waiting, at, entry.alike, unowed)

    @property
    def entry(self) -> Ranked:
        entry = self.waiting[self.at]
        return entry.unowed() if self.unowed else entry

    def next(self) -> _Head | None:
        """The same list without it."""
        at = self.at + 1
        if at == len(self.waiting):
            return None
        key = self.waiting[at].key
        return _Head(unowed_key(key) if self.unowed else key, self.waiting, at, self.alike, self.unowed)


class Turns:
    """One pass over the lanes, best first. Whoever asks says after each turn what came of it.

    Inside a lane the jobs go by their keys; under `fair` the project, then the user, that used least has the next turn,
    and each start is charged at once to who gets it. hopeless: what jobs are alike in -> the score from which on they
    have no turn, for one that is alike failed.
    """

    def __init__(
        self, lanes: Lanes, usage: Mapping[tuple[str, str], float], projects: Mapping[str, Project]
    ) -> None:
        self.hopeless: dict[Hashable, float] = {}
        self._lanes, self._usage, self._projects = lanes, usage, projects
        self._to_come = sorted(lanes.lists, reverse=True)
        self._later: dict[LaneKey, dict[Owner, list[_Head]]] = {}
        self._owners: dict[Owner, _Waiting] = {}
        self._turn: tuple[Owner, _Head] | None = None
        self._served = self._revived = False

    def served(self) -> None:
        """Who had the last turn starts, or others make room for it."""
        self._served = True

    def fails(self, entry: Ranked, score: float = -math.inf) -> None:
        """Nobody that is alike has a turn from this score on."""
        self.hopeless[entry.alike] = min(score, self.hopeless.get(entry.alike, math.inf))

    def later(self) -> None:
        """Who had the last turn, and all that are alike, are owed nothing any more: their lane is still to come."""
        assert self._turn is not None
        owner, head = self._turn
        moved = _Head.of(head.waiting, head.at, unowed=True)
        lane = moved.key[:4]
        if lane not in self._to_come:
            insort(self._to_come, lane, key=_descending)
        self._later.setdefault(lane, {}).setdefault(owner, []).append(moved)
        self._owners[owner].leave(head.waiting)

    def revive(self) -> None:
        """There is more to be had than when others failed: those of this lane, and all to come, may try again."""
        self.hopeless.clear()
        self._revived = True

    def __iter__(self) -> Iterator[Ranked]:
        while self._to_come:
            lane = self._to_come.pop()
            self._owners = {}
            for owner, alike in self._lanes.lists.get(lane, {}).items():
                self._owners.setdefault(owner, _Waiting()).add(map(_Head.of, alike.values()))
            for owner, heads in self._later.get(lane, {}).items():
                self._owners.setdefault(owner, _Waiting()).add(heads)
            yield from self._shared() if len(self._owners) > 1 else self._alone()

    def _alone(self) -> Iterator[Ranked]:
        ((owner, waiting),) = self._owners.items()
        while (head := waiting.head(self.hopeless)) is not None:
            waiting.advance()
            self._turn = (owner, head)
            yield head.entry
            if self._revived:
                waiting.revive()
                self._revived = False

    def _shared(self) -> Iterator[Ranked]:
        """The project that used least for its weight has the turn, in it the user that used least.

        Of equal usage, whose next job comes first.
        """
        mine = {owner: self._usage.get(owner, 0.0) for owner in self._owners}
        used: dict[str, float] = dict.fromkeys((project for project, _ in self._owners), 0.0)
        for (project, _), gpu_s in self._usage.items():
            if project in used:
                used[project] += gpu_s
        weight = {name: self._projects[name].weight if name in self._projects else 1.0 for name in used}
        charged = {name: used[name] / weight[name] for name in used}
        users_of, heap = self._heaps(mine, charged)
        while heap:
            _, _, name = heapq.heappop(heap)
            users = users_of[name]
            _, key, user = heapq.heappop(users)
            owner = (name, user)
            waiting = self._owners[owner]
            head = waiting.head(self.hopeless)
            if head is not None and head.key == key:
                waiting.advance()
                self._turn, self._served = (owner, head), False
                yield head.entry
                if self._served:
                    cost = head.entry.job.spec.resources.gpus * CHARGE_S
                    mine[owner] += cost
                    charged[name] += cost / weight[name]
                if self._revived:
                    for one in self._owners.values():
                        one.revive()
                    self._revived = False
                    users_of, heap = self._heaps(mine, charged)
                    continue
                head = waiting.head(self.hopeless)
            if head is not None:
                heapq.heappush(users, (mine[owner], head.key, user))
            if users:
                heapq.heappush(heap, (charged[name], users[0][1], name))

    def _heaps(
        self, mine: Mapping[Owner, float], charged: Mapping[str, float]
    ) -> tuple[dict[str, list[tuple[float, LaneKey, str]]], list[tuple[float, LaneKey, str]]]:
        """By project, its users with a turn to come; and the projects that have such."""
        users_of: dict[str, list[tuple[float, LaneKey, str]]] = {}
        for owner, waiting in self._owners.items():
            head = waiting.head(self.hopeless)
            if head is not None:
                users_of.setdefault(owner[0], []).append((mine[owner], head.key, owner[1]))
        for users in users_of.values():
            heapq.heapify(users)
        heap = [(charged[name], users[0][1], name) for name, users in users_of.items()]
        heapq.heapify(heap)
        return users_of, heap


class _Waiting:
    """One owner's jobs in a lane: the heads of its lists, and those whose rest is hopeless."""

    __slots__ = ("_dropped", "_heads")

    def __init__(self) -> None:
        self._heads: list[tuple[LaneKey, _Head]] = []
        self._dropped: list[tuple[LaneKey, _Head]] = []

    def add(self, heads: Iterable[_Head]) -> None:
        self._heads += [(head.key, head) for head in heads]
        heapq.heapify(self._heads)

    def head(self, hopeless: Mapping[Hashable, float]) -> _Head | None:
        """Whose turn is next."""
        heads = self._heads
        while heads:
            head = heads[0][1]
            least = hopeless.get(head.alike)
            if least is None or head.waiting[head.at].score < least:
                return head
            self._dropped.append(heapq.heappop(heads))  # the scores of a list rise
        return None

    def advance(self) -> None:
        after = self._heads[0][1].next()
        if after is None:
            heapq.heappop(self._heads)
        else:
            heapq.heapreplace(self._heads, (after.key, after))

    def leave(self, waiting: list[Ranked]) -> None:
        """The rest of a list is elsewhere."""
        self._heads = [one for one in self._heads if one[1].waiting is not waiting]
        heapq.heapify(self._heads)

    def revive(self) -> None:
        for one in self._dropped:
            heapq.heappush(self._heads, one)
        self._dropped.clear()


def _descending(lane: LaneKey) -> LaneKey:
    return tuple(-part for part in lane)


def in_order(
    queue: Iterable[Ranked],
    usage: Mapping[tuple[str, str], float],
    projects: Mapping[str, Project],
    rules: Rules,
) -> Iterator[Ranked]:
    """The queue, best first, if everybody is served."""
    lanes = Lanes(rules.policy == "fair")
    for entry in queue:
        lanes.add(entry)
    turns = Turns(lanes, usage, projects)
    for entry in turns:
        turns.served()
        yield entry
