"""The controller: one loop, the only clock. Takes what hosts said, plans, commits, dispatches."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from jobs.errors import TuneyardError
from jobs.jobfile.spec import JobSpec
from jobs.messages.reports import Ended
from jobs.recovery import Past, Requeue, decide
from jobs.state import Code, Outcome, Reason
from orchestrator.config import Settings
from orchestrator.control.assignments import Handover
from orchestrator.control.early_stop import stop_the_worst
from orchestrator.control.host_silence import Hearing
from orchestrator.control.idle_attempts import IdleAttempts
from orchestrator.control.long_waits import LongWaits
from orchestrator.control.lost_attempts import Silent
from orchestrator.control.outcomes import faulty, refusal, verdict
from orchestrator.control.plan_due import PlanDue
from orchestrator.control.planning import planned
from orchestrator.control.quarantine import Quarantine
from orchestrator.control.rounds import GiveWay, Rounds, uncollected
from orchestrator.control.snapshot.build import ran_out_of
from orchestrator.control.snapshot.cache import SnapshotCache, basis_of
from orchestrator.control.snapshot.readable import readable
from orchestrator.control.snapshot_reader import Snapshots
from orchestrator.control.start_time_refresh import Likely
from orchestrator.control.starts import fail_what_can_not_shrink, in_rank_order, suspected
from orchestrator.control.steps.pending import parted
from orchestrator.control.steps.start import Steps
from orchestrator.dispatch.dispatcher import Dispatch
from orchestrator.scheduler.cache.scheduler_cache import SchedulerCache
from orchestrator.scheduler.fleet import Fleet
from orchestrator.scheduler.plan import Plan, plan
from orchestrator.store import Store
from orchestrator.store.attempts.attempts import Closing
from orchestrator.store.requests import Start
from orchestrator.store.rows import AttemptRow, FleetRows, HostRow, JobRow
from orchestrator.store.schema.column_types import Garbled
from orchestrator.store.unreadable import leaving_out

log = logging.getLogger(__name__)

PERIOD_S = 0.5
# Without news only time can change a plan (a back-off that ends, a host that falls silent).
REPLAN_S = 5.0
# News comes in bursts, and who brought it is still waiting for an answer.
SETTLE_S = 0.02
# A long queue takes long to plan: fifteen sixteenths of the time are for requests. Half of it where jobs started or
# ended: cards would be idle meanwhile. Of CPU time, which requests lack; while the disk writes, they go on.
REST_AFTER_PLAN, REST_AFTER_WORK = 15.0, 1.0
PRUNE_EVERY_S, PRUNE_ON_S = 3600.0, 10.0  # on: there was more than it does at a time
CURVES_EVERY_S = 600.0
REST_AFTER_HISTORY = 5.0  # what is behind is caught up with a sixth of a core
# What fails, where a record is set aside.
_ENDING = "ending it"
# What this loop ends is read at once; this is for what another server of the same database ends.
CALIBRATE_EVERY_S = 60.0


class Controller:
    """Runs tick() whenever something happened, and at least twice a second."""

    def __init__(
        self,
        store: Store,
        dispatch: Dispatch,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        hearing: Hearing | None = None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """clock: the time of day; hearing: what silence is counted by, by default on a clock that never stops; leads:
        whether this server decides, store then being that of orchestrator.control.leader.leadership.
        """
        self._leads = leads
        self.store, self.dispatch, self.settings, self.clock = store, dispatch, settings, clock
        self.hearing = hearing or Hearing(time.monotonic)
        self.snapshot_cache = SnapshotCache()
        self._cache = SchedulerCache(self.snapshot_cache.choose)
        self.quarantine = Quarantine(store)
        self.snapshots = Snapshots(store, self.snapshot_cache, self.quarantine, self.online)
        self.handover = Handover(store, dispatch, settings, self.quarantine, self.hearing)
        waited_s = self.handover.waited_s
        self.silent = Silent(store, settings, self.hearing, self.quarantine, waited_s)
        self.rounds, self.due = Rounds(REPLAN_S), PlanDue(store, REPLAN_S)
        self.likely = Likely()
        self.steps = Steps(store, settings, self.quarantine, self.online)
        self.idle = IdleAttempts(store, settings.idle_after_s)
        self.waits = LongWaits(store, settings.waiting_after_s)
        self.seen: tuple[Fleet, Plan, float] | None = None  # for those who ask what another plan would be
        self._prune_at = self._curves_at = 0.0
        self._roll_at = self._rolled_s = 0.0  # CPU seconds of this round that went into history
        self._calibrated_at: float | None = None
        self._moved = False  # jobs started or ended in this round
        self._news, self._closing = threading.Event(), threading.Event()
        self.give_way = GiveWay(self._closing.wait)
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self.wake()
        self._thread.join(10)

    def wake(self) -> None:
        """Something happened: plan soon."""
        self._news.set()

    def take_over(self) -> None:
        """This server leads from now on: nobody has been heard by it yet."""
        self.hearing.restart()
        self.wake()

    def measured(self) -> None:
        """What was measured has changed: the next plan reads it again."""
        self._calibrated_at = None

    def online(self, host: HostRow) -> bool:
        """Whether a host's agent is there: the one judgement that planner, handover and every answer go by."""
        return self.hearing.online(host, self.clock(), self.settings.away_after_s)

    def _run(self) -> None:
        while not self._closing.is_set():
            woken = self._news.wait(PERIOD_S)
            if woken:
                time.sleep(SETTLE_S)
            self._news.clear()
            if not self._leads():
                self.rounds.good()  # none is due
                continue
            began, used_s, self._moved = time.monotonic(), time.thread_time(), False
            self._rolled_s = 0.0
            try:
                if woken or self.due.now(began, self.clock()):
                    self.due.begin()
                    with uncollected():
                        self.tick(now := self.clock())
                    self.due.planned(began, self.seen[0] if self.seen else None, now)
                else:
                    self._take_reports(self.clock())
                    self._roll_up(self.clock())
            except (
                Exception
            ) as error:  # the loop's outermost edge: a fault in one tick must not end scheduling
                self.rounds.failed(error)
                log.error("tick failed: %s", error, exc_info=not isinstance(error, TuneyardError))
            if not self._closing.is_set():
                rest = REST_AFTER_WORK if self._moved else REST_AFTER_PLAN
                rest_s = rest * (time.thread_time() - used_s - self._rolled_s)
                self.rounds.rests(rest_s)
                self._closing.wait(rest_s)

    def tick(self, now: float) -> None:
        """One pass. Crash anywhere: the next one finishes the work."""
        self.rounds.begin()
        self.give_way.begin()
        self._take_reports(now)  # 1: what hosts said becomes record
        with self._step("links", now):  # 2: jobs whose dependency can't be met any more fail
            self.store.fail_unmet(now)
        rows = self.store.fleet_rows(now=now)  # 3: the rows of one instant
        self.give_way()
        self._end(self.silent.given_up(rows, now), now)  # 4: attempts of hosts that stay silent end
        # 5: without what can't be read, and without steps, which take no card
        rows, steps = parted(readable(rows, self.quarantine, self.settings, now))
        self.give_way()
        with self._step("early stops", now):  # 6
            stop_the_worst(self.store, rows, self.snapshot_cache.readable_specs(rows.running), now)
        with self._step("idle attempts", now):  # 6 too: what holds cards and does nothing
            self.idle.end(rows, now)
        with self._step("long waits", now):  # 6 too: who wants to know is told
            self.waits.tell(rows.queued, now)
        with self._step("shared cards", now):  # 7: jobs that slow each other down are parted
            self.snapshots.neighbours.part(rows, self.settings.rules, now)
        with self._step("calibration", now):  # 8: what was measured
            self._calibrate(now)
        good = False
        with self._step("planning", now):  # 9 to 14
            self._plan(rows, now)
            good = True
        with self._step("steps", now):  # 14 too: what follows a training
            self.steps.start(steps, rows, now)
        with self._step("handing over", now):  # 15: what was committed
            self.handover.hand(now)
        self.give_way()
        self._roll_up(now)  # 16: a little of what is due
        with self._step("curves", now):  # of what ended, while its samples are there
            self._keep_curves(now)
        with self._step("old samples", now):  # 17
            self._prune(now)
        if good:
            self.rounds.good()

    def _plan(self, rows: FleetRows, now: float) -> None:
        """From the rows of one instant to what is committed."""
        snapshot = self.snapshots.take(rows, self.settings, now)  # 9: only reads
        for job_id, fault in snapshot.faults.items():  # 10: jobs that can't train as they are
            self.store.fail_queued(job_id, Reason(Code.BAD_INPUT, fault), now)
        self.give_way()
        fleet, decided = planned(snapshot.fleet, now, self._decided(now), self.quarantine)  # 11: pure
        self._commit(decided, fleet, now)  # 12: refusing what moved
        self.give_way()
        self.seen = (fleet, decided, now)
        with self._step("what can't shrink", now):  # 13: jobs for which no smaller rung is left
            fail_what_can_not_shrink(self.store, self.snapshot_cache, decided, fleet, now)
        with self._step("traces", now):  # 14: what hosts are asked for, and what is told of starts to come
            self._trace(decided, fleet, now)
        with self._step("likely starts", now):
            given = functools.partial(self._cache.plan_input, fleet, now, self.settings.rules)
            self.likely.look(decided, now, given)

    def _decided(self, now: float) -> Callable[[Fleet], Plan]:
        """plan() of a fleet, with what the cache keeps; of one that it raised for, nothing is kept."""

        def decide(fleet: Fleet) -> Plan:
            try:
                self._cache.observe(fleet)
                return plan(self._cache.plan_input(fleet, now, self.settings.rules))
            except Exception:
                self._cache = SchedulerCache(self.snapshot_cache.choose)
                raise

        return decide

    def _step(self, name: str, now: float) -> AbstractContextManager[None]:
        """A step that others can do without: the tick goes on."""
        return self.quarantine.part("step", name, "the tick goes on", now)

    def _take_reports(self, now: float) -> None:
        """End the attempts whose host reported an outcome, or whose start was refused."""
        refused = {
            event["attempt_id"]: event for event in self.dispatch.events() if event["event"] == "refused"
        }
        over: list[tuple[AttemptRow, Ended]] = []
        found = self.store.attempts_to_end(refused)
        for attempt in self.quarantine.each("attempt", found, lambda one: one.id, _ENDING, now):
            with self.quarantine.part("attempt", attempt.id, _ENDING, now, attempt.job_id):
                if (ended := verdict(attempt)) is not None:
                    over.append((attempt, ended))
                elif attempt.id in refused and attempt.started_at is None:
                    over.append((attempt, refusal(refused[attempt.id], now)))
        self._end(over, now)

    def _end(self, over: Sequence[tuple[AttemptRow, Ended]], now: float) -> None:
        """What becomes of these jobs, all under one commit."""
        if not over:
            return
        job_ids = {attempt.job_id for attempt, _ in over}
        jobs, histories = self.store.jobs_by_id(job_ids), self.store.histories(job_ids)
        closings, closed = [], []
        for attempt, ended in over:
            with self.quarantine.part("attempt", attempt.id, _ENDING, now, attempt.job_id):
                closings.append(
                    self._ending(attempt, ended, jobs[attempt.job_id], histories[attempt.job_id], now)
                )
                closed.append((attempt, ended))
        done = self._close(closings, now)
        self.measured()
        self._moved = True
        for attempt, ended in closed:
            if attempt.id in done:
                self.handover.forget(attempt.id)
                log.info("job %s attempt %s: %s", attempt.job_id, attempt.number, ended.outcome)

    def _close(self, closings: Sequence[Closing], now: float) -> set[int]:
        """End these attempts under one commit; where one can't be ended, each by itself. Their ids."""
        done: set[int] = set()
        together = len(closings) > 1
        with self.quarantine.part("step", "ends", "ending attempts under one commit", now):
            done = self.store.end_attempts(closings, now) if together else done
        for one in closings:
            if one.attempt_id not in done:
                with self.quarantine.part("attempt", one.attempt_id, _ENDING, now):
                    done |= self.store.end_attempts([one], now)
        return done

    def _ending(
        self, attempt: AttemptRow, ended: Ended, job: JobRow, tries: Sequence[AttemptRow], now: float
    ) -> Closing:
        """What becomes of a job. tries: all of its attempts."""
        history = [
            Past(past.outcome, past.steps or 0)
            for past in tries
            if past.outcome is not None and past.id != attempt.id
        ]
        cancelled = job.cancel_requested_at is not None
        ran_out = ran_out_of(attempt) if ended.outcome is Outcome.OOM else None
        spec, most = JobSpec.model_validate(job.spec), self.settings.oom_requeues
        because = job.reason if job.reason.code in (Code.EARLY_STOP, Code.IDLE) else None
        decision = decide(history, ended, spec, cancelled, ran_out, most, because)
        not_before = now + decision.delay_s if isinstance(decision, Requeue) and decision.delay_s else None
        at_fault = faulty(attempt, ended) | suspected(self.store, attempt, ended, self.handover.handed_from)
        return Closing(
            attempt.id, attempt.number, ended, decision.event, decision.reason, not_before, at_fault
        )

    def _calibrate(self, now: float) -> None:
        """What was measured counts in the very next plan."""
        if self._calibrated_at is None or now - self._calibrated_at >= CALIBRATE_EVERY_S:
            with leaving_out() as noted:  # what can't be read teaches nothing
                seen = self.store.observations()
            for one in noted.values():
                with self.quarantine.part("attempt", one.key, "reading what was measured of it", now):
                    raise Garbled(one.why)
            if self.snapshot_cache.calibrate(seen):
                self._cache.learnt()
            self._calibrated_at = now

    def _commit(self, decided: Plan, fleet: Fleet, now: float) -> None:
        jobs = {job.job_id: job for job in fleet.queue}
        attempts = {job.job_id: job.attempt_id for job in fleet.running}
        for job_id, reason in decided.stops.items():
            stop_for = reason.figures.get("for_job")
            if self.store.request_stop(attempts[job_id], "preempted", now, reason, stop_for):
                log.info("job %s %s", job_id, reason.text)
        host_of = {gpu.id: host.id for host in fleet.hosts for gpu in host.gpus} if decided.starts else {}
        planned = []
        for job_id, placement in decided.starts.items():
            gpus = in_rank_order(placement.gpus, jobs[job_id].home, host_of)
            planned.append(
                Start(
                    job_id,
                    host_of[gpus[0].id],
                    tuple(gpu.id for gpu in gpus),
                    dataclasses.asdict(placement.choice.rung),
                    placement.choice.projection.as_dict(),
                    basis_of(jobs[job_id], placement, self.snapshot_cache.calibration),
                    shared=jobs[job_id].shares,
                    host_ids=tuple(host_of[gpu.id] for gpu in gpus),
                    revision=jobs[job_id].revision,
                )
            )
        for job_id in self.store.start_attempts(planned, now):
            placement, self._moved = decided.starts[job_id], True
            log.info("job %s starts on %s: %s", job_id, placement.host.name, placement.choice.rung.label)
        self.store.set_reasons({**decided.waits, **self.quarantine.reasons()})

    def _trace(self, decided: Plan, fleet: Fleet, now: float) -> None:
        specs = {job.job_id: job.spec for job in fleet.queue}
        for key, (job_id, host_id) in decided.traces.items():
            self.store.want_profile(key, specs[job_id].model_dump(mode="json", exclude_unset=True), now)
            self.store.assign_profile(key, host_id, now)
        for key, (job_id, host_id) in decided.counts.items():
            self.snapshots.data.want(key, specs[job_id], host_id, now)

    def _roll_up(self, now: float) -> None:
        """A little of history, and then for a while none. No round waits for others because of it: it is not counted
        in what the loop rests for.
        """
        if time.monotonic() < self._roll_at:
            return
        used_s = time.thread_time()
        with self._step("history", now):
            self.store.roll_up(now)
        self._rolled_s = time.thread_time() - used_s
        self._roll_at = time.monotonic() + REST_AFTER_HISTORY * self._rolled_s

    def _keep_curves(self, now: float) -> None:
        if now >= self._curves_at:
            more = self.store.keep_curves(now, now - self.settings.keep_minutes_s)
            self._curves_at = now + (PRUNE_ON_S if more else CURVES_EVERY_S)

    def _prune(self, now: float) -> None:
        if now >= self._prune_at:
            self.store.prune_samples(now - self.settings.keep_samples_s)
            self.store.prune_minutes(now - self.settings.keep_minutes_s, now - self.settings.keep_quarters_s)
            self.store.forget_submissions(now)
            more = self.store.prune_history(now - self.settings.keep_history_s)
            self._prune_at = now + (PRUNE_ON_S if more else PRUNE_EVERY_S)
