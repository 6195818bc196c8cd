"""`ray` for a fleet on one machine: python -m workers.ray_network start .. listens on loopback only.

Ray's processes listen on loopback where the node's address is 127.0.0.1, and on all interfaces for any other,
127.0.0.2 included. But Ray replaces 127.0.0.1 by an address that other machines reach
(resolve_ip_for_localhost in ray/_private/services.py, 2.60) unless clusters are switched off, and with those
switched off no second node can join. So it is told here that the address of this machine is 127.0.0.1.
"""

from __future__ import annotations

import sys

LOOPBACK = "127.0.0.1"


def pin_loopback() -> None:
    """From here on, Ray in this process takes 127.0.0.1 for this machine's address."""
    from ray._private import services

    def get_node_ip_address(address: str | None = None) -> str:
        return LOOPBACK

    services.get_node_ip_address = get_node_ip_address


def without_api_server() -> None:
    """No jobs API: with --include-dashboard=false Ray still starts its process, and waits a second for it."""
    from ray._private.node import Node

    def start_api_server(self: Node, **_: object) -> None:
        return None

    Node.start_api_server = start_api_server


def without_client_server() -> None:
    """No server of Ray Client, which nothing here uses: Ray opens port 10001 for it wherever grpcio can be imported, as
    TensorBoard brings it, and has no option against it.
    """
    from ray._private.node import Node

    def start_ray_client_server(self: Node) -> None:
        return None

    Node.start_ray_client_server = start_ray_client_server


def main() -> None:
    """Ray's command line; with --node-ip-address=127.0.0.1 among its arguments that is meant as it is."""
    from ray.scripts.scripts import main as ray_main

    without_api_server()
    without_client_server()
    if f"--node-ip-address={LOOPBACK}" in sys.argv:
        pin_loopback()
    ray_main()


if __name__ == "__main__":
    main()
