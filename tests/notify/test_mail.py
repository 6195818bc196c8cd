"""Notices as e-mail: a real SMTP server on loopback, with STARTTLS, TLS and a login."""

from __future__ import annotations

import asyncio
import datetime
import email
import ssl
import threading
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jobs.errors import UsageError
from orchestrator.notify.mail import TIMEOUT_S, Relay, message_of, read_address, read_relay
from orchestrator.notify.sender import GIVE_UP_S, Sender
from orchestrator.store import Store
from orchestrator.store.actions import WantedEvents
from tests.notify.test_sender import Desk

FROM = "tuneyard@example.org"


class Post:
    """A mail server that keeps what it gets. refuse: what it answers to each recipient."""

    def __init__(self, folder: Path, *, tls: str = "", login: bool = False) -> None:
        self.got: list[Message] = []
        self.refuse = ""
        self.certificate = folder / "server.pem"
        context = _context(self.certificate) if tls else None
        given: dict[str, Any] = {"tls_context": context} if tls == "smtp" else {}
        if login:
            given |= {"authenticator": self._login, "auth_required": True, "auth_require_tls": tls != "smtps"}
        self.logins: list[str] = []
        self.loop = asyncio.new_event_loop()
        opened = self.loop.create_server(
            lambda: SMTP(self, loop=self.loop, **given),
            "localhost",
            0,
            ssl=context if tls == "smtps" else None,
        )
        self.server = self.loop.run_until_complete(opened)
        self.port: int = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def _login(self, server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        self.logins.append(given.login.decode())
        return AuthResult(success=given.password == b"p@ss word", handled=False)

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not self.refuse:
            envelope.rcpt_tos.append(address)
        return self.refuse or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.got.append(email.message_from_bytes(envelope.content))
        return "250 taken"


def _context(path: Path) -> ssl.SSLContext:
    """A certificate for localhost that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    opened: list[Post] = []

    def started(**given: Any) -> Post:
        made = Post(tmp_path, **given)
        opened.append(made)
        return made

    yield started
    for one in opened:
        one.stop()


def mailed(store: Store, tmp_path: Path, relay: Relay | None) -> Desk:
    """With a mailbox as its target, and a job that was cancelled."""
    desk = Desk(store, tmp_path)
    desk.sender = Sender(store, desk.vault, lambda: desk.now, lambda: True, (), relay)
    desk.target("mailto:ada@example.org", kind="email")
    return desk


def test_an_outcome_comes_as_mail_once(store: Store, tmp_path: Path, start: Any) -> None:
    post = start()
    desk = mailed(store, tmp_path, Relay("smtp+plain", "localhost", post.port, "", "", FROM))
    job = desk.cancelled()
    desk.sender.send_due()
    desk.sender.send_due()
    (got,) = post.got
    assert (got["To"], got["From"]) == ("ada@example.org", FROM)
    assert got["Subject"] == f"[tuneyard] job {job} cancelled"
    assert got["Auto-Submitted"] == "auto-generated" and got["Message-ID"].endswith("@tuneyard>")
    assert f"tuneyard show {job}" in got.get_payload()
    assert store.waiting_notices() == {}


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_the_password_goes_over_tls_alone(
    store: Store, tmp_path: Path, start: Any, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = start(tls=scheme, login=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(post.certificate))
    relay = read_relay(f"{scheme}://bot:p%40ss%20word@localhost:{post.port}", FROM)
    desk = mailed(store, tmp_path, relay)
    desk.cancelled()
    desk.sender.send_due()
    assert len(post.got) == 1 and post.logins == ["bot"]


def test_a_server_without_starttls_or_of_another_name_gets_nothing(
    store: Store, tmp_path: Path, start: Any
) -> None:
    plain = start()
    desk = mailed(store, tmp_path, Relay("smtp", "localhost", plain.port, "bot", "secret", FROM))
    desk.cancelled()
    desk.sender.send_due()
    assert plain.got == [] and store.waiting_notices() == {1: 1}
    unknown = start(tls="smtp")  # its certificate is nobody's whom this machine trusts
    desk.sender = Sender(
        store,
        desk.vault,
        lambda: desk.now,
        relay=Relay("smtp", "localhost", unknown.port, "bot", "secret", FROM),
    )
    desk.now += 10
    desk.sender.send_due()
    assert unknown.got == [] and unknown.logins == [] and store.waiting_notices() == {1: 1}


def test_mail_that_is_refused_is_tried_again_and_given_up_after_a_day(
    store: Store, tmp_path: Path, start: Any
) -> None:
    post = start()
    post.refuse = "550 no such mailbox"
    desk = mailed(store, tmp_path, Relay("smtp+plain", "localhost", post.port, "", "", FROM))
    desk.cancelled()
    desk.sender.send_due()
    assert store.due_notices(desk.now) == [] and store.waiting_notices() == {1: 1}
    desk.now += GIVE_UP_S
    desk.sender.send_due()
    assert store.waiting_notices() == {} and post.got == []
    (lost,) = [row.event for row in store.events_of(WantedEvents(kinds=["notice_lost"]), 9)]
    assert "no such mailbox" in lost.text


def test_a_relay_that_is_away_is_asked_once_a_round(store: Store, tmp_path: Path) -> None:
    desk = mailed(store, tmp_path, Relay("smtp+plain", "127.0.0.1", 9, "", "", FROM))
    desk.target("mailto:ben@example.org", kind="email")
    desk.cancelled()
    desk.sender.send_due()
    tries = [row.tries for row in store.due_notices(desk.now + 3600)]
    assert sorted(tries) == [0, 1], "one relay for both: the other was not tried in vain"


def test_a_server_without_a_relay_says_so(store: Store, tmp_path: Path) -> None:
    desk = mailed(store, tmp_path, None)
    desk.cancelled()
    desk.now += GIVE_UP_S
    desk.sender.send_due()
    assert "TUNEYARD_SMTP_URL" in store.events_of(WantedEvents(kinds=["notice_lost"]), 9)[0].event.text


def test_no_line_of_a_text_becomes_a_header() -> None:
    notice = {"ts": 1.0, "kind": "failed", "job": 7, "text": "x\r\nBcc: eve@example.org\r\n.\r\nüñ"}
    made = email.message_from_bytes(bytes(message_of("ada@example.org", notice, "d-1", FROM)))
    assert made["Bcc"] is None and made["Subject"] == "[tuneyard] job 7 failed"
    assert TIMEOUT_S <= 10


@pytest.mark.parametrize(
    ("url", "sender", "said"),
    [
        ("http://mail.example.org", FROM, "TUNEYARD_SMTP_URL"),
        ("smtp://", FROM, "smtp://USER:PASSWORD@HOST:587"),
        ("smtp://mail:99999999", FROM, "can't be read"),
        ("smtp://bot@mail", FROM, "no password"),
        ("smtp+plain://bot:hunter2@mail", FROM, "without TLS"),
        ("smtp://mail", "", "TUNEYARD_SMTP_FROM: is missing"),
        ("smtp://mail", "ada", "TUNEYARD_SMTP_FROM: 'ada'"),
        ("smtp://mail/path", FROM, "no address of a mail server"),
    ],
)
def test_a_relay_that_can_t_be_read_is_named_without_its_password(url: str, sender: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        read_relay(url, sender)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("text", ["", "ada", "a@b@c", "ada@example.org\nBcc: x@y", "ada @x.org", "<a@b.org>"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"url: .* is no e-mail address"):
        read_address(text, "url")
