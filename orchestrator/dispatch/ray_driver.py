"""Start rank actors over Ray: the only Ray driver, in its own process.

A driver whose GCS stays away is ended from C++ after 60 s, so it must not be the server. The server writes commands as
JSON lines to this process's stdin and reads events from its stdout:

    {"op": "start", "attempt_id": 7, "parts": [{"host": "a", "home": .., "output_root": .., "assignments": [..],
     "env": {..}}]}                              env: secrets of the job, for the trainer's environment alone
    {"op": "pool", "warm": {"a": 1}}            rank actors to keep ready on each host
    {"op": "shutdown"}                          leave; the server then ends the Ray head

    {"event": "connecting"}  {"event": "ready"}  {"event": "started", "attempt_id": 7}
    {"event": "refused", "attempt_id": 7, "host": "a", "text": ..}
    {"event": "beat"}                           once a second, while each piece of work keeps its time
    {"event": "stuck", "doing": .., "for_s": 61}    one does not: a call to Ray hangs, and the server ends this process
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from orchestrator.dispatch.heartbeat import BEAT_S, Work
from orchestrator.dispatch.ray_head import Head
from workers.checkpoints.ray_transport import hosts_alive
from workers.ray_network import LOOPBACK, pin_loopback
from workers.trainer.ray_actor import rank_actor

NAMESPACE = "tuneyard"
HEAD_READY_S, CONNECT_S = 60.0, 75.0  # the second: with a last call that hangs
ADOPT_S = 90.0
# Calls that have no time-out of their own answer in milliseconds, or never.
CALL_S = 45.0
# A new actor's imports would compete with the job that just took the last one for its first step.
REFILL_AFTER_S = 6.0
PERIOD_S = 1.0  # between looks at the head and the hosts; commands are obeyed at once
AT_ONCE = 32  # starts; one to a host that hangs takes minutes

# Events go to the real stdout; whatever Ray prints there goes to stderr, which is a log file.
_EVENTS = os.fdopen(os.dup(1), "w")
_ONE_AT_A_TIME = threading.Lock()
WORK = Work()


def emit(event: str, **fields: Any) -> None:
    """One event to the server."""
    line = json.dumps({"event": event, **fields}) + "\n"
    with _ONE_AT_A_TIME:
        _EVENTS.write(line)
        _EVENTS.flush()


def beat() -> None:
    """Tell the server once a second that the work moves, or which piece of it does not."""
    while True:
        late = WORK.look()
        try:
            if late is None:
                emit("beat")
            else:
                emit("stuck", doing=late.doing, for_s=round(late.for_s, 1))
        except OSError:  # the server is gone; what hangs here would stay for ever
            os._exit(4)
        time.sleep(BEAT_S)


@dataclass
class Pool:
    """Warm rank actors by host. An actor is used once."""

    wanted: dict[str, int] = field(default_factory=dict)
    idle: dict[str, list[Any]] = field(default_factory=dict)
    taken_at: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, host: str) -> Any:
        """A warm (or warming) actor of that host, else a new one."""
        with self.lock:
            self.taken_at[host] = time.monotonic()
            waiting = self.idle.get(host) or []
            if waiting:
                return waiting.pop(0)
        return new_actor(host)

    def refill(self, alive: Collection[str]) -> None:
        """Make what is missing, end what is too many, forget hosts that are gone."""
        with self.lock:
            for host in set(self.idle) | set(self.wanted):
                actors = self.idle.setdefault(host, [])
                if host not in alive:
                    self.idle.pop(host)
                    continue
                while len(actors) > self.wanted.get(host, 0):
                    ray.kill(actors.pop())
                rested = time.monotonic() - self.taken_at.get(host, -REFILL_AFTER_S) >= REFILL_AFTER_S
                while rested and len(actors) < self.wanted.get(host, 0):
                    actor = new_actor(host)
                    # One that replaces another must not slow down the training that the other was taken for.
                    actor.warm.remote(host in self.taken_at)
                    actors.append(actor)


def new_actor(host: str) -> Any:
    """A detached rank actor on that host. It asks Ray for nothing: GPUs are ours to assign."""
    name = f"rank-{host}-{uuid.uuid4().hex[:12]}"
    return (
        rank_actor()
        .options(name=name, lifetime="detached", num_cpus=0, label_selector={"host": host})
        .remote()
    )


def started(command: dict[str, Any], pool: Pool) -> None:
    """start(), which says so whatever happens."""
    attempt_id = command["attempt_id"]
    try:
        with WORK.doing(f"starting attempt {attempt_id}", 3 * ADOPT_S):
            start(command, pool)
    except Exception as error:  # the outermost edge of a thread: the server waits for an answer
        traceback.print_exception(error)
        text = f"the dispatcher failed: {type(error).__name__}: {error}".splitlines()[0]
        emit("refused", attempt_id=attempt_id, host=None, text=text)


def start(command: dict[str, Any], pool: Pool) -> None:
    """Hand the assignments to rank actors; says so, or why not. All are there before any is told to begin."""
    attempt_id, parts = command["attempt_id"], command["parts"]
    with WORK.doing("asking which hosts are there", CALL_S):
        addresses = hosts_alive()
    missing = [part["host"] for part in parts if part["host"] not in addresses]
    if missing:
        text = f"host {missing[0]} is not in the Ray cluster"
        emit("refused", attempt_id=attempt_id, host=missing[0], text=text)
        return
    taken = [(pool.take(part["host"]), part, given) for part in parts for given in part["assignments"]]
    waiting_for, until = parts[0]["host"], time.monotonic() + ADOPT_S
    try:
        if len(parts) > 1:
            for actor, part, _ in taken:
                waiting_for = part["host"]
                ray.get(actor.state.remote(), timeout=max(0.0, until - time.monotonic()))
            meet(taken, addresses)
        begun = [(part["host"], _adopt(actor, part, given)) for actor, part, given in taken]
        until = time.monotonic() + ADOPT_S
        for host, answer in begun:
            waiting_for = host
            # False: a rank that was handed out before has it already; the others may still lack theirs.
            ray.get(answer, timeout=max(0.0, until - time.monotonic()))
    except GetTimeoutError:
        _kill(taken)
        text = f"no rank actor came up on {waiting_for} within {ADOPT_S:.0f}s"
        emit("refused", attempt_id=attempt_id, host=waiting_for, text=text)
    except RayError as error:
        _kill(taken)
        text = f"the rank actor on {waiting_for} failed: {str(error).splitlines()[0]}"
        emit("refused", attempt_id=attempt_id, host=waiting_for, text=text)
    else:
        emit("started", attempt_id=attempt_id)


def meet(taken: list[tuple[Any, Any, dict[str, Any]]], addresses: dict[str, str]) -> None:
    """Tell ranks on several hosts where they meet: on that of rank 0, at a port that is free there."""
    first, part, _ = taken[0]
    port = ray.get(first.free_port.remote(), timeout=ADOPT_S)
    for _, own, given in taken:
        given["master_addr"], given["master_port"] = addresses[part["host"]], port
        given["address"] = addresses[own["host"]]


def _adopt(actor: Any, part: Any, given: dict[str, Any]) -> Any:
    return actor.adopt.remote(json.dumps(given), part["home"], part["output_root"], part.get("env", {}))


def _kill(taken: list[tuple[Any, Any, dict[str, Any]]]) -> None:
    for actor, *_ in taken:
        ray.kill(actor)


def end_idle_actors() -> None:
    """Actors that a dispatcher before this one left without work; those at work are left alone."""
    with WORK.doing("looking for idle actors", CALL_S):
        names = ray.util.list_named_actors()
    for name in names:
        with contextlib.suppress(ValueError, RayError), WORK.doing("asking an actor for its work", CALL_S):
            actor = ray.get_actor(name)
            try:
                busy = ray.get(actor.state.remote(), timeout=5)["attempt"] is not None
            except GetTimeoutError:
                busy = True
            if not busy:
                ray.kill(actor)


def connect(head: Head) -> None:
    """Join the cluster as its driver. Raises RuntimeError when the head does not answer in time."""
    deadline = (
        time.monotonic() + HEAD_READY_S
    )  # looked at between calls; one that hangs is the heartbeat's business
    if head.node_ip == LOOPBACK:
        pin_loopback()
    while True:
        try:
            ray.init(
                address=head.address, namespace=NAMESPACE, log_to_driver=False, _node_ip_address=head.node_ip
            )
            return
        except (ConnectionError, RayError, RuntimeError, ValueError) as error:
            if time.monotonic() > deadline or not head.alive():
                raise RuntimeError(f"the Ray head at {head.address} does not answer: {error}") from error
            time.sleep(0.3)


def read_commands(inbox: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """Commands from stdin; None when the server is gone."""
    for line in sys.stdin:
        inbox.put(json.loads(line))
    inbox.put(None)


def serve(head: Head) -> int:
    """Obey the server until it goes away or the head dies. Returns the exit code."""
    emit("connecting")
    with WORK.doing("connecting to the Ray head", CONNECT_S):
        connect(head)
    end_idle_actors()
    emit("ready")
    inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=read_commands, args=(inbox,), daemon=True).start()
    pool = Pool()
    with ThreadPoolExecutor(AT_ONCE) as workers:
        while True:
            try:
                command = inbox.get(timeout=PERIOD_S)
            except queue.Empty:
                if not head.alive():
                    emit("head_died", text="the Ray head ended")
                    # Not through the executor's exit: a pending Ray call would block it for a minute.
                    os._exit(3)
                with WORK.doing("looking after the hosts' actors", CALL_S):
                    pool.refill(hosts_alive())
                continue
            if command is None:
                return 0
            if command["op"] == "shutdown":
                ray.shutdown()
                return 0
            if command["op"] == "pool":
                pool.wanted = command["warm"]
            elif command["op"] == "start":
                workers.submit(started, command, pool)


def main() -> None:
    """`python -m orchestrator.dispatch.ray_driver HOME`, once a head was started; the token is in RAY_AUTH_TOKEN."""
    head = Head(Path(sys.argv[1]))
    os.dup2(2, 1)
    threading.Thread(target=beat, name="beat", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then says what to do
    sys.exit(serve(head) if head.adopt() else "the Ray head ended")


if __name__ == "__main__":
    main()
