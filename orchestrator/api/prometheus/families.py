"""The state as metrics: base units, a card's uuid as its label, jobs joined by one _info series.

Names and units follow https://prometheus.io/docs/practices/naming/. A series a card bears its uuid alone, so that a
job that comes or goes changes one series of it, not all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from jobs.state import JobState, Outcome
from orchestrator.api.prometheus.columns import counter_text, gauge_text, labels_of
from orchestrator.store.hosts.exported import Exported

State = Mapping[str, Any]
_MHZ = 1e6


def fleet(state: State, more: Exported, now: float) -> Iterator[Metric | str]:
    """Everything of the fleet; what there are thousands of as text already. state: schemas.FleetState."""
    yield from _cards(state, more)
    yield from _hosts(state, more)
    yield from _jobs(state, more, now)
    yield gauge("database_bytes", "Size of the job database.", [((), more.database_bytes)])
    lag = 0.0 if more.history_until is None else max(0.0, now - more.history_until)
    yield gauge(
        "history_lag_seconds", "Since the last minute that history holds; 60 to 130 is usual.", [((), lag)]
    )


def gauge(
    name: str, text: str, values: Iterable[tuple[Sequence[str], float | None]], *labels: str
) -> GaugeMetricFamily:
    """A gauge; None stands for what nobody told, and is left out."""
    made = GaugeMetricFamily(f"tuneyard_{name}", text, labels=labels)
    for of, value in values:
        if isinstance(value, int | float):
            made.add_metric(of, value)
    return made


def counter(
    name: str, text: str, values: Iterable[tuple[Sequence[str], float | None]], *labels: str
) -> CounterMetricFamily:
    """A counter; its name gets _total."""
    made = CounterMetricFamily(f"tuneyard_{name}", text, labels=labels)
    for of, value in values:
        if isinstance(value, int | float):
            made.add_metric(of, value)
    return made


def _cards(state: State, more: Exported) -> Iterator[str]:
    cards = state["cards"]
    labels = labels_of(cards["uuid"], names=("uuid",))
    readings = [more.readings.get(id_) for id_ in cards["id"]]
    there = [
        None if card == "away" else row for row, card in zip(readings, cards["state"], strict=True)
    ]  # of cards whose hosts are there

    def told(name: str, scale: float = 1.0) -> list[float | None]:
        """A column of the newest readings."""
        get = attrgetter(name)
        values = [None if row is None else get(row) for row in there]
        if scale == 1.0:
            return values
        return [value * scale if isinstance(value, int | float) else None for value in values]

    yield _card_info(state)
    for name, text, values in (
        ("memory_bytes", "Memory of the card.", cards["memory_bytes"]),
        ("memory_used_bytes", "Of that in use, by anybody.", cards["used_bytes"]),
        ("memory_projected_bytes", "What its jobs were projected to use.", cards["projected_bytes"]),
        ("memory_projected_upper_bytes", "The upper bound of that.", cards["upper_bytes"]),
        ("utilization_ratio", "Share of time with a kernel running.", cards["utilization"]),
        ("power_watts", "Power draw.", cards["power_w"]),
        ("power_limit_watts", "Power limit.", told("power_limit_w")),
        ("temperature_celsius", "Temperature.", cards["temperature_c"]),
        ("sm_clock_hertz", "Clock of the multiprocessors.", told("sm_clock_mhz", _MHZ)),
        ("memory_clock_hertz", "Clock of the memory.", told("memory_clock_mhz", _MHZ)),
        ("last_sample_timestamp_seconds", "When it was read last.", told("ts")),
    ):
        yield gauge_text(f"gpu_{name}", text, labels, values)
    for name, text, column in (
        ("energy_joules", "Energy since the driver was loaded; begins anew with it.", "energy_j"),
        ("ecc_corrected_errors", "Corrected ECC errors.", "ecc_corrected"),
        ("ecc_uncorrected_errors", "Uncorrected ECC errors.", "ecc_uncorrected"),
    ):
        yield counter_text(f"gpu_{name}", text, labels, told(column))
    # Of the states only the one that holds: 4,000 cards would have 20,000 series that say no.
    states = labels_of(cards["uuid"], cards["state"], names=("uuid", "state"))
    text = "1 for the state that the card is in; the others are not there."
    yield gauge_text("gpu_state", text, states, [1.0] * len(states))
    idle = [None if since is None else max(0.0, state["at"] - since) for since in cards["idle_since"]]
    yield gauge_text("gpu_held_idle_seconds", "For how long a held card has done nothing.", labels, idle)


def _card_info(state: State) -> str:
    cards, running = state["cards"], state["running"]
    hosts = dict(zip(state["hosts"]["id"], state["hosts"]["name"], strict=True))
    jobs = {
        id_: (str(id_), name, user, project)
        for id_, name, user, project in zip(
            *(running[name] for name in ("id", "name", "user", "project")), strict=True
        )
    }
    names = ("uuid", "host", "gpu", "name", "job", "job_name", "user", "project")
    nobody = ("", "", "", "")
    labels = labels_of(
        cards["uuid"],
        [hosts.get(host, "") for host in cards["host"]],
        [str(index) for index in cards["index"]],
        cards["name"],
        *zip(*(jobs.get(job, nobody) for job in cards["job"]), strict=True),
        names=names,
    )
    text = "A card, where it is, and the job that holds it (of several, the first); 1."
    return gauge_text("gpu_info", text, labels, [1.0] * len(labels))


def _hosts(state: State, more: Exported) -> Iterator[Metric]:
    hosts, cards = state["hosts"], state["cards"]
    states = ((pair, 1.0) for pair in zip(hosts["name"], hosts["state"], strict=True))
    yield gauge(
        "host_state",
        "1 for the state that the host is in; the others are not there.",
        states,
        "host",
        "state",
    )
    seen = [((name,), last_seen) for name, last_seen, _ in more.hosts]
    yield gauge("host_last_report_timestamp_seconds", "When its agent was heard last.", seen, "host")
    newest: dict[int, float] = {}
    for id_, host in zip(cards["id"], cards["host"], strict=True):
        row = more.readings.get(id_)
        if row is not None and isinstance(row.ts, int | float):
            newest[host] = max(newest.get(host, 0.0), row.ts)
    names = dict(zip(hosts["id"], hosts["name"], strict=True))
    last = {name: last_seen for name, last_seen, _ in more.hosts}
    behind = (
        ((names[host],), max(0.0, last[names[host]] - ts))
        for host, ts in newest.items()
        if isinstance(last.get(names.get(host, "")), int | float)
    )
    text = "How far its newest sample is behind its last report: it has so much in its spool."
    yield gauge("host_spool_delay_seconds", text, behind, "host")
    disks = [(name, disk) for name, _, found in more.hosts for disk in found if isinstance(disk, dict)]
    labels = ("host", "holds", "path")
    for key, what in (("free", "Free space on a disk."), ("total", "Size of a disk.")):
        values = (
            ((name, str(disk.get("holds")), str(disk.get("path"))), disk.get(f"{key}_bytes"))
            for name, disk in disks
        )
        yield gauge(f"host_disk_{'free' if key == 'free' else 'size'}_bytes", what, values, *labels)


def _jobs(state: State, more: Exported, now: float) -> Iterator[Metric]:
    queue, running, cards = state["queue"], state["running"], state["cards"]
    by_state = (((str(one),), more.jobs.get(str(one), 0)) for one in JobState)
    yield gauge("jobs", "Jobs by state.", by_state, "state")
    reasons = Counter(queue["reason"])
    waits = (((reason,), count) for reason, count in sorted(reasons.items()))
    yield gauge("queue_jobs", "Jobs that wait, by reason; of the first 500.", waits, "reason")
    oldest = max((now - at for at in queue["submitted_at"]), default=0.0)
    yield gauge("queue_oldest_seconds", "How long the longest of them has waited.", [((), max(0.0, oldest))])
    outcomes = (((str(one),), more.attempts.get(str(one), 0)) for one in Outcome)
    yield counter("attempts_ended", "Attempts that ended, by outcome.", outcomes, "outcome")
    yield counter("attempts_started", "Attempts that were opened.", [((), more.started)])
    labels = [(str(id_),) for id_ in running["id"]]
    people = zip(*(running[name] for name in ("id", "name", "user", "project")), strict=True)
    info = (((str(id_), name, user, project), 1.0) for id_, name, user, project in people)
    yield gauge("job_info", "A running job; 1.", info, "job", "job_name", "user", "project")
    for name, column, text in (
        ("job_step", "step", "The step that a running job has come to."),
        ("job_total_steps", "total_steps", "The steps that it has."),
        ("job_loss", "loss", "Its last loss."),
        ("job_tokens_per_second", "tokens_per_s", "Its pace."),
        ("job_remaining_seconds", "eta_s", "What is left of its training at that pace."),
        ("job_stalled", "stalled", "1 where it has told no step for far longer than one takes."),
    ):
        values = zip(labels, map(_number, running[column]), strict=True)
        yield gauge(name, text, values, "job")
    over: dict[int, float] = {}
    columns = zip(*(cards[name] for name in ("job", "holders", "used_bytes", "projected_bytes")), strict=True)
    for job, holders, used, projected in columns:
        if job is not None and holders == 1 and used and projected:
            over[job] = max(over.get(job, -1.0), used / projected - 1)
    misses = (((str(job),), error) for job, error in sorted(over.items()))
    text = "Measured over projected memory, less 1, on the card where it is greatest; of jobs alone on their cards."
    yield gauge("job_memory_projection_error_ratio", text, misses, "job")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
