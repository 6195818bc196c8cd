"""`tuneyard up` and `down`: server and host agent of this machine as background processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from jobs.errors import Unavailable, UsageError
from jobs.units import exact_size, gib
from orchestrator.client.responses import USER_HEADER
from orchestrator.client.settings import user_name
from orchestrator.config import Settings, load, write_client_config
from orchestrator.server.tokens import check_token
from workers.durable import publish

READY_S = 60.0
STOP_S = 40.0
OPTIONS = "up.json"  # in the home: what `up` was given for the host agent


def up(
    home: Path,
    cpu_cards: Sequence[int] | None = None,
    port: int | None = None,
    warm: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Start what does not run yet; returns once this machine's host has joined.

    cpu_cards: bytes of each CPU card, in place of GPUs; [] for the GPUs; None: as at the last `up`, and so is warm.
    Returns {"url", "home", "server_pid", "host", "host_pid",
    "gpus", "started", "page"}, host and gpus of this machine alone; page: a link that signs in
    once. Raises Unavailable with the end of the log when one of them
    does not come up, UsageError for what can't be had while one runs as it does.
    """
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    _refuse_what_would_be_ignored(home, cpu_cards, port, warm)
    given: dict[str, Any] = {"cpu_cards": None if cpu_cards is None else list(cpu_cards), "warm": warm}
    started = []
    if running(home, "server") is None:
        # Any free port will do: then that which an agent that runs asks.
        settings = load(home, port=None if port == 0 and running(home, "host") is not None else port)
        check_token(settings.token, home)
        write_client_config(settings)  # so that the server takes this very port and token
        _spawn(home, "server", ["serve", "--port", str(settings.port)])
        # The agent sends the token: not before the port is our server's. It then waits there while both come up.
        _await(home, "server", lambda: _listens(home, settings.port))
        started.append("server")
    settings = load(home)
    if running(home, "host") is None:
        options = kept_options(home)
        if taken := {name: value for name, value in options.items() if given[name] is None}:
            say(
                f"with {flags_of(taken)}, as at the last `tuneyard up`; --cpu-cards none takes this machine's GPUs"
            )
        options |= {name: value for name, value in given.items() if value is not None}
        options = {name: value for name, value in options.items() if value != []}
        cards = ",".join(f"{size}B" for size in options.get("cpu_cards", ()))
        flags = [*_given("--cpu-cards", cards or None), *_given("--warm", options.get("warm"))]
        _spawn(home, "host", ["host", "run", *flags], options)
        _keep_options(home, options)
        started.append("host")
    if "server" in started:
        try:
            _await(home, "server", lambda: _healthy(home, settings))
        except Unavailable:
            if "host" in started and (agent := running(home, "host")) is not None:
                _end(agent)
            raise
        say(f"server: {settings.url} (process {_pid(home, 'server')})")
    name = socket.gethostname()  # as its agent calls itself
    _await(home, "host", lambda: _joined(home, settings, name))
    cards_up = [gpu for gpu in _hosts_and_cards(settings)[1] if gpu["host"] == name]
    names = ", ".join(f"{gpu['name']} {gib(gpu['memory_bytes'])}" for gpu in cards_up) or "no cards"
    say(f"host: {name} (process {_pid(home, 'host')}) with {names}")
    return {
        "url": settings.url,
        "home": str(home),
        "server_pid": _pid(home, "server"),
        "host": name,
        "host_pid": _pid(home, "host"),
        "gpus": cards_up,
        "started": started,
        "page": _page(settings),
    }


def down(home: Path, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """End host agent and server, gently first. Returns {"stopped": names}."""
    home = home.absolute()
    stopped = []
    for name in ("host", "server"):
        process = running(home, name)
        if process is not None:
            say(f"{name}: process {process.pid} is asked to end")
            _end(process)
            stopped.append(name)
    end_ray_head(home)
    return {"stopped": stopped}


def kept_options(home: Path) -> dict[str, Any]:
    """Options of the host agent that the last `up` on this home had; {} where it had none."""
    kept = _record(home / OPTIONS) or _record(home / "run" / "host.json").get("given") or {}
    return {name: kept[name] for name in ("cpu_cards", "warm") if kept.get(name) is not None}


def flags_of(options: Mapping[str, Any]) -> str:
    """The same for a command line: --cpu-cards 700MiB,2GiB --warm 1."""
    cards = ",".join(exact_size(size) for size in options.get("cpu_cards") or ())
    flags = [*_given("--cpu-cards", cards or None), *_given("--warm", options.get("warm"))]
    return " ".join(flags)


def _keep_options(home: Path, options: Mapping[str, Any]) -> None:
    """For the next `up`."""
    publish(home / OPTIONS, json.dumps(dict(options)) + "\n", private=True)


def _refuse_what_would_be_ignored(
    home: Path, cpu_cards: Sequence[int] | None, port: int | None, warm: int | None
) -> None:
    """Raises UsageError for an option that differs from what runs already: nothing is restarted for it."""
    faults = []
    if port and port != (now := load(home).port):
        if running(home, "server") is not None:
            faults.append(f"--port {port}: the server runs already, on port {now}")
        elif running(home, "host") is not None:
            faults.append(f"--port {port}: the host agent runs already, and asks the server on port {now}")
    if running(home, "host") is not None:
        given = _record(home / "run" / "host.json").get("given") or {}
        has = given.get("cpu_cards")
        if cpu_cards is not None and (has or []) != list(cpu_cards):
            cards = f"the CPU cards {','.join(map(gib, has))}" if has else "this machine's GPUs"
            faults.append(
                f"--cpu-cards {','.join(map(gib, cpu_cards)) or 'none'}: the host agent runs already, with {cards}"
            )
        if warm is not None and warm != given.get("warm"):
            kept = "its default" if given.get("warm") is None else given["warm"]
            faults.append(f"--warm {warm}: the host agent runs already, with {kept}")
    if faults:
        raise UsageError(f"{'; '.join(faults)}. Stop what runs with `tuneyard down` first")


def _record(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _pid(home: Path, name: str) -> int | None:
    process = running(home, name)
    return process.pid if process else None


def running(home: Path, name: str) -> psutil.Process | None:
    """The process of this home's server or host, if it runs: a reused process id is not mistaken for it."""
    return recorded(home / "run" / f"{name}.json")


def recorded(path: Path) -> psutil.Process | None:
    """The process that a record of {"pid", "create_time"} names, if it is still that one."""
    with contextlib.suppress(OSError, ValueError, KeyError, psutil.NoSuchProcess):
        known = json.loads(path.read_text())
        process = psutil.Process(known["pid"])
        if abs(process.create_time() - known["create_time"]) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def end_ray_head(home: Path) -> None:
    """End a Ray head that outlived its server (which was killed)."""
    record = home / "run" / "head.json"
    process = recorded(record)
    if process is not None:
        _end(process)
    record.unlink(missing_ok=True)


def _end(process: psutil.Process) -> None:
    """Terminate; after a while kill it and what it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = process.children(recursive=True)
        process.terminate()
        try:
            process.wait(STOP_S)
        except psutil.TimeoutExpired:
            process.kill()
        _, alive = psutil.wait_procs(family, timeout=3)
        for child in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def _given(flag: str, value: Any) -> list[str]:
    return [] if value is None else [flag, str(value)]


def _spawn(home: Path, name: str, arguments: Sequence[str], given: Mapping[str, Any] | None = None) -> None:
    """A background process of its own session, so that the terminal's Ctrl-C does not reach it.

    given: the options that it has, for the next `up` to compare with.
    """
    (home / "run").mkdir(exist_ok=True, mode=0o700)
    # Both are to find this home's server in its config.json, not one that the user's shell points at.
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("TUNEYARD_URL", "TUNEYARD_TOKEN")
    }
    with open(os.open(home / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**inherited, "TUNEYARD_HOME": str(home)},
        )
    record = {"pid": child.pid, "create_time": psutil.Process(child.pid).create_time(), "given": given or {}}
    publish(home / "run" / f"{name}.json", json.dumps(record), private=True)


def _await(home: Path, name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not ready():
        if running(home, name) is None or time.monotonic() > deadline:
            raise Unavailable(
                f"the {name} did not come up; the end of {home / f'{name}.log'}:\n{_tail(home / f'{name}.log')}"
            )
        time.sleep(0.05)


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        return str(error)
    return "\n".join(f"  {line}" for line in lines[-8:])


def _page(settings: Settings) -> str:
    """The web page; the link signs in once, while it is fresh."""
    made = _ask(settings, "POST", "/session/ticket") or {}
    return made.get("url") or settings.url


def _get(settings: Settings, path: str, token: bool = True) -> Any:
    return _ask(settings, "GET", path, token)


def _ask(settings: Settings, method: str, path: str, token: bool = True) -> Any:
    """The JSON of an answer of status 200, None for any other."""
    connection = http.client.HTTPConnection(
        "127.0.0.1" if settings.loopback else settings.host, settings.port, timeout=5
    )
    headers = {"Authorization": f"Bearer {settings.token}", USER_HEADER: quote(user_name())} if token else {}
    try:
        connection.request(method, f"/api/v1{path}", headers=headers)
        response = connection.getresponse()
        return json.loads(response.read()) if response.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _listens(home: Path, port: int) -> bool:
    """Whether our server has this port."""
    process = running(home, "server")
    with contextlib.suppress(psutil.Error):
        return process is not None and any(
            one.status == psutil.CONN_LISTEN and one.laddr.port == port
            for one in process.net_connections("tcp")
        )
    return False


def _healthy(home: Path, settings: Settings) -> bool:
    """Whether it is our server that answers there: a stranger must not be sent the token."""
    found = _get(settings, "/health", token=False) or {}
    return found.get("status") in ("ok", "degraded") and found.get("pid") == _pid(home, "server")


def _hosts_and_cards(settings: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    hosts, gpus = _get(settings, "/hosts") or {}, _get(settings, "/gpus") or {}
    return hosts.get("hosts", []), gpus.get("gpus", [])


def _joined(home: Path, settings: Settings, name: str) -> bool:
    """Whether the host of this name was heard of since its agent runs: not that of an agent that was killed before."""
    agent = running(home, "host")
    since = math.inf if agent is None else agent.create_time()
    hosts, gpus = _hosts_and_cards(settings)
    return any(
        host["name"] == name and host["state"] not in ("away", "stopped") and host["last_seen"] >= since
        for host in hosts
    ) and any(gpu["host"] == name for gpu in gpus)
