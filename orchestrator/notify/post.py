"""One POST: to the address that was looked at, so that no second look-up leads elsewhere. It follows no redirect."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.notify.addresses import read_url, resolve

TIMEOUT_S = 3.0
SIGNATURE, TIMESTAMP, DELIVERY = "X-Tuneyard-Signature", "X-Tuneyard-Timestamp", "X-Tuneyard-Delivery"


def body_of(kind: str, notice: Mapping[str, Any]) -> bytes:
    """What a target gets. kind: webhook or slack."""
    if kind == "slack":
        job = f"job {notice['job']}: " if notice["job"] is not None else ""
        return json.dumps({"text": f"tuneyard: {job}{notice['kind']}: {notice['text']}"}).encode()
    return json.dumps(notice).encode()


def sign(key: str, timestamp: int, body: bytes) -> str:
    """HMAC-SHA256 of the timestamp, a dot and the body, in hex."""
    return hmac.new(key.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def post(url: str, key: str, body: bytes, delivery: str, now: float, allowed: Sequence[str]) -> None:
    """Raises OSError or HTTPException, in words, unless the answer is a 2xx."""
    parts = read_url(url)
    address = resolve(parts, allowed)
    timestamp = int(now)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "tuneyard",
        TIMESTAMP: str(timestamp),
        DELIVERY: delivery,
        SIGNATURE: f"sha256={sign(key, timestamp, body)}",
    }
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = _Pinned(address, parts.hostname or "", parts.port)
    else:
        connection = http.client.HTTPConnection(address, parts.port, timeout=TIMEOUT_S)
    default = {"http": 80, "https": 443}[parts.scheme]
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    headers["Host"] = f"{name}:{parts.port}" if parts.port not in (None, default) else str(name)
    try:
        connection.request(
            "POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers
        )
        answer = connection.getresponse()
        if not 200 <= answer.status < 300:
            raise OSError(f"it answered {answer.status}")
    finally:
        connection.close()


class _Pinned(http.client.HTTPSConnection):
    """TLS to an address, whose certificate must be that of the name."""

    def __init__(self, address: str, name: str, port: int | None) -> None:
        self._name, self._tls = name, ssl.create_default_context()
        super().__init__(address, port, timeout=TIMEOUT_S, context=self._tls)

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._name)
