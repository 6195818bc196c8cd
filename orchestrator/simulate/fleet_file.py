"""A fleet in a file -> hosts and what projects may count on; YAML, or a CSV of virtual clusters."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jobs.cards import Card, check_prices, price_of, read_card
from jobs.errors import Fault, SpecError, UsageError
from jobs.jobfile.loader import MAX_FILE_BYTES, parse_yaml
from jobs.units import gib
from orchestrator.scheduler.fleet import Gpu, Host, Project

POOL = "pool"  # the label that confines: a job of a pool runs on hosts that carry its name
MAX_GPUS = 100_000
MAX_GPUS_A_HOST = 64
VC_COLUMNS = ("vc", "nodes", "gpus")
VC_CARD = "v100-16gb"  # of a cluster in a CSV, where nobody says which
HOST_KEYS = ("name", "count", "gpus", "card", "memory", "labels", "pool")
PROJECT_KEYS = ("guarantee", "weight", "borrows")
FILE_KEYS = ("hosts", "projects", "prices")


@dataclass(frozen=True)
class FleetFile:
    """What a file says. warnings: for people, of what is odd and yet can be simulated."""

    source: str
    hosts: tuple[Host, ...]
    projects: Mapping[str, Project] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def gpus(self) -> int:
        return sum(len(host.gpus) for host in self.hosts)

    @property
    def pools(self) -> dict[str, int]:
        """GPUs of each pool; hosts of none are left out."""
        found: dict[str, int] = {}
        for host in self.hosts:
            if pool := host.labels.get(POOL):
                found[pool] = found.get(pool, 0) + len(host.gpus)
        return found

    @property
    def cards(self) -> dict[str, int]:
        """GPUs of each type, by the name that people see."""
        found: dict[str, int] = {}
        for host in self.hosts:
            for gpu in host.gpus:
                found[gpu.label] = found.get(gpu.label, 0) + 1
        return found


def load_fleet(path: Path) -> FleetFile:
    """The fleet in a .yaml file, or in a .csv with the columns vc, nodes, gpus.

    Raises SpecError with every fault, UsageError where the file can't be read.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UsageError(
                f"{path} has over {MAX_FILE_BYTES} bytes; hosts alike share an entry with a count"
            )
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from None
    return read_clusters(text, str(path)) if path.suffix.lower() == ".csv" else read_fleet(text, str(path))


def read_fleet(text: str, source: str) -> FleetFile:
    """The fleet in the text of a YAML file. Raises SpecError with every fault."""
    made = _Reader(source)
    value = parse_yaml(
        text, source, "a fleet file", "it has a list of hosts, each with a count, gpus and a card"
    )
    made.keys("", value, FILE_KEYS)
    prices: dict[str, float] = {}
    try:
        prices = check_prices(value.get("prices", {}))
    except UsageError as error:
        made.fault("prices", value["prices"], str(error))
    entries = value.get("hosts")
    if not isinstance(entries, list) or not entries:
        made.fault("hosts", entries, "is not a list of hosts", "write - {count: 4, gpus: 8, card: h100}")
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        made.hosts_of(f"hosts[{index}]", entry, prices)
    projects = made.projects_of(value.get("projects", {}))
    return made.done(projects)


def read_clusters(text: str, source: str, card: str = VC_CARD) -> FleetFile:
    """The fleet in a CSV with a line for each virtual cluster: its hosts carry the label pool. Raises SpecError."""
    made = _Reader(source)
    rows = list(csv.reader(text.splitlines()))
    header = [cell.strip() for cell in rows[0]] if rows else []
    if sorted(header) != sorted(VC_COLUMNS):
        made.fault("line 1", ",".join(header), "is another header", f"write {','.join(VC_COLUMNS)}")
        made.end()
    for line, cells in enumerate(rows[1:], 2):
        if not any(cells):
            continue
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        numbers = [row.get("nodes", ""), row.get("gpus", "")]
        if len(cells) != len(header) or not all(n.isascii() and n.isdigit() and int(n) for n in numbers):
            made.fault(f"line {line}", ",".join(cells), "is no cluster", "write a name and two whole numbers")
        elif int(row["gpus"]) % int(row["nodes"]):
            fix = "gpus is the sum over its nodes, which are alike"
            made.fault(f"line {line}, gpus", row["gpus"], f"is no multiple of {row['nodes']} nodes", fix)
        else:
            gpus = int(row["gpus"]) // int(row["nodes"])
            entry = {
                "count": int(row["nodes"]),
                "gpus": gpus,
                "card": card,
                POOL: row["vc"],
                "name": row["vc"],
            }
            made.hosts_of(f"line {line}", entry, {})
    if not made.hosts:
        made.fault("file", "", "has no cluster", "write a line for each")
    return made.done({})


@dataclass
class _Reader:
    """Faults and hosts as they come up."""

    source: str
    faults: list[Fault] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    gpu_count: int = 0
    names: set[str] = field(default_factory=set)

    def fault(self, path: str, given: object, problem: str, fix: str = "") -> None:
        self.faults.append(Fault(path, "" if given is None else str(given)[:80], problem, fix))

    def end(self) -> None:
        if self.faults:
            raise SpecError(self.faults, self.source)

    def done(self, projects: Mapping[str, Project]) -> FleetFile:
        self.end()
        made = FleetFile(self.source, tuple(self.hosts), projects)
        return replace(made, warnings=tuple(guarantee_warnings(projects, made.gpus)))

    def keys(self, path: str, value: Mapping[Any, Any], known: tuple[str, ...]) -> None:
        for key in value:
            if key in known:
                continue
            close = get_close_matches(str(key), known, n=1, cutoff=0.6)
            fix = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
            self.fault(f"{path}.{key}".lstrip("."), value[key], "unknown key", fix)

    def whole(self, path: str, value: object, least: int, most: int) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.fault(path, value, "is no such number", f"write a whole number from {least} to {most:,}")
        return least

    def hosts_of(self, path: str, entry: object, prices: Mapping[str, float]) -> None:
        """Adds the hosts of one entry."""
        if not isinstance(entry, dict):
            self.fault(path, entry, "is not a mapping of keys", "write {count: 4, gpus: 8, card: h100}")
            return
        self.keys(path, entry, HOST_KEYS)
        count = self.whole(f"{path}.count", entry.get("count", 1), 1, MAX_GPUS)
        gpus = self.whole(f"{path}.gpus", entry.get("gpus", 1), 1, MAX_GPUS_A_HOST)
        card = self.card(path, entry)
        labels = self.labels(path, entry)
        self.gpu_count += count * gpus
        if self.gpu_count > MAX_GPUS:
            self.fault(f"{path}.count", count, f"makes it more than {MAX_GPUS:,} GPUs", "write fewer")
        if self.faults or card is None:
            return
        price = price_of(prices, card.name)
        stem = str(entry.get("name") or card.short or card.name)
        for number in range(1, count + 1):
            name = stem if count == 1 and "name" in entry else f"{stem}-{number}"
            while name in self.names:
                name += "-x"
            self.names.add(name)
            first = len(self.hosts) * MAX_GPUS_A_HOST + 1
            cards = tuple(
                Gpu(first + i, f"{name}/{i}", i, card.kind, card.name, card.memory_bytes, price=price)
                for i in range(gpus)
            )
            self.hosts.append(Host(len(self.hosts) + 1, name, cards, labels))

    def card(self, path: str, entry: Mapping[str, Any]) -> Card | None:
        named, memory = entry.get("card"), entry.get("memory")
        if not isinstance(named, str):
            problem = "is required" if named is None else "is not text; put it in quotes"
            self.fault(f"{path}.card", named, problem, "write what people call it, such as rtx4090 or h100")
            return None
        try:
            return read_card(named if memory is None else f"{named}:{memory}")
        except UsageError as error:
            where = "card" if memory is None else "card and memory"
            self.fault(f"{path}.{where}", named if memory is None else f"{named}, {memory}", str(error))
            return None

    def labels(self, path: str, entry: Mapping[str, Any]) -> dict[str, str]:
        given, pool = entry.get("labels", {}), entry.get(POOL)
        if not isinstance(given, dict) or any(isinstance(value, (dict, list)) for value in given.values()):
            self.fault(f"{path}.labels", given, "is not a mapping of names to texts", "write {site: north}")
            given = {}
        labels = {str(key): str(value) for key, value in given.items()}
        if pool is not None and (not isinstance(pool, (str, int)) or not str(pool).strip()):
            self.fault(f"{path}.{POOL}", pool, "is no name of a pool", "write text")
        elif pool is not None:
            labels[POOL] = str(pool)
        return labels

    def projects_of(self, value: object) -> dict[str, Project]:
        """What each project may count on."""
        if not isinstance(value, dict):
            self.fault("projects", value, "is not a mapping of keys", "write {vision: {guarantee: 8}}")
            return {}
        made: dict[str, Project] = {}
        for name, terms in value.items():
            path = f"projects.{name}"
            if not isinstance(terms, dict):
                self.fault(path, terms, "is not a mapping of keys", "write {guarantee: 8, weight: 2}")
                continue
            self.keys(path, terms, PROJECT_KEYS)
            guarantee = terms.get("guarantee")
            if guarantee is not None:
                guarantee = self.whole(f"{path}.guarantee", guarantee, 0, MAX_GPUS)
            weight, borrows = terms.get("weight", 1.0), terms.get("borrows", True)
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < 1e6:
                self.fault(f"{path}.weight", weight, "is no weight", "write a number above 0")
                weight = 1.0
            if not isinstance(borrows, bool):
                self.fault(f"{path}.borrows", borrows, "is not true or false")
                borrows = True
            made[str(name)] = Project(guarantee, float(weight), borrows)
        return made


def guarantee_warnings(projects: Mapping[str, Project], gpus: int) -> list[str]:
    """What to tell where guarantees can't all be kept."""
    total = sum(project.guarantee or 0 for project in projects.values())
    if total <= gpus:
        return []
    return [f"guarantees add up to {total} GPUs, the fleet has {gpus}: they can't all be kept at once"]


def describe(fleet: FleetFile) -> str:
    """The fleet in one line for people."""
    cards = ", ".join(f"{count} × {label}" for label, count in fleet.cards.items())
    memory = gib(sum(gpu.memory_bytes for host in fleet.hosts for gpu in host.gpus))
    pools = f", {_count(len(fleet.pools), 'pool')}" if fleet.pools else ""
    return f"{_count(len(fleet.hosts), 'host')}{pools}: {cards} ({memory} in all)"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
