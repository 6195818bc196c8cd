"""Who asks: the user as the client states it, and the address that the request came from."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import unquote

from fastapi import Request

from orchestrator.client.responses import USER_HEADER
from orchestrator.config import Network, Settings
from orchestrator.store.requests import Actor

# A statement, not a proof: all clients share one token. With tokens of their own, the name will be the token's.
FORWARDED_HEADER = "x-forwarded-for"
MAX_USER = 100


def actor(request: Request, user: str = "") -> Actor:
    """Who sent a request. user: as its body states it, else its header does."""
    said = user or unquote(request.headers.get(USER_HEADER, ""))
    return Actor(_printable(said)[:MAX_USER], address(request))


def address(request: Request) -> str:
    """Where a request came from."""
    settings: Settings = request.app.state.services.settings
    peer = request.client.host if request.client is not None else ""
    if not (proxies := settings.proxies):
        return peer
    return address_of(peer, request.headers.get(FORWARDED_HEADER, ""), proxies)


def address_of(peer: str, forwarded: str, proxies: Sequence[Network]) -> str:
    """The client's address: the peer's, or the last that a trusted proxy names and that is no trusted proxy itself.

    What stands further left in X-Forwarded-For anybody could have written.
    """
    found = peer
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
    while _trusted(found, proxies) and hops:
        hop = hops.pop()
        if _ip(hop) is None:
            break
        found = hop
    return found


def _trusted(address: str, proxies: Sequence[Network]) -> bool:
    known = _ip(address)
    return known is not None and any(known in network for network in proxies)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable()).strip()
