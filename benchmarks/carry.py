"""How fast a checkpoint goes from one host to another, beside a bare TCP connection: `make bench-carry`.

Both hosts are raylets on this machine, so reading, sending, hashing and writing share its cores and its disk. Prints a
line each, then one JSON object as the last line. The exit code is 1 when it is slower than the scheduler counts with
(`serve --carry-rate`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from benchmarks.common import CHECKOUT, finish, machine
from jobs.identity import Owner
from jobs.messages.reports import Kept
from jobs.units import GiB, MiB
from orchestrator.scheduler.policy import Rules
from workers.attempt_folder import checkpoints_root
from workers.checkpoints.folders import publish_checkpoint, staging_folder
from workers.checkpoints.ray_transport import reach
from workers.checkpoints.transfer import Carrier

STORE_BYTES = 80_000_000  # of each raylet's object store, as in workers/agent/raylet.py
FILES = 4


def make(home: Path, size: int, step: int) -> Path:
    """A checkpoint of job 1 on a host, of bytes that nobody can compress."""
    root = checkpoints_root(home, 1)
    staged = staging_folder(root, step) / "made"
    staged.mkdir(parents=True)
    for number in range(FILES):
        with (staged / f"part-{number}").open("wb") as file:
            for _ in range(size // FILES // MiB):
                file.write(os.urandom(MiB))
    return publish_checkpoint(staged, root, step)


def carried(home: Path, place: Kept) -> float:
    """Seconds to fetch it in all: an actor comes up, files are read, sent, hashed, written, flushed."""
    root = checkpoints_root(home, 1)
    staging = staging_folder(root, 1)
    staging.mkdir(parents=True)
    began = time.monotonic()
    found = Carrier(Owner(job_id=1), root, staging, reach, lambda: None).newest([place], None)
    took_s = time.monotonic() - began
    if found is None:
        sys.exit("the checkpoint was not fetched")
    return took_s


def by_tcp(folder: Path, target: Path) -> float:
    """Seconds that the same bytes take from a thread of this process, hashed, written and flushed as well."""
    paths = sorted(folder.glob("part-*"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for path in paths:
                    with path.open("rb") as file:
                        connection.sendfile(file)

        threading.Thread(target=serve, daemon=True).start()
        began, digest, piece = time.monotonic(), hashlib.sha256(), bytearray(4 * MiB)
        with socket.create_connection(listener.getsockname()) as line, target.open("wb") as file:
            while count := line.recv_into(piece):
                digest.update(memoryview(piece)[:count])
                file.write(memoryview(piece)[:count])
            file.flush()
            os.fsync(file.fileno())
    return time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0, help="size of the checkpoint")
    given = parser.parse_args()
    size = int(given.gib * GiB)
    print(machine())
    with tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder:
        os.environ |= {"RAY_TMPDIR": folder, "HOME": folder, "PYTHONPATH": str(CHECKOUT)}
        home = Path(folder)
        alike = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
        cluster = Cluster(initialize_head=True, head_node_args={**alike, "include_dashboard": False})
        cluster.add_node(**alike, labels={"host": "a"})
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            there = make(home / "a", size, 50)
            make(home / "c", FILES * MiB, 50)
            first_s = carried(home / "d", Kept(host="a", home=str(home / "c"), step=50))
            took_s = carried(home / "b", Kept(host="a", home=str(home / "a"), step=50))
            tcp_s = by_tcp(there, home / "copy")
        finally:
            ray.shutdown()
            cluster.shutdown()
    mib = size / MiB
    print(f"{given.gib:g} GiB over Ray      {took_s:6.1f} s  {mib / took_s:6.0f} MiB/s")
    print(f"{given.gib:g} GiB over bare TCP {tcp_s:6.1f} s  {mib / tcp_s:6.0f} MiB/s")
    print(f"{FILES} MiB over Ray      {first_s:6.1f} s  most of it before the first byte")
    stated = Rules().carry_bytes_s / MiB
    rates = {"ray_mib_s": mib / took_s, "tcp_mib_s": mib / tcp_s, "first_s": first_s, "stated_mib_s": stated}
    return finish({"gib": given.gib, **rates, "met": mib / took_s >= stated})


if __name__ == "__main__":
    sys.exit(main())
