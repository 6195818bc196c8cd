"""Where the server is: flags, then the environment, then config.json in the home folder."""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jobs.errors import Unavailable, UsageError
from orchestrator.client.responses import START_HINT


@dataclass(frozen=True)
class Server:
    """Address and token of a server. token is empty when none is known; only /health answers then."""

    url: str
    token: str


def user_name() -> str:
    """Who asks, for lists and records; the server takes no decision by it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in this container
        return "unknown"


def home() -> Path:
    """The folder that this machine's tuneyard lives in: TUNEYARD_HOME, or ~/.tuneyard."""
    return Path(os.environ.get("TUNEYARD_HOME") or Path.home() / ".tuneyard").expanduser()


def read_config() -> dict[str, str]:
    """What `tuneyard up` or `tuneyard serve` left in config.json; empty when there is none.

    Raises UsageError when the file is there and can't be used.
    """
    path = home() / "config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise UsageError(
            f"{path} can't be read by this user; give its values with --server and --token, "
            "or TUNEYARD_URL and TUNEYARD_TOKEN"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} can't be read: {error}; remove it and start the server again, which writes a new one"
        ) from None
    if not isinstance(value, dict):
        raise UsageError(f'{path} is not a JSON object; it should be {{"url": "http://..", "token": ".."}}')
    return {key: value[key] for key in ("url", "token") if isinstance(value.get(key), str)}


def find_server(url: str | None = None, token: str | None = None) -> Server:
    """The server to talk to. Raises Unavailable when none is known, UsageError for an address that is no URL.

    A token from config.json goes only to the server that is named there: another one has no business with it.
    """
    url = url or os.environ.get("TUNEYARD_URL")
    token = token or os.environ.get("TUNEYARD_TOKEN")
    config = read_config() if not (url and token) else {}
    if not url:
        url = config.get("url")
    if not url:
        raise Unavailable(f"no tuneyard server is known on this machine; {START_HINT}")
    _check_url(url)
    if not token and url.rstrip("/") == config.get("url", "").rstrip("/"):
        token = config.get("token")
    return Server(url, token or "")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise UsageError(f"the server address {url!r} is not a URL; write one such as http://127.0.0.1:7420")
