"""Whether jobs can be taken and started: the database takes writes, the loop goes round, a dispatcher answers."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.api.context import Services
from orchestrator.api.edge.database_probe import Beat

LATE_S = 30.0  # a round takes a second or two where 10,000 jobs wait
OK, STARTING, STANDS_BY = "ok", "starting", "stands by: another server leads"


@dataclass(frozen=True)
class Readiness:
    """Each part is "ok", or what is wrong with it; the dispatcher may be "starting", or stand by."""

    database: str
    scheduler: str
    dispatcher: str
    ray: str
    ready: bool

    @property
    def status(self) -> str:
        """ok, or degraded where something is wrong; what starts as it should is not."""
        well = self.database == self.scheduler == OK and self.dispatcher in (OK, STARTING, STANDS_BY)
        return "ok" if well else "degraded"


def readiness(services: Services, beat: Beat) -> Readiness:
    """How this server is now. Waits for nothing."""
    state, with_ray = services.dispatch.state(), services.settings.ray
    rounds = services.controller.rounds
    late = rounds.late_s > LATE_S
    scheduler = OK
    if late:
        scheduler = f"its last good round was {rounds.age_s:.0f} s ago"
        scheduler += f": {rounds.trouble}" if rounds.trouble else ""
    elif failing := [one for one in services.controller.quarantine.entries() if one.kind == "step"]:
        scheduler = "; ".join(f"it can't do this: {one.key} ({one.text})" for one in failing)
    dispatcher = OK if state.ready or not with_ray else state.trouble or STARTING
    if services.leadership is not None and not services.leadership.leads:
        dispatcher = STANDS_BY  # the other one is asked
    ray = "ready" if state.ready else STARTING if dispatcher == STARTING else "down"
    ready = not beat.away and not late and dispatcher == OK
    return Readiness(beat.away or OK, scheduler, dispatcher, ray, ready)
