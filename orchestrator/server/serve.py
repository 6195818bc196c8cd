"""`tuneyard serve`: the API, the controller and the dispatcher in one process, until SIGTERM."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from jobs.errors import Unavailable
from jobs.identity import new_uuid
from orchestrator.config import Settings, private_folder, ray_token
from orchestrator.control.leader.led_dispatch import LedDispatch
from orchestrator.dispatch.dispatcher import DispatchProcess, NoDispatch
from orchestrator.notify.mail import read_relay
from orchestrator.server.tokens import check_token
from workers.durable import publish, take

if TYPE_CHECKING:
    from orchestrator.control.controller import Controller

log = logging.getLogger("tuneyard")


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises TuneyardError when it can't start."""
    check_token(settings.token, settings.home)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(0o077)  # what is in the home is its user's alone
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # A second Ctrl-C must not cut the shutdown short: uvicorn's handlers stay, these ones come back after it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    read_relay(settings.smtp_url, settings.smtp_from)  # raises before anything starts
    with (
        only_one(settings.home / "run", "server") as place,
        bound(settings) as listener,
        dispatching(settings) as dispatch,
    ):
        _serve(settings, listener, dispatch, place)


def _serve(
    settings: Settings, listener: socket.socket, dispatch: LedDispatch | NoDispatch, place: str
) -> None:
    # Here: these take a second, in which the host agent finds the port open.
    from orchestrator.control.controller import Controller
    from orchestrator.control.host_silence import DATABASE_S, LOOP_S, Hearing, Wakefulness
    from orchestrator.control.leader.leadership import Leadership
    from orchestrator.store import Store, look_after_unclean_end, upgrade
    from orchestrator.store.leader_lease import Candidate

    look_after_unclean_end(settings.database)
    upgrade(settings.database)
    store = Store(settings.database)
    awake = Wakefulness({"loop": LOOP_S, "database": DATABASE_S})
    leadership = Leadership(store, Candidate(new_uuid(), place, settings.url, socket.gethostname()))
    controller = Controller(
        leadership.store,
        dispatch,
        settings,
        hearing=Hearing(awake.now_s),
        leads=lambda: leadership.leads,
    )
    if store.begin_epoch(controller.clock()):
        log.warning(
            "the database went back to a backup, or was moved: hosts join again (docs/reliability.md)"
        )
    leadership.on_answer = lambda: awake.beat("database")
    leadership.on_taken = controller.take_over
    if isinstance(dispatch, LedDispatch):
        dispatch.wake = controller.wake
        leadership.ray_address = lambda: dispatch.address
        leadership.on_taken, leadership.on_lost = lambda: _lead(dispatch, controller), dispatch.shut
    # First, for Ray's head comes up while the rest is loaded.
    leadership.open()
    try:
        # Here, for the same reason.
        from orchestrator.server.http_server import answer

        answer(settings, listener, store, leadership, controller, awake)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        controller.close()
        leadership.close()  # another decides from here on
        store.close()


def _lead(dispatch: LedDispatch, controller: Controller) -> None:
    dispatch.open()
    controller.take_over()


@contextlib.contextmanager
def dispatching(settings: Settings) -> Iterator[LedDispatch | NoDispatch]:
    """The dispatcher, which is at work while this server leads, until the end of the block."""
    if not settings.ray:
        yield NoDispatch()
        return
    scratch = private_folder(settings.ray_folder)
    token = ray_token(settings.home, settings.token)
    home, ip, port = settings.home, settings.ray_address_ip, settings.ray_port
    dispatch = LedDispatch(lambda: DispatchProcess(home, scratch, ip, port, token))
    try:
        yield dispatch
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        dispatch.close()


@contextlib.contextmanager
def bound(settings: Settings) -> Iterator[socket.socket]:
    """The listening socket. Raises Unavailable when the port is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"can't listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another port with --port, or end what listens there"
        ) from None
    with listener:
        listener.listen(2048)
        yield listener


@contextlib.contextmanager
def only_one(folder: Path, name: str) -> Iterator[str]:
    """Hold the lock of this home's server (or host) and say which process it is. Raises Conflict when one runs.

    Yields which lock of all it is: that of this file since this machine started.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    record = folder / f"{name}.json"
    lock = folder / f"{name}.lock"
    with take(lock, f"a {name} already runs for {folder.parent}; `tuneyard down` ends it"):
        process = psutil.Process()
        publish(record, json.dumps({"pid": process.pid, "create_time": process.create_time()}), private=True)
        found = lock.stat()
        try:
            yield f"{_boot()} {found.st_dev}:{found.st_ino}"
        finally:
            record.unlink(missing_ok=True)


def _boot() -> str:
    """This start of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"
