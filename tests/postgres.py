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

import psutil
import psycopg

START_S = 90.0


def binaries() -> Path | None:
    """The folder of initdb and postgres: as pg_config says, or Debian's newest. None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if config := shutil.which("pg_config"):
        said = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True).stdout.strip()
        found.append(Path(said))
    return next((path for path in reversed(found) if (path / "initdb").exists()), None)


class Postgres:
    """A server from the binaries in folder, on a Unix socket in home. url: of its database."""

    def __init__(self, folder: Path, home: Path, *settings: str) -> None:
        self.url = f"postgresql+psycopg://tuneyard@/postgres?host={home}"
        self._folder, self._home = folder, home
        self._chosen = [word for setting in settings for word in ("-c", setting)]
        self.start()

    def start(self) -> None:
        """Returns once it answers; what a killed one left is recovered first. Raises RuntimeError."""
        with (self._home / "log.txt").open("ab") as log:
            self._server = subprocess.Popen(
                [self._folder / "postgres", "-D", self._home / "data", "-k", self._home, *self._chosen],
                user=_user(),
                cwd=self._home,
                stdout=log,
                stderr=log,
            )
        _await(self._home, self._server)

    def kill(self) -> None:
        """Its postmaster, by SIGKILL; its other processes see that and end."""
        children = psutil.Process(self._server.pid).children(recursive=True)
        self._server.kill()
        self._server.wait(START_S)
        psutil.wait_procs(children, START_S)

    def stop(self) -> None:
        self._server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        self._server.wait(START_S)


@contextmanager
def running(folder: Path, *settings: str) -> Iterator[str]:
    """The URL of a server from the binaries in folder. Without fsync, unless settings say: the disk is not tested."""
    with started(folder, "fsync=off", *settings) as made:
        yield made.url


@contextmanager
def started(folder: Path, *settings: str) -> Iterator[Postgres]:
    """A server of its own, with a database that is removed at the end."""
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
        made = Postgres(folder, home, "listen_addresses=", *settings)
        try:
            yield made
        finally:
            made.stop()
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
