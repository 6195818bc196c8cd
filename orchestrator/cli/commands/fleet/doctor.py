"""tuneyard doctor: each thing that must be right, and what to do when it is not."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import TuneyardError, Unauthorized, Unavailable
from jobs.units import GiB, counted, gib
from orchestrator.cli.output import FAILED, OK, emit, json_option
from orchestrator.cli.render.table import Cell, Column, show
from orchestrator.cli.render.words import GONE
from orchestrator.client.http import Api
from orchestrator.client.settings import find_server, home, read_config

if TYPE_CHECKING:
    from orchestrator.schemas import Gpu, Host, QuarantineEntry

SPACE_BYTES = 10 * GiB
NO_SPACE_BYTES = GiB // 2  # less than this, and the next checkpoint or result may not be written
WORKER_PARTS = ("torch", "transformers", "trl", "peft", "datasets", "ray")
NAMED = 5  # hosts or cards at fault that are named
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True)
class Check:
    """One line: what was checked, ok, warn or fail, what was found, and what to do."""

    name: str
    status: str
    found: str
    fix: str = ""


EXPOSED = Check(
    "transport",
    "warn",
    "the server listens beyond its machine with plain HTTP: the token can be read on the way",
    "keep it in a private network, or put a proxy with TLS before it (docs/operating.md, Security)",
)


@click.command("doctor")
@click.option("--server", metavar="URL", help="Server to check; TUNEYARD_URL, or this machine's own.")
@click.option("--token", metavar="TOKEN", help="Its token; TUNEYARD_TOKEN.")
@json_option
def doctor_verb(server: str | None, token: str | None, as_json: bool) -> int:
    """Check this machine and the server, with what to do about each fault.

    warn is what this machine may do without; the exit code is 1 when something fails. A host that is away or was
    stopped fails, unless it is drained; so does a fleet all of whose hosts are drained.
    """
    checks = [check() for check in LOCAL_CHECKS] + server_checks(server, token)
    if as_json:
        emit({"checks": [asdict(check) for check in checks]})
    else:
        columns = (
            Column("CHECK"),
            Column(""),
            Column("FOUND", wrap=True),
            Column("WHAT TO DO", wrap=True),
        )
        show(
            columns,
            [[c.name, Cell(c.status, STYLES[c.status]), c.found, c.fix] for c in checks],
        )
    return FAILED if any(check.status == "fail" for check in checks) else OK


def python_check() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", "ok", f"{version} ({sys.executable})")


def version_check() -> Check:
    try:
        return Check("tuneyard", "ok", metadata.version("tuneyard"))
    except metadata.PackageNotFoundError:
        return Check("tuneyard", "warn", "runs from a checkout, not installed", "pip install -e .")


def worker_check() -> Check:
    """The libraries a host needs; a laptop that only talks to a server does without."""
    found, missing = [], []
    for part in WORKER_PARTS:
        if importlib.util.find_spec(part) is None:
            missing.append(part)
        else:
            found.append(f"{part} {metadata.version(part)}")
    if missing:
        return Check(
            "training stack",
            "warn",
            f"missing: {', '.join(missing)}",
            "a host needs: pip install 'tuneyard[worker]'",
        )
    return Check("training stack", "ok", ", ".join(found))


def home_check() -> Check:
    folder = home()
    if not folder.exists():
        parent = next(p for p in folder.parents if p.exists())
        if not os.access(parent, os.W_OK):
            return Check(
                "home",
                "fail",
                f"{folder} can't be made in {parent}",
                "set TUNEYARD_HOME to a folder of yours",
            )
        return Check("home", "ok", f"{folder} (made at the first `tuneyard up`)")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Check("home", "fail", f"{folder} can't be written", "set TUNEYARD_HOME to a folder of yours")
    config = folder / "config.json"
    try:
        read_config()
    except TuneyardError as error:
        return Check("home", "fail", str(error))
    if config.exists() and config.stat().st_mode & 0o077:
        return Check("home", "warn", f"others can read the token in {config}", f"chmod 600 {config}")
    return Check("home", "ok", str(folder))


def space_check() -> Check:
    """Of the home, and where that is another disk, of the results that this machine's host writes there."""
    places: dict[int, Path] = {}
    for folder in (home(), home() / "host" / "output"):
        place = next(p for p in (folder, *folder.parents) if p.exists())
        places.setdefault(place.stat().st_dev, place)
    room = [(shutil.disk_usage(place).free, f"at {place}") for place in places.values()]
    return _room("disk space", room)


def _room(name: str, places: Sequence[tuple[int, str]]) -> Check:
    """places: free bytes, and where."""
    short = sorted(place for place in places if place[0] < SPACE_BYTES)
    named = "; ".join(f"{gib(free)} free {where}" for free, where in (short or [min(places)])[:NAMED])
    if not short:
        return Check(name, "ok", named)
    named += f"; and {len(short) - NAMED} more" if len(short) > NAMED else ""
    status = "fail" if short[0][0] < NO_SPACE_BYTES else "warn"
    return Check(name, status, named, "checkpoints and results take several GiB; make room")


def card_check() -> Check:
    """NVML through ctypes: pynvml is a host's library, and a laptop need not have it."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return Check(
            "GPUs",
            "warn",
            "no NVIDIA driver",
            "without GPUs jobs run on CPU cards: tuneyard up --cpu-cards 2GiB",
        )
    code = library.nvmlInit_v2()
    if code:
        return Check(
            "GPUs",
            "fail",
            f"NVML does not start (error {code})",
            "run nvidia-smi; the driver may need a reload",
        )
    count, version = ctypes.c_uint(), ctypes.create_string_buffer(96)
    try:
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        library.nvmlSystemGetDriverVersion(version, 96)
    finally:
        library.nvmlShutdown()
    found = f"{counted(count.value, 'GPU')}, driver {version.value.decode(errors='replace')}"
    return Check("GPUs", "ok" if count.value else "warn", found)


def database_check() -> Check:
    """The job database of this machine, where there is one."""
    from orchestrator.cli.commands.fleet.database import (
        database_url,  # here: with the server's settings and sqlalchemy, 0.5 s
    )
    from orchestrator.store import check

    try:
        url = database_url(None)
        if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
            return Check("database", "ok", "none yet (made by the server)")
        report = check(url)
    except TuneyardError as error:
        return Check("database", "fail", str(error), "check TUNEYARD_DATABASE, and that PostgreSQL runs")
    kind = url.partition(":")[0]
    if report.faults:
        return Check(
            "database",
            "fail",
            f"{counted(len(report.faults), 'fault')}: {report.faults[0]}",
            "tuneyard db check",
        )
    if report.revision != report.head:
        return Check("database", "warn", f"{kind} at revision {report.revision}", "tuneyard db upgrade")
    return Check("database", "ok", f"{kind} at revision {report.revision}")


LOCAL_CHECKS: tuple[Callable[[], Check], ...] = (
    python_check,
    version_check,
    worker_check,
    card_check,
    home_check,
    space_check,
    database_check,
)


def server_checks(url: str | None, token: str | None) -> list[Check]:
    """The server as a client sees it: there, the token right, Ray ready, hosts joined."""
    try:
        found = find_server(url, token)
    except Unavailable as error:
        return [Check("server", "warn", "none is configured", str(error).partition("; ")[2])]
    except TuneyardError as error:
        return [Check("server", "fail", str(error))]
    api = Api(found, timeout_s=5)
    try:
        health = api.get("/health")
    except TuneyardError as error:
        return [Check("server", "fail", *str(error).partition("; ")[::2])]
    checks = [Check("server", "ok", f"{found.url}, version {health.get('version', '?')}")]
    try:
        hosts, gpus = api.get("/hosts")["hosts"], api.get("/gpus")["gpus"]
        left_alone = api.get("/quarantine")["entries"] if health.get("set_aside") else []
        checks.append(Check("token", "ok", "accepted"))
    except Unauthorized as error:
        return [*checks, Check("token", "fail", *str(error).partition("; ")[::2])]
    except TuneyardError as error:
        return [*checks, Check("token", "fail", str(error))]
    finally:
        api.close()
    checks += readiness_checks(health)
    if health.get("exposed"):
        checks.append(EXPOSED)
    return [
        *checks,
        *left_alone_checks(left_alone),
        *hosts_checks(hosts),
        *disks_checks(hosts),
        *aside_checks(hosts),
        *cards_checks(gpus),
    ]


def readiness_checks(health: Mapping[str, Any]) -> list[Check]:
    """What the server says of its parts; an older one says less."""
    ray, dispatcher = str(health.get("ray", "?")), str(health.get("dispatcher", "ok"))
    if ray == "ready":
        checks = [Check("ray", "ok", "ready")]
    elif dispatcher not in ("ok", "starting"):
        fix = (
            "it is tried again; `tail ~/.tuneyard/dispatch.log ~/.tuneyard/head.log` on the server's machine"
        )
        checks = [Check("ray", "fail", f"no job can start: {dispatcher}", fix)]
    else:
        fix = "wait a few seconds; then `tail ~/.tuneyard/server.log` on the server's machine"
        checks = [Check("ray", "warn", ray, fix)]
    if (database := health.get("database", "ok")) != "ok":
        fix = "see that it runs, and that its disk has room"
        checks.append(Check("database", "fail", str(database), fix))
    if (scheduler := health.get("scheduler", "ok")) != "ok":
        fix = "`tail ~/.tuneyard/server.log` on the server's machine has the traceback"
        checks.append(Check("scheduler", "fail", str(scheduler), fix))
    return checks


def hosts_checks(hosts: Sequence[Host]) -> list[Check]:
    """One for each kind of fault. A host that is not there is one, unless it was drained: it is meant to be out."""
    online = [host for host in hosts if host["state"] not in GONE]
    found = f"{len(online)} of {len(hosts)} online"
    if online:
        found += f" with {counted(sum(host['gpus'] for host in online), 'card')}"
    faults = [*_away(hosts), *_faulty(online), *_without_ray(online), *_all_drained(online)]
    if not online and not faults:
        fix = "`tuneyard up` here, or `tuneyard host run` on each GPU host"
        return [Check("hosts", "warn", found, fix)]
    return [replace(each, found=f"{found}; {each.found}") for each in faults] or [Check("hosts", "ok", found)]


def _named(told: Sequence[str], between: str = ", ") -> str:
    more = f"{between.rstrip(' ,')} and {len(told) - NAMED} more" if len(told) > NAMED else ""
    return between.join(told[:NAMED]) + more


def _away(hosts: Sequence[Host]) -> list[Check]:
    missing = [host for host in hosts if host["state"] in GONE and not host["drained"]]
    if not missing:
        return []
    fix = (
        "start its agent there (`tuneyard host run`; `tuneyard up` here), "
        f"or `tuneyard host drain {missing[0]['name']}` if it is to stay out"
    )
    return [Check("hosts", "fail", _named([f"{host['name']} is {host['state']}" for host in missing]), fix)]


def _faulty(online: Sequence[Host]) -> list[Check]:
    told = [f"{host['name']} can't start a trainer: {host['fault']}" for host in online if host.get("fault")]
    fix = "repair it, then restart its agent; it is tried again in any case"
    return [Check("hosts", "fail", _named(told, "; "), fix)] if told else []


def _without_ray(online: Sequence[Host]) -> list[Check]:
    coming = [host["name"] for host in online if not host["ray_ready"] and not host.get("fault")]
    fix = "wait a minute and look at `tuneyard hosts`; then `tail ~/.tuneyard/host.log` there"
    return [Check("hosts", "warn", f"Ray is not ready on {_named(coming)}", fix)] if coming else []


def _all_drained(online: Sequence[Host]) -> list[Check]:
    if not online or not all(host["drained"] for host in online):
        return []
    named = _named([f"{host['name']} is {host['state']}" for host in online])
    fix = f"`tuneyard host undrain {online[0]['name']}` gives it jobs again"
    return [Check("hosts", "fail", f"no job can start: {named}", fix)]


def disks_checks(hosts: Sequence[Host]) -> list[Check]:
    """The room that hosts which are there have for checkpoints and results, as they say; an older one says nothing."""
    room = [
        (disk["free_bytes"], f"for {disk['holds']} on {host['name']} ({disk['path']})")
        for host in hosts
        if host["state"] not in GONE
        for disk in host.get("disks") or ()
    ]
    return [_room("hosts' disks", room)] if room else []


def left_alone_checks(entries: Sequence[QuarantineEntry]) -> list[Check]:
    """Records that the server can't handle: everything but them goes on."""
    if not entries:
        return []
    named = _named([f"{one['kind']} {one['key']} ({one['doing']}): {one['text']}" for one in entries], "; ")
    fix = "tracebacks are in server.log; they are tried again every minute, and after an upgrade"
    return [Check("records", "fail", named, fix)]


def aside_checks(hosts: Sequence[Host]) -> list[Check]:
    """What hosts have that is not what the database knows by its id: after a restore, for instance."""
    found = [f"{host['name']}: {one}" for host in hosts for one in host.get("aside") or ()]
    if not found:
        return []
    fix = "nothing of it is used; look at it there (host/YARD/aside), and remove what nobody needs"
    return [Check("set aside", "warn", _named(found, "; "), fix)]


def cards_checks(gpus: Sequence[Gpu]) -> list[Check]:
    """The cards of hosts that are there, where one has a fault."""
    faulty = [gpu for gpu in gpus if gpu["fault"] and gpu["host_state"] not in GONE]
    if not faulty:
        return []
    named = _named([f"{gpu['host']} #{gpu['index']}: {gpu['fault']}" for gpu in faulty], "; ")
    return [Check("cards", "fail", named, "no job starts on them; `tuneyard gpus` shows them all")]
