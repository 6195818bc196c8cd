"""Stock: the fleet's cards by shelf, which of them are free, and which shelves suit which kind of job."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

from jobs.memory.ladder import Choice, preference
from jobs.state import Reason
from orchestrator.scheduler.cache.pending_queue import Line
from orchestrator.scheduler.cache.running_index import Roll
from orchestrator.scheduler.fleet import Fleet, Gpu, Host, NoProfile, Running, Waiting
from orchestrator.scheduler.job_class import MOST_FITS, Fits, Kept, Kind, Profiles, Tier
from orchestrator.scheduler.placement.card_groups import Alike, Shelf, Spot, sameness
from orchestrator.scheduler.placement.place import Chooser
from orchestrator.scheduler.policy import Rules


@dataclass
class Stock:
    """What a plan draws on. A caller that keeps count itself (a simulation) passes one on from plan to plan.

    free: by shelf, the cards that nobody holds, in the order of their index; sizes: all of its cards; room: bytes left
    on cards that are shared; on: jobs by shared card; roll: the running jobs, where the caller keeps count of them;
    line: the waiting jobs by rank, as the caller keeps them from plan to plan; base: what was free before a plan.
    """

    hosts: tuple[Host, ...]
    profiles: Profiles
    chooser: Chooser
    fits: Fits
    shelves: list[Shelf] = field(default_factory=list)
    free: list[tuple[Gpu, ...]] = field(default_factory=list)
    room: dict[int, int] = field(default_factory=dict)
    on: dict[int, frozenset[int]] = field(default_factory=dict)
    shelf_of: dict[int, int] = field(default_factory=dict)
    gpu_of: dict[int, Gpu] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    roll: Roll | None = None
    line: Line = field(default_factory=Line)
    base: Sequence[tuple[Gpu, ...]] = ()
    _alike: list[Alike] = field(default_factory=list)
    _kept: Kept = field(default_factory=lambda: Kept(()))
    _kinds: dict[Hashable, Kind] = field(default_factory=dict)
    _places: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = field(default_factory=dict)
    # By the shelves of kinds, how many cards none of them has free: in a plan they only get fewer, but by give().
    _lacks: dict[int, int] = field(default_factory=dict)
    _wholes: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, fleet: Fleet, chooser: Chooser, fits: Fits | None = None, line: Line | None = None) -> Stock:
        """The cards of a fleet as its hosts and its running jobs say. fits, line: what is known from earlier plans."""
        hosts = tuple(sorted(fleet.hosts, key=lambda host: host.id))
        made = cls(hosts, fleet.profiles, chooser, fits or Fits(), line=line or Line())
        alike: dict[Hashable, list[Host]] = {}
        for host in made.hosts:
            alike.setdefault(sameness(host), []).append(host)
            made._shelve(host)
        made._alike = [made._group(made.fits.number(key), hosts) for key, hosts in alike.items()]
        layout = tuple((one.number, one.names, tuple(one.shelves.items())) for one in made._alike)
        made._kept = made.fits.kept(layout)
        shared: dict[int, int] = {}
        cleared = {gpu_id for job in fleet.running if job.stopping_for is not None for gpu_id in job.gpu_ids}
        for job in fleet.running:
            for gpu_id in job.gpu_ids:
                if job.shares:
                    shared[gpu_id] = shared.get(gpu_id, 0) + job.upper_bytes
                    made.on[gpu_id] = made.on.get(gpu_id, frozenset()) | {job.job_id}
        made.take(gpu_id for job in fleet.running for gpu_id in job.gpu_ids)
        made.room = {
            gpu_id: made.gpu_of[gpu_id].memory_bytes - used
            for gpu_id, used in shared.items()
            if gpu_id in made.gpu_of
            and gpu_id not in cleared
            and made.shelves[made.shelf_of[gpu_id]].host.takes
        }
        return made

    def _shelve(self, host: Host) -> None:
        types: dict[tuple[str, int], list[Gpu]] = {}
        for gpu in host.gpus:
            if gpu.usable:
                types.setdefault((gpu.name, gpu.memory_bytes), []).append(gpu)
        for group in types.values():
            place = len(self.shelves)
            self.shelves.append(Shelf(host, tuple(group)))
            self.sizes.append(len(group))
            self.free.append(tuple(gpu for gpu in group if gpu.held_by is None) if host.takes else ())
            for gpu in group:
                self.shelf_of[gpu.id] = place
                self.gpu_of[gpu.id] = gpu

    def _group(self, number: int, hosts: Sequence[Host]) -> Alike:
        shelves: dict[tuple[str, int], list[int]] = {}
        for host in hosts:
            for place in dict.fromkeys(self.shelf_of[gpu.id] for gpu in host.gpus if gpu.usable):
                first = self.shelves[place].gpus[0]
                shelves.setdefault((first.name, first.memory_bytes), []).append(place)
        names = tuple(host.name for host in hosts)
        return Alike(number, hosts[0], names, {kind: tuple(places) for kind, places in shelves.items()})

    def take(self, gpu_ids: Iterable[int]) -> None:
        """These cards are held now."""
        held = {gpu_id: place for gpu_id in gpu_ids if (place := self.shelf_of.get(gpu_id)) is not None}
        for place in set(held.values()):
            self.free[place] = tuple(gpu for gpu in self.free[place] if gpu.id not in held)

    def give(self, gpu_ids: Iterable[int]) -> None:
        """These cards are free again."""
        self._lacks.clear()
        self._wholes.clear()
        back: dict[int, list[Gpu]] = {}
        for gpu_id in gpu_ids:
            back.setdefault(self.shelf_of[gpu_id], []).append(self.gpu_of[gpu_id])
        for place, gpus in back.items():
            self.free[place] = tuple(sorted((*self.free[place], *gpus), key=_index))

    def places(self, gpu_ids: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The shelves of a job's cards, each with how many are on it."""
        found = self._places.get(gpu_ids)
        if found is None:
            counts: dict[int, int] = {}
            for gpu_id in gpu_ids:
                if (place := self.shelf_of.get(gpu_id)) is not None:
                    counts[place] = counts.get(place, 0) + 1
            found = self._places[gpu_ids] = tuple(counts.items())
        return found

    def to_itself(self, job: Running) -> bool:
        """Whether nobody else lies on its cards, so that they are free once it has gone."""
        return not job.shares or all(self.on.get(gpu_id) == {job.job_id} for gpu_id in job.gpu_ids)

    def copy(self) -> Stock:
        """One to plan with: taking from it leaves this one as it is. What kinds there are stays common."""
        made = Stock.__new__(Stock)
        made.__dict__.update(self.__dict__)
        made.free, made.room, made.on, made.base = [*self.free], {**self.room}, {**self.on}, self.free
        made._lacks, made._wholes = {}, {}
        return made

    def roll_of(self, running: Iterable[Running]) -> Roll:
        """These jobs by shelf, with what is free as it was before the plan."""
        return Roll.of(running, self.base or self.free, self.sizes, self.places)

    def ready(self, fleet: Fleet, rules: Rules, now: float) -> Roll:
        """The running jobs by shelf, for a plan: as the caller keeps them, or as the fleet says."""
        roll = self.roll or self.roll_of(fleet.running)
        roll.ready(rules, fleet.projects, now)
        return roll

    def kind(self, job: Waiting) -> Kind:
        """The kind of a job, worked out once for all of its shape."""
        shape = job.job_id if job.shape is None else job.shape
        found = self._kinds.get(shape)
        if found is None:
            found = self._kinds[shape] = self._sorted(job) if job.shape is None else self._known(job)
        return found

    def _known(self, job: Waiting) -> Kind:
        """The kind of a job's shape from an earlier plan, unless one of its profiles is another now."""
        profiles = tuple(self.profiles.get(key) for key in job.keys.values())
        kept = self._kept.kinds.get(job.shape)
        if kept is not None and all(map(_same, kept[0], profiles)):
            return kept[1]
        if len(self._kept.kinds) >= MOST_FITS:
            self._kept.kinds.clear()
        found = self._sorted(job)
        self._kept.kinds[job.shape] = (profiles, found)
        return found

    def kind_on(self, job: Waiting, kind: Kind, host_id: int) -> Kind | None:
        """A job's kind on one host alone, None where that host could not take it."""
        shape = (job.job_id if job.shape is None else job.shape, host_id)
        found = self._kinds.get(shape)
        if found is None:
            mine = frozenset(place for place in kind.shelves if self.shelves[place].host.id == host_id)
            tiers = [
                replace(tier, shelves=tuple(place for place in tier.shelves if place in mine))
                for tier in kind.tiers
            ]
            kept = tuple(tier for tier in tiers if tier.shelves)
            found = self._kinds[shape] = replace(kind, tiers=kept, shelves=mine)
        return found if found.tiers else None

    def kind_with(self, job: Waiting, kind: Kind, host_id: int) -> Kind | None:
        """The kind of a gang that takes cards of this host among others, None where the host could not take part."""
        shape = (job.job_id if job.shape is None else job.shape, host_id, "among others")
        found = self._kinds.get(shape)
        if found is None:
            home = frozenset(place for place in kind.shelves if self.shelves[place].host.id == host_id)
            # Shelves of its own: what failed for jobs that go anywhere is known by the object.
            found = self._kinds[shape] = replace(kind, home=home, shelves=frozenset([*kind.shelves]))
        return found if found.home else None

    def _sorted(self, job: Waiting) -> Kind:
        need = job.spec.resources
        tiers: dict[tuple[object, ...], tuple[Choice, tuple[float, ...], list[tuple[int, ...]]]] = {}
        misfits: dict[str, Reason] = {}
        most = 0
        for alike in self._alike:
            found = self.fits.options(job, alike.first, alike.number, self.profiles, self.chooser)
            if isinstance(found, Reason):
                misfits |= dict.fromkeys(alike.names, found)
                continue
            for option in found:
                first = option.gpus[0]
                wanted = preference(need.policy, first.card, option.choice)
                for shaky, places in self._by_trust(job, alike.shelves[first.name, first.memory_bytes]):
                    key = (float(shaky), *wanted)
                    # Ranks on several hosts must have the same libraries.
                    stack = alike.first.stack_id if job.across else ""
                    same = (key, first.name, option.choice.rung, stack)
                    entry = tiers.setdefault(same, (option.choice, key, []))
                    entry[2].append(places)
                    most = max(most, len(option.gpus))
        ordered = sorted(tiers.values(), key=lambda entry: entry[1])
        return Kind(
            need.gpus,
            job.across,
            job.shares,
            tuple(Tier(choice, self._joined(places), key) for choice, key, places in ordered),
            misfits,
            most,
            self._reach([block for _, _, places in ordered for block in places]),
            need.policy,
            job.apart,
        )

    def _by_trust(self, job: Waiting, places: tuple[int, ...]) -> Iterator[tuple[bool, tuple[int, ...]]]:
        """The shelves apart from those of hosts that let the job down; then these, with all where it may span hosts."""
        if not job.shaky:
            yield False, places
            return
        for wanted in (False, True):
            found = tuple(place for place in places if (self.shelves[place].host.id in job.shaky) is wanted)
            if wanted and job.across:
                found = places
            if found:
                yield wanted, found

    def _joined(self, blocks: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Shelves in order. Most kinds have the same: worked out once, and one object, which is equal at a glance."""
        key = tuple(sorted(blocks))
        found = self._kept.joins.get(key)
        if found is None:
            found = self._kept.joins[key] = tuple(sorted(place for block in blocks for place in block))
        return found

    def _reach(self, blocks: Sequence[tuple[int, ...]]) -> frozenset[int]:
        places = self._joined(blocks)
        found = self._kept.reaches.get(places)
        if found is None:
            found = self._kept.reaches[places] = frozenset(places)
        return found

    def fit(self, kind: Kind, allows: Callable[[int, Choice], bool] | None = None) -> Spot | None:
        """Free cards for one job of a kind: the best tier that has them, and there the fullest shelf.

        Where there are none, one that others share, if it shares. allows: whether a job that runs so may use a shelf's
        free cards, None: any.
        """
        found = self._alone(kind, allows)
        return self.beside(kind, allows) if found is None and kind.shares else found

    def _alone(self, kind: Kind, allows: Callable[[int, Choice], bool] | None) -> Spot | None:
        need, free = kind.gpus, self.free
        if not kind.gang:
            if self._lacks.get(id(kind.shelves), need + 1) <= need:
                return None
            for tier in kind.tiers:
                best, least = -1, 1 << 30
                for place in tier.shelves:
                    count = len(free[place])
                    if need <= count < least and (allows is None or allows(place, tier.choice)):
                        best, least = place, count
                        if count == need:
                            break
                if best >= 0:
                    return Spot(((best, free[best][:need]),), tier.choice)
            if allows is None:
                self._lacks[id(kind.shelves)] = need
            return None
        if not kind.across:
            return None
        if allows is not None:
            choice = kind.tiers[0].choice
            free = [gpus if allows(place, choice) else () for place, gpus in enumerate(free)]
        return self.span(kind, free)

    def _whole(self, shelves: tuple[int, ...]) -> list[int]:
        """Those of which every card is free. In a plan they only get fewer, but by give()."""
        free, sizes = self.free, self.sizes
        known = self._wholes.get(id(shelves), shelves)
        found = self._wholes[id(shelves)] = [place for place in known if len(free[place]) == sizes[place]]
        return found

    def span(self, kind: Kind, free: Sequence[Sequence[Gpu]]) -> Spot | None:
        """Whole hosts, and one more for the remainder, the fullest that has it."""
        sizes = self.sizes
        for tier in kind.tiers:
            left, parts = kind.gpus, []
            whole = [place for place in self._whole(tier.shelves) if len(free[place]) == sizes[place]]
            if not whole:
                continue  # no shelf alone has enough for a gang
            whole.sort(key=lambda place: (place not in kind.home, -len(free[place])))
            used = set()
            for place in whole:
                if left < len(free[place]):
                    break
                parts.append((place, tuple(free[place])))
                used.add(place)
                left -= len(free[place])
            if left:
                rest = [place for place in tier.shelves if place not in used and len(free[place]) >= left]
                if kind.home and used.isdisjoint(kind.home):
                    rest = [place for place in rest if place in kind.home]
                if not rest:
                    continue
                last = min(rest, key=lambda place: len(free[place]))
                parts.append((last, tuple(free[last][:left])))
            if kind.home and kind.home.isdisjoint(place for place, _ in parts):
                continue
            return Spot(tuple(parts), tier.choice)
        return None

    def beside(self, kind: Kind, allows: Callable[[int, Choice], bool] | None = None) -> Spot | None:
        """A card that others share and that has room for this job's upper bound; the fullest such."""
        if kind.gpus != 1 or not self.room:
            return None
        for tier in kind.tiers:
            need = tier.choice.projection.upper_bytes
            shelves = {place for place in tier.shelves if allows is None or allows(place, tier.choice)}
            fitting = [
                (left, gpu_id)
                for gpu_id, left in self.room.items()
                if left >= need and self.shelf_of[gpu_id] in shelves and not kind.apart & self.on[gpu_id]
            ]
            if fitting:
                gpu = self.gpu_of[min(fitting)[1]]
                return Spot(((self.shelf_of[gpu.id], (gpu,)),), tier.choice, side=True)
        return None

    def draw(self, spot: Spot, shares: bool, job_id: int = 0) -> None:
        """Take a spot's cards. job_id: for whom, where it shares them."""
        if shares:
            for gpu in spot.gpus:
                self.on[gpu.id] = (self.on[gpu.id] if spot.side else frozenset()) | {job_id}
        for place, gpus in spot.parts:
            if spot.side:
                self.room[gpus[0].id] -= spot.choice.projection.upper_bytes
                continue
            taken = {gpu.id for gpu in gpus}
            self.free[place] = tuple(gpu for gpu in self.free[place] if gpu.id not in taken)
            if shares:
                for gpu in gpus:
                    self.room[gpu.id] = gpu.memory_bytes - spot.choice.projection.upper_bytes


_index = attrgetter("index")


def _same(one: object, other: object) -> bool:
    """Whether a profile is the one it was; two that are being traced are the same."""
    return one is other or (isinstance(one, NoProfile) and one == other)
