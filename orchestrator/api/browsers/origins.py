"""Which names a browser may know this server by, and which pages may ask it for something."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping

SAFE = ("GET", "HEAD")


class Origins:
    """names: what browsers may call this server, besides addresses and its machine's own name."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.lower().rstrip(".") for name in (*names, "localhost", socket.gethostname())}

    def knows(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the header Host names this server.

        A page of another name that resolves to our address (DNS rebinding) would be of our origin to its browser. An
        address can't be made to point elsewhere.
        """
        name = _name(headers.get(b"host", b"").decode("latin-1"))
        return name in self._names or name.endswith(".localhost") or _is_ip(name)

    def refuses(self, headers: Mapping[bytes, bytes], method: str) -> str:
        """Why a request that a browser sends with its cookie is not from our page; "" where it is.

        Cookies go to all ports of a name, so SameSite alone does not keep other pages of this machine out.
        """
        site = headers.get(b"sec-fetch-site", b"").decode("latin-1")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if site and site != "same-origin" and not (site == "none" and method in SAFE):
            return "another page asks for it"
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if origin and origin.lower().partition("://")[2] != host:
            return f"the page {origin} asks for it"
        if method not in SAFE and not (site or origin):
            return "it says neither Origin nor Sec-Fetch-Site; programs send the token"
        return ""


def _name(host: str) -> str:
    """The name in a header Host, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
