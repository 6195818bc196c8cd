"""What the routes work with, and the few facts of the fleet that every submission asks for."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

from orchestrator import schemas
from orchestrator.api.browsers.sessions import Sessions
from orchestrator.api.edge.database_probe import Pulse
from orchestrator.api.edge.lanes import Lanes
from orchestrator.api.edge.report_batches import ReportQueue
from orchestrator.api.live.feed import Feed
from orchestrator.api.live.window import Window
from orchestrator.api.prometheus.scrape import Scrape
from orchestrator.api.submission.group_commit import GroupCommit
from orchestrator.api.submission.validation import FleetFacts
from orchestrator.config import Settings
from orchestrator.control.controller import Controller
from orchestrator.control.leader.leadership import Leadership
from orchestrator.control.snapshot.sequence_lengths import RecentLengths
from orchestrator.dispatch.dispatcher import Dispatch
from orchestrator.store import Store
from orchestrator.store.rows import HostRow
from orchestrator.transfer.relay import Relay

FACTS_FOR_S = 1.0


@dataclass
class Services:
    """Made once by the server."""

    settings: Settings
    store: Store
    dispatch: Dispatch
    controller: Controller
    commits: GroupCommit
    relay: Relay = field(default_factory=Relay)
    lanes: Lanes = field(init=False)
    lengths: RecentLengths = field(init=False)
    window: Window = field(default_factory=Window)
    feed: Feed = field(init=False)
    scrape: Scrape = field(default_factory=Scrape)
    sessions: Sessions = field(init=False)
    pulse: Pulse = field(default_factory=Pulse)
    reports: ReportQueue = field(default_factory=ReportQueue)
    # Hosts whose Ray was up when they last reported; for the thread that takes reports.
    ready: set[int] = field(default_factory=set, repr=False)
    leadership: Leadership | None = None  # None: no other server, as in tests
    _facts: FleetFacts | None = field(default=None, repr=False)
    _facts_at: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        self.lanes = Lanes(self.commits.add)
        self.lengths = RecentLengths(self.store)
        self.feed = Feed(self.window)
        self.sessions = Sessions(self.settings.token, self.controller.clock)

    def ray_address(self) -> str | None:
        """Where raylets join: the head of the server that leads."""
        lead = self.leadership
        if lead is None or lead.leads:
            return self.dispatch.address
        return lead.seen.ray_address if lead.seen else None

    def leader(self) -> schemas.Leader | None:
        """Who leads, as this server saw it last."""
        lead = self.leadership
        if lead is None or (seen := lead.seen) is None:
            return None
        if seen.holder is None:
            return {"leads": False, "url": None, "host": None, "since": None, "epoch": seen.epoch}
        found: schemas.Leader = {
            "leads": lead.leads,
            "url": seen.url,
            "host": seen.host,
            "since": seen.since,
            "epoch": seen.epoch,
        }
        return found

    def facts(self) -> FleetFacts:
        """What hosts offer, at most a second old: a burst of submissions must not read it a thousand times."""
        now = time.monotonic()
        if self._facts is None or now - self._facts_at > FACTS_FOR_S:
            told = [fact for host in self.store.hosts() if (fact := _told(host)) is not None]
            types, gpus = frozenset[str]().union(*(names for names, _ in told)), [count for _, count in told]
            most, total = (max(gpus), sum(gpus)) if gpus else (None, None)
            self._facts, self._facts_at = FleetFacts(types, most, total), now
        return self._facts


def _told(host: HostRow) -> tuple[frozenset[str], int] | None:
    """The model types and the number of cards that a host told; None where that can't be read: no job's fault."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return frozenset(host.info.get("model_types", [])), len(host.info.get("gpus", []))
    return None
