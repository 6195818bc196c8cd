"""The queue of one plan: who is served next, given who was served and who can't be."""

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
class QueueLanes:
    """Ranked jobs by lane (class, owed, urgent, nominated), in it by owner, and there by equivalence.

    Each list is in the order of its keys. by_owner: whether owners take turns (`fair`); else all are nobody's.
    """

    by_owner: bool
    lists: dict[LaneKey, dict[Owner, dict[Hashable, list[Ranked]]]] = field(default_factory=dict)

    def add(self, entry: Ranked) -> None:
        owners = self.lists.setdefault(entry.key[:4], {})
        lists = owners.setdefault(self.owner(entry), {})
        waiting = lists.get(entry.equivalence)
        if waiting is None:
            lists[entry.equivalence] = [entry]
        else:
            insort(waiting, entry, key=_key)

    def remove(self, entry: Ranked) -> None:
        lane, owner = entry.key[:4], self.owner(entry)
        waiting = self.lists[lane][owner][entry.equivalence]
        del waiting[bisect_left(waiting, entry.key, key=_key)]
        if not waiting:
            del self.lists[lane][owner][entry.equivalence]
            if not self.lists[lane][owner]:
                del self.lists[lane][owner]
                if not self.lists[lane]:
                    del self.lists[lane]

    def __iter__(self) -> Iterator[Ranked]:
        """All of them, in no order that means anything."""
        for owners in self.lists.values():
            for lists in owners.values():
                for waiting in lists.values():
                    yield from waiting

    def owner(self, entry: Ranked) -> Owner:
        """Whose turn it takes."""
        return (entry.job.project, entry.job.user) if self.by_owner else NOBODY


@dataclass(slots=True)
class _Cursor:
    """The first of a list that had no turn yet. key: of that one; unowed: its project has what it is guaranteed."""

    key: LaneKey
    entries: list[Ranked]
    at: int
    equivalence: Hashable
    unowed: bool

    @classmethod
    def of(cls, entries: list[Ranked], at: int = 0, unowed: bool = False) -> _Cursor:
        entry = entries[at].unowed() if unowed else entries[at]
        return cls(entry.key, entries, at, entry.equivalence, unowed)

    @property
    def entry(self) -> Ranked:
        entry = self.entries[self.at]
        return entry.unowed() if self.unowed else entry

    def next(self) -> _Cursor | None:
        """The same list without it."""
        at = self.at + 1
        if at == len(self.entries):
            return None
        key = self.entries[at].key
        return _Cursor(
            unowed_key(key) if self.unowed else key, self.entries, at, self.equivalence, self.unowed
        )


class FairShareQueue:
    """The jobs of one plan, best first: pop() gives the next, charge() says that it was served.

    Inside a lane the jobs go by their keys; under `fair` the project, then the user, that used least has the next turn,
    and each start is charged at once to who gets it. hopeless: equivalence -> the score from which on its
    jobs have no turn, for one of them failed. The lanes stay as they are.
    """

    def __init__(
        self, lanes: QueueLanes, usage: Mapping[tuple[str, str], float], projects: Mapping[str, Project]
    ) -> None:
        self.hopeless: dict[Hashable, float] = {}
        self._lanes, self._usage, self._projects = lanes, usage, projects
        self._to_come = sorted(lanes.lists, reverse=True)
        self._demoted: dict[LaneKey, dict[Owner, list[_Cursor]]] = {}
        self._owners: dict[Owner, _OwnerQueue] = {}  # of the lane that is being served
        self._popped: tuple[Owner, _Cursor] | None = None
        self._share: _Share | None = None  # where several owners are in that lane
        self._revived = False

    def pop(self) -> Ranked | None:
        """Who has the next turn; None once nobody has."""
        self._put_back()
        while True:
            found = self._next()
            if found is not None:
                owner, cursor = self._popped = found
                self._owners[owner].advance()
                return cursor.entry
            if not self._to_come:
                return None
            self._enter(self._to_come.pop())

    def charge(self, entry: Ranked) -> None:
        """One that was popped starts, or others make room for it: its owner is charged for it."""
        if self._share is not None:
            self._share.charge(self._lanes.owner(entry), entry.job.spec.resources.gpus * CHARGE_S)

    def fail(self, entry: Ranked, score: float = -math.inf) -> None:
        """Nobody that is alike has a turn from this score on."""
        self.hopeless[entry.equivalence] = min(score, self.hopeless.get(entry.equivalence, math.inf))

    def demote(self) -> None:
        """Who was popped last, and all that are alike, are owed nothing any more: their lane is still to come."""
        assert self._popped is not None
        owner, cursor = self._popped
        moved = _Cursor.of(cursor.entries, cursor.at, unowed=True)
        lane = moved.key[:4]
        if lane not in self._to_come:
            insort(self._to_come, lane, key=_descending)
        self._demoted.setdefault(lane, {}).setdefault(owner, []).append(moved)
        self._owners[owner].leave(cursor.entries)

    def revive(self) -> None:
        """There is more available than when others failed: those of this lane, and all to come, may try again."""
        self.hopeless.clear()
        self._revived = True

    def _enter(self, lane: LaneKey) -> None:
        """Serve this lane from now on."""
        self._owners = {}
        for owner, lists in self._lanes.lists.get(lane, {}).items():
            self._owners.setdefault(owner, _OwnerQueue()).add(map(_Cursor.of, lists.values()))
        for owner, cursors in self._demoted.get(lane, {}).items():
            self._owners.setdefault(owner, _OwnerQueue()).add(cursors)
        self._share = None
        if len(self._owners) > 1:
            self._share = _Share(self._owners, self._usage, self._projects)
            self._share.fill(self._owners, self.hopeless)

    def _next(self) -> tuple[Owner, _Cursor] | None:
        """Whose turn it is in this lane; under `fair` that owner is out of the heaps until it is put back."""
        if self._share is None:
            for owner, queue in self._owners.items():  # one at the most
                cursor = queue.first(self.hopeless)
                return None if cursor is None else (owner, cursor)
            return None
        while (turn := self._share.pop()) is not None:
            owner, key = turn
            cursor = self._owners[owner].first(self.hopeless)
            if cursor is not None and cursor.key == key:
                return owner, cursor
            self._share.push(owner, cursor)  # that one is hopeless by now
        return None

    def _put_back(self) -> None:
        """The owner of who was popped last may have another turn, by what it was charged."""
        popped, self._popped = self._popped, None
        if self._revived:
            self._revived = False
            for one in self._owners.values():
                one.revive()
            if self._share is not None:
                self._share.fill(self._owners, self.hopeless)
        elif popped is not None and self._share is not None:
            owner = popped[0]
            self._share.push(owner, self._owners[owner].first(self.hopeless))


class _Share:
    """The owners of a lane by what they used: the project that used least for its weight, in it the user that did.

    Of equal usage, whose next job comes first. mine: by owner; charged: by project, for its weight.
    """

    def __init__(
        self,
        owners: Iterable[Owner],
        usage: Mapping[tuple[str, str], float],
        projects: Mapping[str, Project],
    ) -> None:
        used: dict[str, float] = dict.fromkeys((project for project, _ in owners), 0.0)
        for (project, _), gpu_s in usage.items():
            if project in used:
                used[project] += gpu_s
        self._weight = {name: projects[name].weight if name in projects else 1.0 for name in used}
        self._mine = {owner: usage.get(owner, 0.0) for owner in owners}
        self._charged = {name: used[name] / self._weight[name] for name in used}
        self._users: dict[str, list[tuple[float, LaneKey, str]]] = {}
        self._heap: list[tuple[float, LaneKey, str]] = []

    def fill(self, owners: Mapping[Owner, _OwnerQueue], hopeless: Mapping[Hashable, float]) -> None:
        """By project, its users with a turn to come; and the projects that have such."""
        self._users = {}
        for owner, queue in owners.items():
            if (cursor := queue.first(hopeless)) is not None:
                self._users.setdefault(owner[0], []).append((self._mine[owner], cursor.key, owner[1]))
        for users in self._users.values():
            heapq.heapify(users)
        self._heap = [(self._charged[name], users[0][1], name) for name, users in self._users.items()]
        heapq.heapify(self._heap)

    def pop(self) -> tuple[Owner, LaneKey] | None:
        """Whose turn it is, and the key of the job that it had then; until it is pushed, its project has none."""
        if not self._heap:
            return None
        _, _, name = heapq.heappop(self._heap)
        _, key, user = heapq.heappop(self._users[name])
        return (name, user), key

    def push(self, owner: Owner, cursor: _Cursor | None) -> None:
        """An owner that was popped may have another turn, with this job, None: it has none left."""
        name, user = owner
        users = self._users[name]
        if cursor is not None:
            heapq.heappush(users, (self._mine[owner], cursor.key, user))
        if users:
            heapq.heappush(self._heap, (self._charged[name], users[0][1], name))

    def charge(self, owner: Owner, gpu_s: float) -> None:
        self._mine[owner] += gpu_s
        self._charged[owner[0]] += gpu_s / self._weight[owner[0]]


class _OwnerQueue:
    """One owner's jobs in a lane: the cursors of its lists, and those whose rest is hopeless."""

    __slots__ = ("_cursors", "_dropped")

    def __init__(self) -> None:
        self._cursors: list[tuple[LaneKey, _Cursor]] = []
        self._dropped: list[tuple[LaneKey, _Cursor]] = []

    def add(self, cursors: Iterable[_Cursor]) -> None:
        self._cursors += [(cursor.key, cursor) for cursor in cursors]
        heapq.heapify(self._cursors)

    def first(self, hopeless: Mapping[Hashable, float]) -> _Cursor | None:
        """Whose turn is next."""
        cursors = self._cursors
        while cursors:
            cursor = cursors[0][1]
            least = hopeless.get(cursor.equivalence)
            if least is None or cursor.entries[cursor.at].score < least:
                return cursor
            self._dropped.append(heapq.heappop(cursors))  # the scores of a list rise
        return None

    def advance(self) -> None:
        after = self._cursors[0][1].next()
        if after is None:
            heapq.heappop(self._cursors)
        else:
            heapq.heapreplace(self._cursors, (after.key, after))

    def leave(self, entries: list[Ranked]) -> None:
        """The rest of a list is elsewhere."""
        self._cursors = [one for one in self._cursors if one[1].entries is not entries]
        heapq.heapify(self._cursors)

    def revive(self) -> None:
        for one in self._dropped:
            heapq.heappush(self._cursors, one)
        self._dropped.clear()


def _descending(lane: LaneKey) -> LaneKey:
    return tuple(-part for part in lane)


def in_order(
    ranked: Iterable[Ranked],
    usage: Mapping[tuple[str, str], float],
    projects: Mapping[str, Project],
    rules: Rules,
) -> Iterator[Ranked]:
    """These jobs, best first, if everybody is served."""
    lanes = QueueLanes(rules.policy == "fair")
    for one in ranked:
        lanes.add(one)
    queue = FairShareQueue(lanes, usage, projects)
    while (entry := queue.pop()) is not None:
        queue.charge(entry)
        yield entry
