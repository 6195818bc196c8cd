"""How jobs, cards and times read for people. Pure: the time comes in as an argument."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jobs.units import gib, span
from orchestrator.cli.render.table import Cell

if TYPE_CHECKING:
    from orchestrator.schemas import Gpu, Host, Job, Leader, StartShape

STATE_STYLES = {
    "queued": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "dim",
    "online": "green",
    "away": "red",
    "stopped": "red",
    "draining": "yellow",
    "faulty": "red",
    "drained": "yellow",
}
ENDED = frozenset({"succeeded", "failed", "cancelled"})
# Why measured memory says nothing of what was projected (not_comparable in JSON).
INCOMPARABLE = {
    "no_peak": "made fewer than two steps, and memory is at its peak from the second on",
    "roomy_card": "had a CPU card with room to spare, where malloc keeps what is freed",
}
# Why none of an attempt's checkpoints is on its host any more (checkpoints_gone in JSON).
CHECKPOINTS_GONE = {
    "unneeded": "removed: the job has ended, and nothing goes on from them (serve --keep-checkpoints)",
    "replaced": "removed: later ones took their place",
}
GONE = frozenset({"away", "stopped"})  # states of hosts


def ago(ts: float | None, now: float) -> str:
    """How long ago, in one unit: now, 42s ago, 3m ago, 2h ago, 5d ago. Empty for None."""
    if ts is None:
        return ""
    past = max(0.0, now - ts)
    if past < 1:
        return "now"
    for limit, unit, length in ((60, "s", 1), (3600, "m", 60), (86400, "h", 3600)):
        if past < limit:
            return f"{int(past // length)}{unit} ago"
    return f"{int(past // 86400)}d ago"


def state(value: str, stopping: bool = False) -> Cell:
    """A state in its colour; `running*` while a cancel waits to be carried out."""
    return Cell(value + ("*" if stopping else ""), STATE_STYLES.get(value, ""))


def host_state(host: Host) -> Cell:
    """A host's state; of one that is not there, whether it is to take no work when it is back."""
    shown = state(host["state"])
    if host["drained"] and host["state"] in GONE:
        return Cell(f"{shown.text}, drained", shown.style)
    return shown


def gone(gpu: Gpu) -> bool:
    """Whether nobody can tell what a card does now, for its host is not there."""
    return gpu["host_state"] in GONE


def percent(progress: Any) -> str:
    """Share of the steps done, such as 40%. Empty when there is none."""
    if not progress or not progress.get("total_steps"):
        return ""
    return f"{100 * progress['step'] // progress['total_steps']}%"


def loss(progress: Any) -> str:
    """The latest loss, such as 1.234, or nan. Empty where there is none."""
    if progress["loss"] is None:
        return progress.get("loss_text") or ""
    return f"{progress['loss']:.3f}"


def eta(job: Job, now: float) -> str:
    """Time to go of a running job, and until a queued one is likely to start: in 5m00s to 20m00s."""
    if start := job.get("start"):
        return until_start(start, now)
    if job.get("silent"):
        return "unknown"
    progress = job["progress"]
    if progress and progress.get("stalled"):
        return f"no step {span(progress.get('age_s') or 0)}"
    if job["state"] != "running" or not progress or progress.get("eta_s") is None:
        return ""
    return span(progress["eta_s"] or 0)


def until_start(start: StartShape, now: float) -> str:
    """A range of times from now."""
    early = max(0.0, start["earliest"] - now)
    late = None if start["latest"] is None else max(0.0, start["latest"] - now)
    if late is None:
        return f"from {span(early)}" if early >= 1 else ""
    if late < 1:
        return "soon"
    if early < 1:
        return f"within {span(late)}"
    if span(early) == span(late):
        return f"in {span(late)}"
    return f"in {span(early)} to {span(late)}"


def size(count: float | None) -> str:
    """Bytes for people; empty for None."""
    return "" if count is None else gib(count)


def duration(seconds: float | None) -> str:
    """A duration for people: milliseconds below a second. Empty for None."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else span(seconds)


def cards(names: list[str]) -> str:
    """Names of a job's cards: 4 × A100 when they are all alike."""
    if not names:
        return ""
    if len(names) > 1 and len(set(names)) == 1:
        return f"{len(names)} × {names[0]}"
    return ", ".join(names)


def reason(job: Job, now: float) -> str:
    """The reason, where it says more than the state does."""
    if found := job.get("silent"):  # what is cut off on a narrow terminal is told last
        gone = "stopped" if found["stopped"] else "silent"
        return f"{gone} since {clock(found['since'], now)}: host {found['host']}"
    code = (job["reason"] or {}).get("code", "")
    said_already = job["state"] == "succeeded" or code in ("training", "succeeded", "cancelled")
    return "" if said_already else why(job["reason"], now)


def silence(job: Job, now: float | None) -> str:
    """That a host of a running job is not there, and since when: what the job does now is not known. Else empty."""
    found = job.get("silent")  # an older server leaves it out
    if not found:
        return ""
    if found["stopped"]:
        return f"host {found['host']} was stopped" + (
            f" {ago(found['since'], now)}" if now is not None else ""
        )
    text = f"host {found['host']} has not been heard of"
    return text if now is None else f"{text} since {clock(found['since'], now)} ({ago(found['since'], now)})"


def why(reason: Any, now: float) -> str:
    """A reason's text with the times among its figures: reservation of job 41 until 14:05. Empty for None."""
    if not reason:
        return ""
    text, figures = str(reason.get("text", "")), reason.get("figures") or {}
    if reason.get("code") == "held" and (since := figures.get("since")) is not None:
        lead = f"held by {figures['by']}" if figures.get("by") else "held"
        text = f"{lead} since {clock(since, now)}{text.removeprefix(lead)}"
    if (until := figures.get("until")) is not None and reason.get("code") in (
        "reserved",
        "backoff",
        "storage",
    ):
        text += f" until {clock(until, now)}"
    if (due := figures.get("preempts_at")) is not None:
        text += f", at {clock(due, now)}"
    if (begins := figures.get("reserved_for")) is not None:
        text += f" from {clock(begins, now)}"
    if (asked := figures.get("asked_at")) is not None:
        text += f", asked {ago(asked, now)}"
    return text


def clock(ts: float, now: float) -> str:
    """A time by this machine's clock: 14:05, tomorrow or later Wed 14:05, after a week 3 Dec 14:05."""
    there, here = time.localtime(ts), time.localtime(now)
    if there[:3] == here[:3]:
        return time.strftime("%H:%M", there)
    day = (
        time.strftime("%a", there)
        if abs(ts - now) < 6 * 86400
        else f"{there.tm_mday} {time.strftime('%b', there)}"
    )
    return f"{day} {time.strftime('%H:%M', there)}"


def sentence(job: Job, now: float | None) -> str:
    """A job's state and why: job 12 failed: no such file; job 13 (docs) is queued: waits for job 12 to succeed.

    now: None leaves out times, which change from one look to the next.
    """
    said = {"failed": "failed", "succeeded": "succeeded", "cancelled": "was cancelled"}
    verb = said.get(job["state"], f"is {job['state']}")
    text = why(job["reason"], now) if now is not None else str((job["reason"] or {}).get("text", ""))
    text = silence(job, now) or text
    known = {job["state"], "training"}
    for lead in ("failed", "cancelled"):  # a reason that begins with the state says it no second time
        if job["state"] == lead and text.startswith(f"{lead} "):
            return f"{label(job)} {verb}{text.removeprefix(lead)}"
        text = text.removeprefix(f"{lead}: ") if job["state"] == lead else text
    return f"{label(job)} {verb}" + (f": {text}" if text and text not in known else "")


def label(job: Job) -> str:
    """How a job is called in a sentence: job 12 (docs-lora)."""
    return f"job {job['id']} ({job['name']})" if job["name"] else f"job {job['id']}"


def share(value: float | None, sign: bool = True) -> str:
    """An error or another share in percent: +1.8%; what is ten times as much, or more: 12.5x. Empty for None."""
    if value is None:
        return ""
    if sign and value >= 9:
        return f"{1 + value:.3g}x" if value < 999 else f"{1 + value:,.0f}x"
    return f"{100 * value:+.1f}%" if sign else f"{100 * value:.1f}%"


def latest(gpu: Gpu) -> dict[str, Any]:
    """A card's last sample; empty where there is none, or where it is from before its host went away."""
    return {} if gone(gpu) else gpu["sample"] or {}


def reading(gpu: Gpu, name: str, form: str, scale: float = 1) -> str:
    """One value of a card's last sample, formatted; - where nobody can tell."""
    sample = latest(gpu)
    value = sample.get(name)
    return "-" if value is None else form.format(value * scale)


def leader(found: Leader | None, now: float) -> str | None:
    """Who leads, where the server that answers does not: that one decides nothing."""
    if found is None or found["leads"]:
        return None
    if found["url"] is None:
        return "no server leads just now: nothing starts"
    return f"this server stands by; {found['url']} on {found['host']} leads, since {clock(found['since'] or 0.0, now)}"
