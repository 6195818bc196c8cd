"""Settings of the server, read once: flags win over TUNEYARD_* variables, those over what `up` wrote."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobs.cards import check_prices
from jobs.errors import UsageError
from jobs.recovery import OOM_REQUEUES
from orchestrator.scheduler.policy import Rules
from orchestrator.vault import Vault
from workers.durable import publish
from workers.ports import free_port

DEFAULT_PORT = 7420
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Of orchestrator.scheduler.policy.Rules, what `tuneyard serve` has flags for.
RULE_FLAGS = ("policy", "preempt", "min_run_s", "patience_s", "share_slowdown", "move", "carry_bytes_s")


def _listed(given: str | Sequence[str]) -> Sequence[str]:
    return given.split(",") if isinstance(given, str) else given


_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]  # with commas between


class Environment(BaseSettings):
    """What the server takes from TUNEYARD_* variables where no flag says it. An empty one counts as not set."""

    model_config = SettingsConfigDict(env_prefix="TUNEYARD_", env_ignore_empty=True, frozen=True)

    database: str = ""
    token: str = ""
    trusted_models: _Names = ()
    trusted_proxies: _Names = ()
    secrets_key: str = ""
    hostnames: _Names = ()
    smtp_url: str = ""
    smtp_from: str = ""


@dataclass(frozen=True)
class Settings:
    """What `tuneyard serve` runs with. Times in seconds.

    scrape_token: what opens /metrics alone, for Prometheus; idle_after_s: how long an attempt may hold its cards and
    do nothing before it is ended, None: for ever; waiting_after_s: after how long a job that waits is told of, None:
    never; smtp_url, smtp_from: see orchestrator.notify.mail.
    trusted_models: models whose own code may run (trust_remote_code); shared_files: whether the server sees the
    hosts' files, so that data and model folders are checked at submit; None: it does while it listens on loopback
    only; hostnames: names that browsers know the server by, besides localhost, its
    machine's own and addresses; proxies: whose X-Forwarded-For is believed; prices: of an hour of one GPU by card name,
    in any one unit;
    oom_requeues: how often a job that ran out of memory is put on a smaller rung or a larger card; stop_grace_s,
    preempt_grace_s: what a trainer gets to stop when cancelled, and to save a checkpoint first when another job
    takes its place; keep_checkpoints_s: how long the checkpoints of a job that ended stay on its hosts, None: not
    at all where it succeeded, else a week; keep_samples_s: how long the cards' readings stay; keep_minutes_s,
    keep_quarters_s: their means of each minute and quarter of an hour; keep_history_s: logs, progress and events of
    jobs that ended; secrets_key: file of the key that secrets are stored under, None: secrets.key in home, made when
    it is first needed; notify_allowed: private hosts and networks that notifications may go to; rules: the scheduler's.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    database: str = ""
    token: str = ""
    scrape_token: str = ""
    ray: bool = True
    ray_ip: str = ""
    ray_port: int = 0
    trusted_models: tuple[str, ...] = ()
    proxies: tuple[Network, ...] = ()
    shared_files: bool | None = None
    hostnames: tuple[str, ...] = ()
    away_after_s: float = 20.0
    lost_after_s: float = 90.0
    start_deadline_s: float = 180.0
    stop_grace_s: float = 20.0
    preempt_grace_s: float = 120.0
    idle_after_s: float | None = None
    waiting_after_s: float | None = None
    smtp_url: str = field(default="", repr=False)  # it may have a password in it
    smtp_from: str = ""
    keep_samples_s: float = 86400.0
    keep_minutes_s: float = 30 * 86400.0
    keep_quarters_s: float = 730 * 86400.0
    keep_history_s: float = 180 * 86400.0
    keep_checkpoints_s: float | None = None
    oom_requeues: int = OOM_REQUEUES
    secrets_key: Path | None = None
    notify_allowed: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)
    prices: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def vault(self) -> Vault:
        """Seals the secrets of projects."""
        return Vault(self.secrets_key or self.home / "secrets.key", given=self.secrets_key is not None)

    @property
    def url(self) -> str:
        """Where clients reach it."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @cached_property
    def loopback(self) -> bool:
        return self.host == "localhost" or (_is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @property
    def exposed(self) -> bool:
        """Whether plain HTTP, which is all that it speaks, listens beyond this machine."""
        return not self.loopback

    @property
    def sees_files(self) -> bool:
        return self.loopback if self.shared_files is None else self.shared_files

    @property
    def ray_folder(self) -> Path:
        """Ray's own files. Short, for Ray puts Unix sockets there and their paths may have 107 bytes."""
        digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:10]
        return Path(tempfile.gettempdir()) / f"tuneyard-{os.getuid()}-{digest}"

    @property
    def ray_address_ip(self) -> str:
        """On 127.0.0.1 alone do Ray's processes listen on loopback only; see workers/ray_network.py."""
        if self.ray_ip:
            return self.ray_ip
        return "127.0.0.1" if self.loopback else self.host


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def load(home: Path, **flags: Any) -> Settings:
    """Settings from flags (None: not given), the environment and home/config.json. Makes the token when there is none.

    Raises UsageError for a setting that can't be used.
    """
    known, environment = read_client_config(home), Environment()
    database = flags.get("database") or environment.database or f"sqlite:///{home / 'tuneyard.db'}"
    if database.startswith("postgresql://"):
        database = "postgresql+psycopg://" + database.removeprefix("postgresql://")
    if not database.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise UsageError(
            f"database: {database!r} is not usable; write sqlite:///PATH or postgresql://USER@HOST/NAME"
        )
    port = flags.get("port")
    if port is None:
        port = int(known.get("port") or DEFAULT_PORT)
    if not 0 <= port <= 65535:
        raise UsageError(f"port: {port} is not a port; write a number from 1 to 65535, or 0 for any free one")
    host = flags.get("host") or "127.0.0.1"
    trusted = flags.get("trusted_models") or environment.trusted_models
    hostnames = flags.get("hostnames") or environment.hostnames
    token = flags.get("token") or environment.token or known.get("token") or secrets.token_urlsafe(32)
    chosen = {
        name: flags[name]
        for name in (
            *("ray", "ray_ip", "shared_files", "away_after_s", "lost_after_s", "start_deadline_s"),
            *("oom_requeues", "preempt_grace_s", "keep_checkpoints_s", "keep_samples_s", "keep_history_s"),
            *("keep_minutes_s", "keep_quarters_s", "idle_after_s", "waiting_after_s"),
        )
        if flags.get(name) is not None
    }
    if (idle_after_s := chosen.get("idle_after_s")) is not None and idle_after_s < 300:
        raise UsageError(f"idle after: {idle_after_s:g} s is too short to tell; write 5m or more")
    if (waiting_after_s := chosen.get("waiting_after_s")) is not None and waiting_after_s < 60:
        raise UsageError(f"waiting after: {waiting_after_s:g} s is no long wait; write 1m or more")
    key = flags.get("secrets_key") or environment.secrets_key
    settings = Settings(
        home=home,
        notify_allowed=tuple(flags.get("notify_allowed") or ()),
        secrets_key=Path(key).expanduser().absolute() if key else None,
        host=host,
        port=port or free_port(host),
        database=database,
        token=token,
        scrape_token=_scrape_token(os.environ.get("TUNEYARD_SCRAPE_TOKEN", ""), token),
        smtp_url=environment.smtp_url,
        smtp_from=environment.smtp_from,
        trusted_models=tuple(name for name in trusted if name),
        hostnames=tuple(name.strip() for name in hostnames if name.strip()),
        proxies=read_proxies(flags.get("proxies") or environment.trusted_proxies),
        rules=Rules(**{name: flags[name] for name in RULE_FLAGS if flags.get(name) is not None}),
        prices={
            **check_prices(known.get("prices") or {}, f"{home / 'config.json'}: prices"),
            **(flags.get("prices") or {}),
        },
        **chosen,
    )
    if settings.lost_after_s < settings.away_after_s:
        raise UsageError(
            f"--lost-after: a host is away after {settings.away_after_s:.0f}s of silence, and can't be lost before that"
        )
    if not settings.loopback and settings.ray and not settings.ray_ip and not _is_ip(settings.host):
        raise UsageError(f"host: give an address, not {host!r}, or name Ray's with --ray-ip")
    if settings.host in ("0.0.0.0", "::") and settings.ray and not settings.ray_ip:
        raise UsageError(
            "host: Ray needs one private address that hosts can reach; name it with --ray-ip (for example 10.0.0.5)"
        )
    return settings


def _scrape_token(given: str, token: str) -> str:
    """Raises UsageError."""
    if given and (len(given) < 20 or given == token):
        raise UsageError(
            "TUNEYARD_SCRAPE_TOKEN: a token that opens /metrics alone has 20 characters or more and is not the "
            "server's own; `openssl rand -hex 32` makes one"
        )
    return given


def read_proxies(given: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks of proxies. Raises UsageError."""
    found = []
    for text in given:
        if not text.strip():
            continue
        try:
            found.append(ipaddress.ip_network(text.strip()))
        except ValueError:
            raise UsageError(
                f"trusted proxy: {text!r} is no address; write one such as 10.0.0.2, or a network such as 10.0.0.0/24"
            ) from None
    return tuple(found)


def read_client_config(home: Path) -> dict[str, Any]:
    """home/config.json, {} when there is none. Raises UsageError when it is not readable."""
    path = home / "config.json"
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: not readable ({error}); correct it, or delete it: the server then writes a new one"
        ) from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: not a mapping; correct it, or delete it: the server then writes a new one")
    return value


def write_client_config(settings: Settings) -> None:
    """Where clients of this machine find the server, and the token: for the owner's eyes only."""
    settings.home.mkdir(parents=True, exist_ok=True)
    publish(
        settings.home / "config.json",
        json.dumps(
            {
                "url": settings.url,
                "port": settings.port,
                "token": settings.token,
                **({"prices": dict(settings.prices)} if settings.prices else {}),
            },
            indent=1,
        )
        + "\n",
        private=True,
    )


def private_folder(path: Path) -> Path:
    """Make a folder that is ours alone. Raises UsageError when somebody else got there first."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UsageError(
            f"{path} is not a folder of this user's alone; remove it, or set TMPDIR to another place"
        )
    return path


def ray_token(home: Path, token: str) -> str:
    """The cluster's token, made on first use. Ray itself would write it for everybody to read.

    token: the server's own. Servers that have the same, as those of one database do, make the same of it: hosts that
    joined the one can follow the other.
    """
    (home / "run").mkdir(parents=True, exist_ok=True, mode=0o700)
    path = home / "run" / "ray_token"
    if not path.exists():
        publish(path, hmac.new(token.encode(), b"ray", hashlib.sha256).hexdigest(), private=True)
    return path.read_text()
