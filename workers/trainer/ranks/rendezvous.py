"""Ranks on several hosts: they meet, resume from one checkpoint, and bring home what belongs in the next.

They share no file system: what one host has goes to the others over torch.distributed, on the CPU (gloo).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import torch.distributed as dist

from jobs.errors import TuneyardError
from jobs.identity import fault_of
from jobs.messages.reports import Assignment
from jobs.state import Outcome
from workers.checkpoints.folders import prune, put_in_place, step_of
from workers.checkpoints.job_folder import Displaced
from workers.checkpoints.manifest import MANIFEST, Corrupt, files_in, verify
from workers.durable import sync_file

log = logging.getLogger(__name__)

MEET_S = 120.0  # for every rank to come up and reach the others
QUIET_S = 1800.0  # transformers' own limit (ddp_timeout): rank 0 may take long to save
CHUNK_BYTES = 8 << 20
# How gloo and NCCL say that another process is gone: exceptions of theirs have no type in common.
_LOST_TOUCH = re.compile(r"gloo|NCCL|nccl|c10d|TCPStore")


class NobodyCame(TuneyardError):
    """The ranks of an attempt did not all meet."""


def lost_touch(error: BaseException) -> bool:
    """Whether this, or what caused it, says no more than that a rank elsewhere is gone."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, dist.DistError) or (type(seen) is RuntimeError and _LOST_TOUCH.search(str(seen))):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def join(
    assignment: Assignment, staging: Path, give_up: Callable[..., None], meet_s: float = MEET_S
) -> Others:
    """Meet the ranks on the other hosts. staging: this attempt's; give_up(**how): records why (fields of Ended).

    Raises NobodyCame unless all are at the meeting point in time. Where they are, and can't reach each other all the
    same, gloo and NCCL would wait for QUIET_S: then this process ends.
    """
    where = f"{assignment.master_addr}:{assignment.master_port}"
    open_ports = "is every TCP port open between the hosts?"
    ranked: dict[str, Any] = {"rank": assignment.rank, "world_size": assignment.world_size}
    try:
        store = dist.TCPStore(
            assignment.master_addr,
            assignment.master_port,
            assignment.world_size,
            is_master=assignment.rank == 0,
            timeout=timedelta(seconds=meet_s),
        )
    except RuntimeError as error:
        said = next((line for line in str(error).splitlines() if line.strip()), "")
        raise NobodyCame(
            f"rank {assignment.rank} on {assignment.host} did not meet the {assignment.world_size - 1} others at "
            f"{where} within {meet_s:.0f}s; {open_ports} {said}"
        ) from error
    apart = f"rank {assignment.rank} on {assignment.host} met the others at {where}, but could not reach all of them "
    timer = threading.Timer(meet_s, _leave, [give_up, f"{apart}within {meet_s:.0f}s; {open_ports}"])
    timer.daemon = True
    timer.start()
    try:
        cuda = assignment.card.kind == "cuda"
        if cuda:
            torch.cuda.set_device(assignment.local_rank)
        limit = timedelta(seconds=QUIET_S)
        dist.init_process_group("nccl" if cuda else "gloo", store=store, timeout=limit, **ranked)
        return Others(assignment, staging, cuda)
    finally:
        timer.cancel()


def _leave(give_up: Callable[..., None], message: str) -> None:
    log.error("ending this rank: %s", message)
    give_up(outcome=Outcome.NOT_STARTED, message=message)
    os._exit(1)


class Others:
    """The ranks of an attempt over several hosts, as one of them talks to the rest."""

    def __init__(self, assignment: Assignment, staging: Path, cuda: bool) -> None:
        self._assignment, self._staging = assignment, staging
        self._all = dist.new_group(backend="gloo") if cuda else dist.group.WORLD
        first = [assignment.hosts.index(host) for host in dict.fromkeys(assignment.hosts)]
        # A checkpoint crosses the network once for each host, not for each rank.
        self._firsts = (
            self._all if len(first) == assignment.world_size else dist.new_group(first, backend="gloo")
        )

    def checkpoint(self, root: Path, found: tuple[Path, int] | None) -> tuple[Path, int] | None:
        """The lead's checkpoint, on every host, with its step; None where it has none.

        root: of this host's checkpoints of the job; found: what rank 0 resumes from, None on every other rank.
        """
        told = self._tell(None if found is None else (found[0].name, (found[0] / MANIFEST).read_text()))
        if told is None:
            return None
        name, manifest = told
        target = root / PurePosixPath(name).name
        step = step_of(target)
        assert step is not None, "the lead named a folder that is no checkpoint"
        if fault := fault_of(json.loads(manifest), self._assignment.mine):
            raise Displaced(f"the lead's checkpoint of step {step} {fault}")
        lacks = not self._assignment.at_lead and not _is_copy(target, manifest)
        wanted = torch.tensor([int(lacks)])
        dist.all_reduce(wanted, dist.ReduceOp.SUM, group=self._all)
        if wanted.item() and self._assignment.local_rank == 0:
            self._spread(target, manifest, lacks)
        dist.barrier(group=self._all)
        return target, step

    def differ(self, what: str) -> str:
        """What each host says, where not all say the same; empty where they do. Called on every rank."""
        said: list[Any] = [None] * self._assignment.world_size
        dist.all_gather_object(said, what, group=self._all)
        hosts = dict(zip(self._assignment.hosts, said, strict=True))
        same = len(set(hosts.values())) == 1
        return "" if same else "; ".join(f"{one} on {host}" for host, one in hosts.items())

    def bring_home(self, staged: Path) -> None:
        """Put the random states of ranks elsewhere into the checkpoint that rank 0 has staged."""
        mine, leads = staged / f"rng_state_{self._assignment.rank}.pth", self._assignment.rank == 0
        data = b"" if self._assignment.at_lead else mine.read_bytes()
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self._assignment.world_size)]
        dist.all_gather(sizes, torch.tensor([len(data)]), group=self._all)
        if data:
            dist.send(_tensor(data), 0, group=self._all)
        for rank, size in enumerate(sizes):
            if leads and size.item():
                theirs = torch.empty(int(size.item()), dtype=torch.uint8)
                dist.recv(theirs, rank, group=self._all)
                (staged / f"rng_state_{rank}.pth").write_bytes(theirs.numpy().tobytes())
        if not self._assignment.at_lead and self._assignment.local_rank == 0:
            shutil.rmtree(staged, ignore_errors=True)  # all have read their own: sizes were gathered

    def _tell(self, what: tuple[str, str] | None) -> tuple[str, str] | None:
        """What rank 0 says, on every rank."""
        data = json.dumps(what).encode()
        size = torch.tensor([len(data)])
        dist.broadcast(size, 0, group=self._all)
        text = (
            _tensor(data) if self._assignment.rank == 0 else torch.empty(int(size.item()), dtype=torch.uint8)
        )
        dist.broadcast(text, 0, group=self._all)
        said = json.loads(text.numpy().tobytes())
        return None if said is None else (said[0], said[1])

    def _spread(self, target: Path, manifest: str, lacks: bool) -> None:
        """Copy the lead's checkpoint to the hosts that lack it. Called on the first rank of each host."""
        staged = self._staging / f"from-lead-{target.name}"
        files = files_in(manifest)
        sends = self._assignment.rank == 0
        log.info("checkpoint %s goes to the hosts that lack it", target.name)
        for name in sorted(files):
            size, _ = files[name]
            if sends:
                self._send(target / name, size)
            else:
                self._receive(staged / name if lacks else None, size)
        if lacks:
            (staged / MANIFEST).write_text(manifest)
            verify(staged)
            for name in (*files, MANIFEST):
                sync_file(staged / name)
            put_in_place(staged, target)
            prune(target.parent)

    def _send(self, path: Path, size: int) -> None:
        with path.open("rb") as file:
            for begin in range(0, size, CHUNK_BYTES):
                data = file.read(min(CHUNK_BYTES, size - begin))
                dist.broadcast(_tensor(data), 0, group=self._firsts)

    def _receive(self, path: Path | None, size: int) -> None:
        """path: None where this host has the file already."""
        with open(os.devnull if path is None else _made(path), "wb") as file:
            for begin in range(0, size, CHUNK_BYTES):
                piece = torch.empty(min(CHUNK_BYTES, size - begin), dtype=torch.uint8)
                dist.broadcast(piece, 0, group=self._firsts)
                file.write(memoryview(piece.numpy()))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _is_copy(folder: Path, manifest: str) -> bool:
    """Whether this host's folder is that checkpoint, whole."""
    try:
        return (folder / MANIFEST).read_text() == manifest and bool(verify(folder))
    except (OSError, Corrupt):
        return False
