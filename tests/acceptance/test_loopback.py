"""On one machine nothing of ours listens where another machine could reach it, Ray included."""

from __future__ import annotations

import ipaddress
import time

import psutil
import pytest

from tests.acceptance.conftest import JOB_S, Fleet, processes_of

pytestmark = pytest.mark.acceptance


def listening(fleet: Fleet) -> dict[str, list[str]]:
    """What each process of the fleet listens on (TCP), or is bound to without a peer (UDP), by its name."""
    found: dict[str, list[str]] = {}
    for process in processes_of(fleet.home):
        try:
            name = f"{process.name()} {' '.join(process.cmdline())[:90]}"
            sockets = process.net_connections("inet")
        except psutil.NoSuchProcess:
            continue
        open_ones = [one for one in sockets if one.laddr and not one.raddr]
        found.setdefault(name, []).extend(f"{one.laddr.ip} {one.laddr.port}" for one in open_ones)
    return found


def is_loopback(text: str) -> bool:
    """gRPC binds IPv6 sockets to IPv4 addresses: ::ffff:127.0.0.1 is reached through 127.0.0.1 alone."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def open_to_others(fleet: Fleet) -> list[str]:
    return [
        f"{address}: {name}"
        for name, addresses in listening(fleet).items()
        for address in addresses
        if not is_loopback(address.split()[0])
    ]


def named(fleet: Fleet, *words: str) -> bool:
    """Whether for each of the words a process runs that has it in its name or command line and listens."""
    found = {name for name, addresses in listening(fleet).items() if addresses}
    return all(any(word in name for name in found) for word in words)


def wait_for(fleet: Fleet, *words: str, timeout_s: float = JOB_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not named(fleet, *words):
        assert time.monotonic() < deadline, f"not all of {words} listen: {listening(fleet)}"
        time.sleep(0.2)


def test_every_port_is_on_loopback(fleet: Fleet):
    wait_for(fleet, "gcs_server", "raylet", "orchestrator.dispatch.ray_driver")
    assert open_to_others(fleet) == []


def test_a_warm_worker_and_a_training_one_too(fleet: Fleet):
    wait_for(fleet, "ray::Rank")
    assert open_to_others(fleet) == []
    job = fleet.submit("private", training={"steps": 10})
    fleet.wait(job, lambda shown: bool(shown["progress"]))
    assert open_to_others(fleet) == []
    assert fleet.end(job)["state"] == "succeeded", fleet.logs(job)
