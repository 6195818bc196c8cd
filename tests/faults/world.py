"""A server and its hosts in a world of faults, one virtual step after another. The same seed is the same world."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
from collections.abc import Callable
from pathlib import Path

from jobs.errors import NotFound, TuneyardError
from jobs.identity import AttemptKey
from jobs.messages.reports import HostOrders
from jobs.state import TERMINAL, JobState
from orchestrator.api.context import Services
from orchestrator.api.routes import reports
from orchestrator.api.submission.group_commit import GroupCommit
from orchestrator.config import Settings
from orchestrator.control.controller import Controller
from orchestrator.control.host_silence import Hearing
from orchestrator.dispatch.dispatcher import Part
from orchestrator.store.requests import Actor, NewJob, SubmitKey
from tests import invariants
from tests.fakes import FakeDispatch
from tests.faults.agent import Agent
from tests.faults.faulty_store import FaultyStore, fresh_engine

STEP_S = 4.0
STEPS = 20  # at most, before it calms down
ANSWER_S = 15.0  # what an agent waits
JOBS, HOSTS, CARDS = 5, 3, 2  # at most: the seed draws how many
SPEC = {
    "model": {"config": {"model_type": "llama", "hidden_size": 64}, "tokenizer": "org/tokenizer"},
    "data": "org/pairs",
    "training": {"steps": 10, "sequence_length": 128},
}


class Hand(FakeDispatch):
    """A dispatcher whose starts go over the network."""

    def __init__(self, start: Callable[[str, AttemptKey], None]) -> None:
        super().__init__()
        self._bring = start

    def start(self, attempt_id: int, parts: list[Part]) -> bool:
        for part in parts:
            given = part["assignments"][0]
            key = {name: given[name] for name in ("attempt_id", "job_id", "number", "uuid")}
            self._bring(part["host"], AttemptKey(**key))
        return True


class World:
    """faults: how much goes wrong, 0 to 1; calm() ends it."""

    def __init__(self, template: Path, folder: Path, seed: int) -> None:
        path = folder / "world.db"
        self._engine = fresh_engine(path, template)
        self.chance = random.Random(seed)
        self.now, self._awake_s, self._server_back_at = 1_000_000.0, 0.0, 0.0
        self.faults = self.chance.uniform(0.05, 0.3)
        self.store = FaultyStore(self._engine, self.chance)
        self._settings = Settings(home=folder, database=f"sqlite:///{path}", token="t", ray=False)
        self._mail: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        jobs, hosts, cards = (self.chance.randint(1, most) for most in (JOBS, HOSTS, CARDS))
        self.agents = {f"h{n}": Agent(f"h{n}", cards, self.chance) for n in range(hosts)}
        self._wanted = [f"job-{n}" for n in range(jobs)]
        self.fault_steps = self.chance.randint(5, STEPS)
        self._acknowledged: dict[str, int] = {}
        self._ended: dict[int, JobState] = {}
        self.steps = 0
        self._serve(generation=1)

    def _serve(self, generation: int) -> None:
        dispatch = Hand(lambda host, key: self._send(lambda: self.agents[host].claim(key, self.now)))
        dispatch.generation = generation
        controller = Controller(
            self.store, dispatch, self._settings, lambda: self.now, Hearing(lambda: self._awake_s)
        )
        commits = GroupCommit(self.store, lambda: self.now)
        self.known = Services(self._settings, self.store, dispatch, controller, commits)

    def step(self) -> None:
        """A few seconds of everybody, then the invariants."""
        self.now += STEP_S
        self.steps += 1
        self.store.rate = self.faults / 4
        self._misfortune()
        if self._serving:
            self._awake_s += STEP_S
        while self._mail and self._mail[0][0] <= self.now:
            heapq.heappop(self._mail)[2]()
        for agent in self.agents.values():
            agent.train(self.now)
            if self.now >= agent.paused_until:
                self._speak(agent)
        if self._serving:
            self._submit()
            self._tick()
        self.store.rate = 0.0
        self._check()

    def calm(self) -> None:
        """Nothing fails any more."""
        self.faults = 0.0

    @property
    def over(self) -> bool:
        """Whether all that is to be submitted is, and has ended."""
        states = [job.state for job in self.store.jobs(limit=100)]
        return not self._wanted and all(state in TERMINAL for state in states)

    def close(self) -> None:
        self.known.lanes.close()
        self.known.reports.close()
        self.known.pulse.close()
        self.store.close()

    @property
    def _serving(self) -> bool:
        return self.now >= self._server_back_at

    def _misfortune(self) -> None:
        if self.chance.random() < self.faults / 8:  # the server hangs: what it knows stays
            self._server_back_at = self.now + self.chance.uniform(1, 120)
        if self.chance.random() < self.faults / 8:  # it crashes, its dispatcher with it
            self.known.lanes.close()
            self.known.reports.close()
            self.known.pulse.close()
            self._serve(self.known.dispatch.generation + 1)
        for agent in self.agents.values():
            if self.chance.random() < self.faults / 8:
                agent.paused_until = self.now + self.chance.uniform(1, 150)
            if self.chance.random() < self.faults / 8:
                agent.restart()

    def _send(self, deliver: Callable[[], None]) -> None:
        """Over the network: at once, late, twice, or never; what is late comes after what was sent later."""
        copies = 1
        if self.chance.random() < self.faults:
            copies = self.chance.choice((0, 1, 2))
        for _ in range(copies):
            delay_s = self.chance.uniform(0, 20) if self.chance.random() < self.faults else 0.0
            heapq.heappush(self._mail, (self.now + delay_s, next(self._numbers), deliver))

    def _speak(self, agent: Agent) -> None:
        if agent.flight and self.now - agent.sent_at < ANSWER_S:
            return
        agent.flight, agent.sent_at = next(self._numbers), self.now
        flight, boots = agent.flight, agent.boots
        if not agent.host_id:
            info = agent.info()
            self._send(lambda: self._serve_join(agent, info, flight, boots))
        else:
            host_id, body = agent.host_id, agent.report(self.now).model_dump_json(exclude_none=True).encode()
            self._send(lambda: self._serve_report(agent, host_id, body, flight, boots))

    def _serve_join(self, agent: Agent, info, flight: int, boots: int) -> None:  # type: ignore[no-untyped-def]
        if not self._serving:
            return
        try:
            host_id, epoch = self.store.join_host(info, self.now), self.store.epoch()
        except TuneyardError:
            return

        def answer() -> None:
            if (agent.flight, agent.boots) == (flight, boots):
                agent.flight, agent.host_id, agent.epoch = 0, host_id, epoch

        self._send(answer)

    def _serve_report(self, agent: Agent, host_id: int, body: bytes, flight: int, boots: int) -> None:
        if not self._serving:
            return
        (told,) = reports.take(self.known, [(host_id, body)])
        if isinstance(told, Exception) and not isinstance(told, TuneyardError):
            raise told

        def answer() -> None:
            if (agent.flight, agent.boots) != (flight, boots):
                return  # an answer to a request that it gave up on
            agent.flight = 0
            if isinstance(told, NotFound):
                agent.host_id = 0
            elif isinstance(told, bytes):
                agent.obey(HostOrders.model_validate_json(told), self.now)

        self._send(answer)

    def _submit(self) -> None:
        if not self._wanted or self.chance.random() < 0.5:
            return
        name = self._wanted[0]
        job = NewJob(name, "ann", {**SPEC, "name": name}, 1)
        try:
            taken = self.known.commits.submit([job], SubmitKey(name, name))
        except TuneyardError:
            return  # it asks again, with its key
        self._acknowledged[name] = taken.rows[0].id
        self._wanted.pop(0)

    def _tick(self) -> None:
        with contextlib.suppress(TuneyardError):  # as the loop does; the next one finishes the work
            self.known.controller.tick(self.now)
        if self._acknowledged and self.chance.random() < self.faults / 20:
            name = self.chance.choice(sorted(self._acknowledged))
            try:
                self.store.request_cancel(self._acknowledged[name], self.now, actor=Actor("ann"))
            except TuneyardError:
                return

    def _check(self) -> None:
        """DESIGN, section 5, and what no table can tell."""
        invariants.check_all(self.store)
        jobs = self.store.jobs(limit=100)
        names = [job.name for job in jobs]
        assert len(names) == len(set(names)), "a submission that was sent again made a second job"
        assert self._acknowledged.keys() <= set(names), "an acknowledged job is lost"
        ran_through = set().union(*(agent.succeeded for agent in self.agents.values()))
        for job in jobs:
            before = self._ended.get(job.id)
            assert before in (None, job.state), f"job {job.id} was {before} and is {job.state}"
            if job.state in TERMINAL:
                self._ended[job.id] = job.state
            if job.state is JobState.SUCCEEDED:
                last = self.store.attempts(job.id)[-1]
                assert last.uuid in ran_through, f"no trainer of attempt {last.id} came to its end"
