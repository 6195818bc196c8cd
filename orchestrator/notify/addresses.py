"""Which addresses may be posted to: who may add a target must not reach what only the server reaches."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from jobs.errors import UsageError

MOST_CHARACTERS = 2000


def read_url(url: str) -> SplitResult:
    """The parts of a target's URL. Raises UsageError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError("url: can't be read; write https://HOST/PATH") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("url: is none of a web server; write https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise UsageError("url: has a user or a password in it; leave them out")
    if len(url) > MOST_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url or port == 0:
        raise UsageError(
            f"url: can't be read; write at most {MOST_CHARACTERS:,} characters of ASCII without spaces"
        )
    return parts


def resolve(parts: SplitResult, allowed: Sequence[str]) -> str:
    """An address of the host. Raises OSError where it is not to be reached.

    allowed: hosts and networks, by name or address, that the operator allows though they are private.
    """
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = [str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        if _public(text) or host in allowed or _within(text, allowed):
            return text
    raise OSError(
        f"{host} is at {found[0] if found else 'no address'}, which is not public; an operator allows it with "
        f"`tuneyard serve --notify-allow {host}`"
    )


def _public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_global and not (mapped or address).is_multicast


def _within(text: str, allowed: Sequence[str]) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    for given in allowed:
        try:
            network = ipaddress.ip_network(given)
        except ValueError:
            continue
        if address.version == network.version and address in network:
            return True
    return False
