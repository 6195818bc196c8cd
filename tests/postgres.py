"""A PostgreSQL of the tests' own: the installed binaries, not as root, on a Unix socket alone."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

START_S = 90.0


def binaries() -> Path | None:
    """The folder of initdb and postgres: as pg_config says, or Debian's newest. None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if config := shutil.which("pg_config"):
        said = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True).stdout.strip()
        found.append(Path(said))
    return next((path for path in reversed(found) if (path / "initdb").exists()), None)


@contextmanager
def running(folder: Path, *settings: str) -> Iterator[str]:
    """The URL of a server from the binaries in folder. Without fsync, unless settings say: the disk is not tested."""
    user = _user()
    home = Path(tempfile.mkdtemp(prefix="tuneyard-pg-"))
    try:
        if user is not None:
            shutil.chown(home, user)
        data = home / "data"
        options = ["--auth=trust", "--username=tuneyard", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [folder / "initdb", f"--pgdata={data}", *options],
            user=user,
            cwd=home,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr}")
        chosen = [
            word for setting in ("listen_addresses=", "fsync=off", *settings) for word in ("-c", setting)
        ]
        with (home / "log.txt").open("wb") as log:
            server = subprocess.Popen(
                [folder / "postgres", "-D", data, "-k", home, *chosen],
                user=user,
                cwd=home,
                stdout=log,
                stderr=log,
            )
        try:
            _await(home, server)
            yield f"postgresql+psycopg://tuneyard@/postgres?host={home}"
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            server.wait(START_S)
    finally:
        shutil.rmtree(home)


def _user() -> str | None:
    """postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _await(home: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(host=str(home), user="tuneyard", dbname="postgres").close()
            return
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(home / 'log.txt').read_text()}") from error
            time.sleep(0.05)
