"""The host agent: samples cards, ships news, carries out orders. It owns what runs on its host."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from jobs.errors import Busy, Conflict, Unauthorized, Unavailable
from jobs.messages.reports import (
    GpuInfo,
    HostInfo,
    HostOrders,
    HostReport,
    Joined,
    StopOrder,
    TraceRequest,
    TraceResult,
)
from workers import machine, processes
from workers.agent.dcgm_mapping import DcgmMapping
from workers.agent.disks import Disks
from workers.agent.foreign_memory import ForeignMemory
from workers.agent.profile_queue import TIMEOUT_S, Tracer, trace_memory_bytes
from workers.agent.raylet import Raylet
from workers.agent.result_upload import Sender
from workers.agent.server_client import JoinAnew, Link
from workers.agent.state_dir import Yard, former_yards, last_yard, remember_yard
from workers.agent.supervisor import Supervisor
from workers.durable import take
from workers.expandable_segments import asked_for, refused
from workers.gpus import Cards, find_cards
from workers.permissions import keep_private

log = logging.getLogger(__name__)

PERIOD_S = 1.0
# A host that is asked to wait comes again within so much more: or all that were asked would come at once.
SPREAD = 0.5
LEAVE_GRACE_S = 20.0  # for trainers to save a checkpoint when the agent is told to end


class RayletLike(Protocol):
    """What the agent needs of Ray on this host."""

    def follow(self, address: str | None, token: str, trainers: set[int], now: float) -> None: ...

    def ready(self, address: str | None) -> bool: ...

    def stop(self) -> None: ...


@dataclass
class _Flight:
    """A request that is under way, with what was true when it was sent."""

    answer: Future[Joined] | Future[HostOrders]
    report: HostReport | None  # None: it asks to join
    listed: set[int]  # attempts that had a folder


class Agent:
    """One host's side of the conversation. tick() is the whole of it."""

    def __init__(
        self,
        link: Link,
        info: HostInfo,
        home: Path,
        cards: Cards,
        raylet: RayletLike,
        trace: Callable[[TraceRequest], TraceResult],
        clock: Callable[[], float] = time.time,
        period_s: float = PERIOD_S,
        chance: Callable[[], float] = random.random,
        dcgm: DcgmMapping | None = None,
    ) -> None:
        self._link = link
        self._info = info
        self._home = home
        self._cards = cards
        self._raylet = raylet
        self._clock = clock
        self._period_s = period_s
        self._chance = chance
        self._dcgm = dcgm or DcgmMapping(None)
        self._quiet_until = 0.0  # on the monotonic clock: the server asked not to be asked before
        self._boot = uuid.uuid4().hex
        self._yard = Yard(home, last_yard(home))
        self._former: list[Supervisor] = []  # of other databases, until they are quiet
        self._foreign = ForeignMemory()
        self._expandable = asked_for(os.environ)
        self._wake = threading.Event()
        self._tracer = Tracer(trace, done=self._wake.set)
        self._sender = Sender(link)
        self._disks = Disks({"checkpoints": home, "results": Path(info.output_root)})
        self._caller = ThreadPoolExecutor(1, thread_name_prefix="link")
        self._joined: Joined | None = None
        self._orders = HostOrders()
        self._current = False  # the server heard us last time, and these are its orders
        self._address: str | None = None  # of the Ray head, when last heard of
        self._flight: _Flight | None = None
        self._more = False  # the last report did not hold all there is
        self._away = False
        self._ending = False

    def run(self) -> None:
        """Until end() is called. Raises Unauthorized or Conflict when the server lets this host not join."""
        while not self._ending:
            begun = time.monotonic()
            try:
                self.tick()
            except (Unauthorized, Conflict):
                raise
            except Exception:  # the process's outermost edge: a fault must not cost the host its agent
                log.exception("a tick failed; the next one goes on")
            self._wake.wait(max(0.0, begun + self._period_s - time.monotonic()))
            self._wake.clear()

    def end(self) -> None:
        """Have run() return within a period. Safe in a signal handler: it takes no lock."""
        self._ending = True

    def tick(self) -> None:
        """One round. A server that hangs or is away delays none but the steps that need it."""
        until = time.monotonic() + self._period_s
        now = self._clock()
        # 1 look at trainers: end what is to end, record what died
        for supervisor in (self._yard.supervisor, *self._former):
            supervisor.supervise(now)
        self._former = [one for one in self._former if not one.is_quiet()]
        # 2 look at cards, and end what is on lost ones
        self._sample(now)
        for supervisor in (self._yard.supervisor, *self._former):
            supervisor.lose_cards(self._cards.lost(), now)
        while self._may_speak():
            # 3 send the news, unless the last report is still under way
            flight = self._flight = self._flight or self._send(now)
            # 4 take the answer
            answer = self._take(flight, until)
            # 5 do what it says
            if isinstance(answer, Joined):
                self._settle(answer, now)
            elif isinstance(answer, HostOrders):
                self._obey(flight, answer, now)
            # again while there is more to tell, as after an absence
            if answer is None or not self._more or time.monotonic() > until:
                break
        # 6 keep Ray's part of this host where it belongs
        token = self._joined.ray_token if self._joined else ""
        self._raylet.follow(self._address, token, self._yard.supervisor.pids(), now)

    def _may_speak(self) -> bool:
        """Whether the server did not ask for quiet; that this host ends is said all the same."""
        return self._flight is not None or not self._boot or time.monotonic() >= self._quiet_until

    def leave(self, grace_s: float = LEAVE_GRACE_S) -> None:
        """End everything of ours on this host: trainers gently, then by force; tell the server; end Ray.

        The server is told first that this host takes no more work: or a job that is stopped here starts here again.
        """
        self._boot = ""
        if self._joined is not None:
            if self._flight is not None:
                self._take(self._flight, time.monotonic() + self._period_s)
            self.tick()
        for attempt_id in self._yard.supervisor.running():
            order = StopOrder(attempt_id=attempt_id, reason="host_stopped", grace_s=grace_s)
            self._yard.supervisor.stop(order, self._clock())
        deadline = time.monotonic() + grace_s + 5  # 5 s for the kernel to end what was killed
        while self._yard.supervisor.running() and time.monotonic() < deadline:
            time.sleep(0.1)
            self._yard.supervisor.supervise(self._clock())
        self._address = None  # no raylet is to be started any more
        if self._joined is not None:
            if self._flight is not None:
                self._take(self._flight, time.monotonic() + self._period_s)
            self.tick()
        self._dcgm.clear()
        self._yard.close()
        self._raylet.stop()
        processes.end_all(processes.children(psutil.Process()))  # a trace, for instance
        self._cards.close()
        self._caller.shutdown(wait=False, cancel_futures=True)

    def _settle(self, joined: Joined, now: float) -> None:
        """Take the server's word for which database it has; what runs here of any other is ended."""
        self._joined, self._address = joined, joined.ray_address
        if (joined.yard, joined.epoch) != (self._yard.uuid, self._yard.epoch):
            if joined.yard == self._yard.uuid and self._yard.epoch:
                log.warning(
                    "the database was restored: what it does not know of this host's files is set aside"
                )
                self._yard.reject_telemetry()
            self._yard.close()
            self._yard, self._orders = Yard(self._home, joined.yard), HostOrders()
            remember_yard(self._home, joined.yard)
            self._yard.supervisor.supervise(now)
        self._former = former_yards(self._home, joined.yard)
        for supervisor in self._former:
            supervisor.supervise(now)
            supervisor.fence(set(), supervisor.known(), now)
            supervisor.supervise(now)

    def _cards_now(self) -> list[GpuInfo]:
        """The cards, those marked that a trainer is still on whose attempt the server does not hold open."""
        open_ids = {one.attempt_id for one in self._orders.attempts} if self._current else None
        on_way_out = self._yard.supervisor.unheld(open_ids)
        for former in self._former:
            on_way_out |= former.unheld(set())
        what = "is being ended" if self._current else "is on it, and the server has yet to say whether it may"
        found = []
        for info in self._cards.infos():
            fault = f"attempt {on_way_out[info.uuid]} {what}" if info.uuid in on_way_out else None
            fault = info.fault or fault or self._foreign.fault(info.uuid)
            expandable = self._expandable and not refused(self._yard.root, info.uuid)
            found.append(info.model_copy(update={"fault": fault, "expandable": expandable}))
        return found

    def _sample(self, now: float) -> None:
        on_cards = self._yard.supervisor.on_cards()
        for former in self._former:
            for card, pids in former.on_cards().items():
                on_cards[card] = {**pids, **on_cards.get(card, {})}
        infos = self._cards.infos()
        for info in infos:
            self._cards.assign(info.uuid, on_cards.get(info.uuid, {}))
        jobs = self._yard.supervisor.jobs_on_cards()
        self._dcgm.write({info.index: jobs.get(info.uuid, ()) for info in infos})
        samples = self._cards.sample(now)
        self._foreign.look(infos, samples, on_cards)
        if self._joined or self._yard.uuid:  # nobody asks what was before the host joined for the first time
            self._yard.spool.put(samples)

    def _send(self, now: float) -> _Flight:
        listed = self._yard.supervisor.known()
        if self._joined is None:
            info = self._info.model_copy(update={"gpus": self._cards_now()})
            self._more = True  # the first report follows at once
            return _Flight(self._caller.submit(self._link.join, info), None, listed)
        news = self._yard.shipper.news(self._orders.attempts, self._yard.supervisor.over(), now)
        kept = self._yard.tidier.kept(now)
        report = HostReport(
            epoch=self._joined.epoch,
            host=self._info.name,
            boot=self._boot,
            sent=now,
            gpus=self._cards_now(),
            samples=self._yard.spool.batch(),
            attempts=news.attempts,
            traces=self._tracer.results(),
            ray_ready=self._raylet.ready(self._address),
            running=self._yard.supervisor.running(),
            here=self._yard.supervisor.here(),
            kept=[key.job_id for key in kept],
            kept_keys=kept,
            aside=self._yard.aside.news(),
            disks=self._disks.latest(),
        )
        self._more = news.more
        return _Flight(self._caller.submit(self._link.report, self._joined.host_id, report), report, listed)

    def _take(self, flight: _Flight, until: float) -> Joined | HostOrders | None:
        """The answer, or None: not yet, or none."""
        try:
            answer: Joined | HostOrders = flight.answer.result(timeout=max(0.0, until - time.monotonic()))
        except TimeoutError:
            return None
        except JoinAnew as error:
            log.warning("%s", error)
            self._joined, self._current = None, False
            self._yard.spool.spill()
            return None
        except (Unavailable, Unauthorized) as error:
            # A token that is changed under a host that trains must not end the training.
            if isinstance(error, Unauthorized) and self._joined is None:
                raise
            if isinstance(error, Busy):
                self._quiet_until = time.monotonic() + error.retry_after_s * (1 + SPREAD * self._chance())
            if not self._away:
                known = self._joined or self._yard.uuid
                what = "training goes on, news is kept on disk" if known else "it is asked again every second"
                log.warning("%s; %s", error, what)
            self._away, self._current = True, False
            self._yard.spool.spill()
            return None
        finally:
            if flight.answer.done():
                self._flight = None
        if self._away:
            log.info("the server is back")
        self._away = False
        return answer

    def _obey(self, flight: _Flight, orders: HostOrders, now: float) -> None:
        report = flight.report
        assert report is not None  # only a report is answered with orders
        if self._joined is None or orders.epoch != self._joined.epoch:
            log.warning("the server's word is of another epoch of its database than this host joined")
            self._joined, self._current = None, False
            return
        self._yard.spool.confirm()
        self._yard.aside.confirm()
        self._more = self._more or self._yard.spool.backlog()
        self._orders, self._current = orders, True
        self._address = orders.ray_address
        self._tracer.acknowledge(report.traces, {key for request in orders.traces for key in request.keys})
        self._tracer.order(orders.traces)
        self._yard.supervisor.admit(orders.attempts)
        self._sender.follow(orders.sends, orders.epoch)
        for stop in orders.stops:
            self._yard.supervisor.stop(stop, now)
        self._yard.supervisor.reject(orders.strange, now)
        self._yard.supervisor.fence({one.attempt_id for one in orders.attempts}, flight.listed, now)
        self._yard.supervisor.forget(orders.forget)
        idle = {key.job_id for key in report.kept_keys} - self._yard.supervisor.jobs()
        self._yard.tidier.drop(owner for owner in orders.drops if owner.job_id in idle)
        self._yard.tidier.reject(key for key in orders.strange_jobs if key.job_id in idle)
        self._yard.note_epoch(orders.epoch)
        if orders.forget:
            self._yard.tidier.look_again()


def run_host(
    server_url: str,
    token: str,
    home: Path | str,
    name: str | None = None,
    cpu_cards: list[int] | None = None,
    labels: dict[str, str] | None = None,
    output_root: Path | str | None = None,
    warm: int | None = None,
    dcgm_folder: Path | None = None,
) -> int:
    """Run the agent until SIGTERM or SIGINT. Returns the exit code: 0, or 1 when the token or name is refused.

    home: the host's own folder (TUNEYARD_HOME/host); cpu_cards: bytes of each, None for what NVML shows;
    name: the machine's by default; warm: rank actors to keep with their imports done, by default 1 from 8 GiB
    of memory on; dcgm_folder: where dcgm-exporter looks up jobs. Raises Conflict when another agent runs on this
    home, Unavailable where there are no cards.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
    home = Path(home).resolve()
    home.mkdir(parents=True, exist_ok=True)
    output = Path(output_root or home / "output").resolve()
    keep_private(home, output)
    lock = take(  # held as long as the process lives: two agents would end each other's trainers
        home / "agent.lock", f"another host agent runs on {home}: end it, or give this one another home"
    )
    name = name or socket.gethostname()
    cards = find_cards(name, cpu_cards)
    info = HostInfo(
        name=name,
        machine_id=machine.machine_id(home),
        labels=labels or {},
        gpus=cards.infos(),
        stack=machine.stack(),
        model_types=machine.model_types(),
        home=str(home),
        output_root=str(output),
        version=machine.own_version(),
        warm=machine.warm_default() if warm is None else warm,
        named=True,
        steps=True,
    )
    agent = Agent(
        Link(server_url, token), info, home, cards, Raylet(home, name), _trace, dcgm=DcgmMapping(dcgm_folder)
    )
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: agent.end())
    log.info("host %s: %d cards, %s", name, len(info.gpus), server_url)
    try:
        agent.run()
    except (Unauthorized, Conflict) as error:
        log.error("%s", error)
        return 1
    finally:
        agent.leave()
        lock.release()
    return 0


def _trace(request: TraceRequest) -> TraceResult:
    from workers.agent.profile_child import trace_in_child

    return trace_in_child(request, timeout_s=TIMEOUT_S, memory_bytes=trace_memory_bytes())
