"""The Ray head of this control host: started by the server, adopted by who finds it running."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import psutil

from workers.ports import free_port


class Head:
    """The Ray head: GCS and a raylet without CPUs. Survives a crash of the server, so that running actors do too."""

    def __init__(self, home: Path, node_ip: str = "", fixed_port: int = 0) -> None:
        self.home, self.node_ip, self.fixed_port = home, node_ip, fixed_port
        self.port = fixed_port
        self.record = home / "run" / "head.json"
        self.process: psutil.Process | None = None

    @property
    def address(self) -> str:
        return f"{self.node_ip}:{self.port}"

    def start(self, environment: Mapping[str, str]) -> None:
        """Start a head; it takes a few seconds until it answers. Raises OSError, and leaves none.

        It gets a new port where none is fixed: the address is how hosts learn that it is another one.
        """
        self.port = self.fixed_port or free_port(self.node_ip)
        with (self.home / "head.log").open("ab") as log:
            child = subprocess.Popen(
                self._command(),
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        # Or it stays a zombie when it ends, which others wait for in vain.
        threading.Thread(target=child.wait, name="head", daemon=True).start()
        self.process = psutil.Process(child.pid)
        made = {
            "pid": child.pid,
            "create_time": self.process.create_time(),
            "ip": self.node_ip,
            "port": self.port,
        }
        try:
            self.record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.record.write_text(json.dumps(made))
        except OSError:  # nobody would find it again
            self.stop()
            raise

    def adopt(self) -> bool:
        """Whether a head of this home runs already; it is this one from here on."""
        with contextlib.suppress(OSError, ValueError, KeyError, psutil.NoSuchProcess):
            known = json.loads(self.record.read_text())
            process = psutil.Process(known["pid"])
            if (
                abs(process.create_time() - known["create_time"]) < 1
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                self.process, self.node_ip, self.port = process, known["ip"], known["port"]
                return True
        return False

    def alive(self) -> bool:
        if self.process is None:
            return False
        try:
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def stop(self) -> None:
        """End the head and what it started. By force: nothing in it is worth saving, and asked gently it takes 10 s."""
        if self.process is None:
            return
        family = [self.process, *self._children()]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=5)
        self.record.unlink(missing_ok=True)

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "workers.ray_network", "start"),
            "--head",
            "--block",
            f"--port={self.port}",
            f"--node-ip-address={self.node_ip}",
            "--num-cpus=0",
            *("--include-dashboard=false", "--no-monitor"),  # the monitor is the autoscaler's
            "--include-log-monitor=false",
            "--disable-usage-stats",
            "--object-store-memory=80000000",
        ]

    def _children(self) -> list[psutil.Process]:
        try:
            return self.process.children(recursive=True) if self.process else []
        except psutil.NoSuchProcess:
            return []
