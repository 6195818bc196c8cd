"""What the server tells of the fleet, as rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.cli.render import words
from orchestrator.cli.top.marks import quantity

if TYPE_CHECKING:
    from orchestrator.schemas import FleetState

NO_HOST = "no host has joined; `tuneyard host run --server URL --token T` joins one, `tuneyard up` this one"
SORTS = ("name", "state", "free", "used", "utilization", "power", "temperature")


@dataclass(frozen=True)
class CardRow:
    """A card as a line shows it. first: of its host; share: used of its memory."""

    id: int
    host_id: int
    host: str
    host_state: str
    first: bool
    index: int
    name: str
    memory_bytes: int
    used_bytes: int | None
    projected_bytes: int | None
    upper_bytes: int | None
    utilization: float | None
    power_w: float | None
    temperature_c: float | None
    state: str
    fault: str | None
    job: int | None
    job_name: str
    holders: int
    idle_since: float | None
    last_seen: float | None
    step: int | None
    total_steps: int | None
    loss: float | None
    tokens_per_s: float | None
    eta_s: float | None
    stalled: bool

    @property
    def share(self) -> float | None:
        return None if self.used_bytes is None else self.used_bytes / max(1, self.memory_bytes)

    @property
    def over(self) -> bool:
        """Whether it uses more than was projected with its margin."""
        return None not in (self.used_bytes, self.upper_bytes) and self.used_bytes > self.upper_bytes  # type: ignore[operator]


@dataclass(frozen=True)
class HostRows:
    """A host with its cards, by index."""

    id: int
    name: str
    state: str
    cards: list[CardRow]


@dataclass(frozen=True)
class QueueRow:
    """A job that waits."""

    id: int
    name: str
    user: str
    project: str
    text: str
    submitted_at: float
    earliest: float | None
    latest: float | None


def rows_of(table: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Columns of equal length as one mapping a row."""
    names = [name for name, column in table.items() if isinstance(column, list)]
    return [dict(zip(names, values, strict=True)) for values in zip(*(table[n] for n in names), strict=True)]


def hosts_of(state: FleetState) -> list[HostRows]:
    """The hosts of a page in its order, each with its cards."""
    told: Any = state
    running = {one["id"]: one for one in rows_of(told["running"])}
    hosts = {one["id"]: one for one in rows_of(told["hosts"])}
    cards: dict[int, list[CardRow]] = {id_: [] for id_ in hosts}
    for one in rows_of(told["cards"]):
        host = hosts.get(one["host"])
        if host is not None:
            job = running.get(one["job"]) if one["holders"] <= 1 else None
            cards[one["host"]].append(_card(one, host, job, not cards[one["host"]]))
    return [HostRows(id_, one["name"], one["state"], cards[id_]) for id_, one in hosts.items()]


def _card(one: dict[str, Any], host: dict[str, Any], job: dict[str, Any] | None, first: bool) -> CardRow:
    names = (
        *("id", "index", "name", "memory_bytes", "used_bytes", "projected_bytes", "upper_bytes"),
        *("utilization", "power_w", "temperature_c", "state", "fault", "job", "holders", "idle_since"),
    )
    told = job or {}
    return CardRow(
        **{name: one[name] for name in names},
        host_id=host["id"],
        host=host["name"],
        host_state=host["state"],
        first=first,
        last_seen=host["last_seen"],
        job_name=told.get("name", ""),
        step=told.get("step"),
        total_steps=told.get("total_steps"),
        loss=told.get("loss"),
        tokens_per_s=told.get("tokens_per_s"),
        eta_s=told.get("eta_s"),
        stalled=told.get("stalled", False),
    )


def queue_of(state: FleetState) -> list[QueueRow]:
    """The first jobs that wait."""
    told: Any = state
    names = ("id", "name", "user", "project", "text", "submitted_at", "earliest", "latest")
    return [QueueRow(**{name: one[name] for name in names}) for one in rows_of(told["queue"])]


def headline(state: FleetState) -> list[str]:
    """What stands above all, the most important first."""
    totals = state["totals"]
    states = totals["states"]
    cards, hosts = totals["cards"], totals["hosts"]
    said = [f"{cards:,} {'card' if cards == 1 else 'cards'}", f"{states.get('busy', 0):,} busy"]
    named = (
        *(("idle", "held but idle"), ("free", "free"), ("faulty", "faulty"), ("away", "away")),
        ("closed", "closed"),
    )
    said += [f"{states[name]:,} {word}" for name, word in named if states.get(name)]
    said.append(f"{totals['running']:,} running, {totals['waiting']:,} queued")
    if totals["power_w"]:
        watts = totals["power_w"]
        said.append(f"{watts:,} W" if watts < 10_000 else f"{watts / 1000:,.0f} kW")
    if totals["memory_bytes"]:
        said.append(f"{quantity(totals['used_bytes'])} of {quantity(totals['memory_bytes'])}")
    there = totals["hosts_online"]
    said.append(
        f"{hosts:,} {'host' if hosts == 1 else 'hosts'}" + (f", {there:,} online" if there < hosts else "")
    )
    return said


def doing(card: CardRow, now: float) -> str:
    """What a card does, in words: a fault, its job, why it is idle."""
    named = f"{card.job} {card.job_name}".rstrip() if card.job is not None else ""
    if card.holders > 1:
        named = f"{card.holders} jobs, first {card.job}"
    if card.state == "away":
        since = f" since {words.clock(card.last_seen, now)}" if card.last_seen is not None else ""
        return f"host is {card.host_state}{since}" + (f", had {named}" if named else "")
    if card.fault:
        return f"FAULT: {card.fault}"
    if card.state == "idle":
        for_s = "" if card.idle_since is None else f" for {words.duration(max(1.0, now - card.idle_since))}"
        return f"{named} holds it idle{for_s}"
    if named:
        return named
    return "" if card.host_state == "online" else f"host is {card.host_state}"
