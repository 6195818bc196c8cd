"""Ray takes 127.0.0.1 as it is where it was told to, and only there."""

from __future__ import annotations

import subprocess
import sys

ASK = "from ray._private import services; print(services.resolve_ip_for_localhost('127.0.0.1'))"
PIN = "from workers.ray_network import pin_loopback; pin_loopback(); "


def said(code: str) -> str:
    """In a process of its own: what is changed in Ray stays changed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_loopback_stays_loopback():
    assert said(PIN + ASK) == "127.0.0.1"


def test_a_node_on_loopback_may_join():
    code = PIN + "from ray._private import ray_constants; print(ray_constants.ENABLE_RAY_CLUSTER)"
    assert said(code) == "True"
