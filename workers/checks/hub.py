"""A model of the hub, as far as this host's own cache has it: nothing is downloaded."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants, try_to_load_from_cache

from jobs.errors import UNREADABLE, Fault
from jobs.jobfile.spec import JobSpec
from workers.checks.inputs import check_model
from workers.checks.libraries import quantised_faults
from workers.checks.weights import NO_WEIGHTS
from workers.data.checks import is_hub_id

REACH_S = 5.0
_ABSENT = ("is missing", NO_WEIGHTS)  # how problems begin of what was not downloaded, or not all of it


def cached_folder(path: str, revision: str | None) -> Path | None:
    """Where this host's cache has a model of the hub; None where it has not even its config.json."""
    found = try_to_load_from_cache(path, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def reachable(endpoint: str | None = None) -> bool:
    """Whether the hub answers within REACH_S, or a proxy stands before it. Its own client tries for half a minute."""
    if constants.HF_HUB_OFFLINE:
        return False
    where = urlsplit(endpoint or constants.ENDPOINT)
    if getproxies().get(where.scheme):
        return True
    found: list[bool] = []

    def look() -> None:
        with contextlib.suppress(OSError):
            address = (where.hostname or "", where.port or (443 if where.scheme == "https" else 80))
            socket.create_connection(address, timeout=REACH_S).close()
            found.append(True)

    asking = threading.Thread(target=look, daemon=True)  # looking a name up has no time limit of its own
    asking.start()
    asking.join(REACH_S)
    return bool(found)


def check_cached(spec: JobSpec) -> tuple[list[Fault], list[str], Path | None]:
    """What is wrong with the cached files of a job's model; what a user should know; the folder, if it is whole.

    What is not there is downloaded before training, where this host may: then it is told. On another host the cache
    may be well, so these faults are of this one: their problem begins as what can't be read.
    """
    path = spec.model.path
    if path is None or Path(path).exists() or not is_hub_id(path):
        return [], [], None
    folder = cached_folder(path, spec.model.revision)
    faults = [] if folder is None else check_model(str(folder))
    absent = folder is None or (bool(faults) and faults[0].problem.startswith(_ABSENT))
    if absent and not constants.HF_HUB_OFFLINE:
        whole = folder is None or faults[0].problem.startswith(NO_WEIGHTS)
        what = "it" if whole else Path(faults[0].given).name
        told = (
            f"{path} was not checked: this host's cache lacks {what}, which is downloaded as training starts."
        )
        return [], [told], None
    if folder is None:
        problem = f"{UNREADABLE}this host is offline (HF_HUB_OFFLINE), and its cache lacks it"
        return [Fault("model.path", path, problem, _fix(path))], [], None
    if faults:
        return [_of_cache(fault, path) for fault in faults], [], None
    config = json.loads((folder / "config.json").read_bytes())
    return quantised_faults(spec, config), [], folder


def _of_cache(fault: Fault, path: str) -> Fault:
    problem = f"{UNREADABLE}in this host's cache {Path(fault.given).name} {fault.problem}"
    return replace(fault, given=path, problem=problem, fix=_fix(path))


def _fix(path: str) -> str:
    return f"`hf download {path} --force-download` there"
