"""tuneyard pull: a job's result, copied to this machine through the server."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from jobs.units import gib
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import clean
from orchestrator.client.http import Api, job_path
from orchestrator.transfer.receive import no_progress, pull

EVERY_S = 0.5


class _Server:
    """A transfer.receive.Source over the thin transport."""

    def __init__(self, api: Api, job: str) -> None:
        self._api, self._job = api, job

    def result(self) -> Any:
        return self._api.get(job_path(self._job, "/result"))

    def files(self, manifest_sha256: str, offset: int) -> Iterator[bytes]:
        asked = {"manifest": manifest_sha256, "offset": offset}
        return self._api.stream(job_path(self._job, "/result/files"), **asked)


class _Meter:
    """One line on a terminal, written over and over."""

    def __init__(self) -> None:
        self._began, self._told = time.monotonic(), 0.0
        self._first: int | None = None

    def tell(self, have: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = have
        if now - self._told < EVERY_S and have < total:
            return
        self._told = now
        rate = (have - self._first) / max(1e-3, now - self._began)
        sys.stderr.write(f"\r\x1b[K{gib(have)} of {gib(total)}, {gib(int(rate))}/s")
        sys.stderr.flush()

    def clear(self) -> None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


@click.command("pull")
@click.argument("job")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@client_verb
def pull_verb(api: Api, as_json: bool, job: str, folder: Path | None) -> None:
    """Copy a job's result to this machine.

    JOB is an id or a name. The result comes through the server and is compared with the checksums of its manifest.
    It is put into DIR, or a folder named job-ID-NAME, once all of it is here; a pull that was broken off goes on
    where it was. Nothing that is in DIR already is written over.
    """
    meter = _Meter() if sys.stderr.isatty() else None
    try:
        found = pull(_Server(api, job), folder, meter.tell if meter else no_progress, note)
    finally:
        if meter:
            meter.clear()
    if as_json:
        emit(
            {
                "folder": str(found.folder),
                "bytes": found.bytes,
                "files": found.files,
                "fetched_bytes": found.came,
            }
        )
        return
    files = "1 file" if found.files == 1 else f"{found.files} files"
    there = " (it was there already)" if not found.came and found.bytes else ""
    click.echo(clean(f"{found.folder}: {files}, {gib(found.bytes)}, all as the manifest says{there}"))
