"""One notice as an e-mail, through the relay that the operator names."""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote, urlsplit

from jobs.errors import UsageError
from jobs.units import counted

TIMEOUT_S = 10.0  # of each answer of the relay
_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?"
)
_PORTS = {"smtps": 465, "smtp": 587, "smtp+plain": 25}
_HOW = "write smtp://USER:PASSWORD@HOST:587 (STARTTLS), smtps://USER:PASSWORD@HOST or smtp+plain://HOST"


@dataclass(frozen=True)
class Relay:
    """Where mail is handed in. scheme: smtps (TLS from the first byte), smtp (STARTTLS, or nothing is sent) or
    smtp+plain; sender: who it is from.
    """

    scheme: str
    host: str
    port: int
    user: str
    password: str
    sender: str


def read_relay(url: str, sender: str) -> Relay | None:
    """TUNEYARD_SMTP_URL and TUNEYARD_SMTP_FROM. None where there is no URL. Raises UsageError, without the password."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"TUNEYARD_SMTP_URL: can't be read; {_HOW}") from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query or port == 0:
        raise UsageError(f"TUNEYARD_SMTP_URL: is no address of a mail server; {_HOW}")
    if parts.password and parts.scheme == "smtp+plain":
        raise UsageError(
            "TUNEYARD_SMTP_URL: a password over a connection without TLS; write smtp:// or smtps://"
        )
    if bool(parts.username) != bool(parts.password):
        raise UsageError("TUNEYARD_SMTP_URL: has a user and no password, or none and one; give both or none")
    if not sender:
        raise UsageError(
            "TUNEYARD_SMTP_FROM: is missing; write the address that mail comes from, such as tuneyard@example.org"
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Relay(
        parts.scheme,
        parts.hostname,
        port or _PORTS[parts.scheme],
        user,
        password,
        read_address(sender, "TUNEYARD_SMTP_FROM"),
    )


def read_address(text: str, name: str) -> str:
    """An e-mail address: one, alone, in ASCII. Raises UsageError."""
    if len(text) > 254 or not _ADDRESS.fullmatch(text):
        raise UsageError(f"{name}: {text[:80]!r} is no e-mail address; write one, such as ada@example.org")
    return text


def message_of(to: str, notice: Mapping[str, Any], delivery: str, sender: str) -> EmailMessage:
    """The same on every try but for its date: who gets it twice may know it by its Message-ID."""
    job = f"job {notice['job']} " if notice["job"] is not None else ""
    made = EmailMessage()
    made["From"], made["To"] = sender, to
    made["Subject"] = f"[tuneyard] {job}{notice['kind']}"
    made["Date"] = formatdate(notice["ts"])
    made["Message-ID"] = f"<{delivery}@tuneyard>"
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    lines = [f"{job}{notice['kind']}: {notice['text']}".replace("\r", " ")]
    if notice["job"] is not None:
        lines += ["", f"tuneyard show {notice['job']}"]
    made.set_content("\n".join(lines) + "\n")
    return made


def send(relay: Relay, to: str, notice: Mapping[str, Any], delivery: str) -> None:
    """Raises OSError (of which smtplib's exceptions are) unless the relay took it."""
    tls = ssl.create_default_context()
    connection: smtplib.SMTP
    if relay.scheme == "smtps":
        connection = smtplib.SMTP_SSL(relay.host, relay.port, timeout=TIMEOUT_S, context=tls)
    else:
        connection = smtplib.SMTP(relay.host, relay.port, timeout=TIMEOUT_S)
    with connection:
        if relay.scheme == "smtp":
            connection.starttls(context=tls)
        if relay.user:
            connection.login(relay.user, relay.password)
        refused = connection.send_message(message_of(to, notice, delivery, relay.sender))
    if refused:
        raise OSError(f"the mail server refused {counted(len(refused), 'address', 'addresses')}")
