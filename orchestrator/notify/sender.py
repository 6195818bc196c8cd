"""The thread that empties the outbox while this server leads. Each notice is posted until it is taken, for a day."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from http.client import HTTPException

from jobs.errors import TuneyardError, words_of
from orchestrator.notify.mail import Relay, send
from orchestrator.notify.post import body_of, post
from orchestrator.store import Store
from orchestrator.store.sealed_rows import NoticeRow
from orchestrator.vault import Sealed, Vault

log = logging.getLogger(__name__)

EVERY_S, FIRST_DELAY_S, LONGEST_DELAY_S = 2.0, 5.0, 3600.0
GIVE_UP_S = 86400.0
EMAIL, MAILTO = "email", "mailto:"
NO_RELAY = "this server sends no e-mail: it is started with TUNEYARD_SMTP_URL and TUNEYARD_SMTP_FROM"


class Sender:
    """leads: whether this server leads; allowed: see orchestrator.notify.addresses.resolve; relay: for e-mail."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        clock: Callable[[], float],
        leads: Callable[[], bool] = lambda: True,
        allowed: Sequence[str] = (),
        relay: Relay | None = None,
    ) -> None:
        self._store, self._vault, self._clock = store, vault, clock
        self._leads, self._allowed, self._relay = leads, allowed, relay
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            try:
                if self._leads():
                    self.send_due()
            except TuneyardError as error:  # the database is away for a while: the outbox waits
                log.warning("notifications wait: %s", error)

    def send_due(self) -> None:
        """Send what is due. A target that fails makes its other notices wait for the next round; the relay, which all
        e-mail goes through, makes all of those wait.
        """
        yard, failed = self._store.yard(), set[int | str]()
        for row in self._store.due_notices(self._clock()):
            if self._over.is_set() or not self._leads():
                return
            way = EMAIL if row.target_kind == EMAIL else row.target_id
            if way in failed:
                continue
            now = self._clock()
            why = self._send(row, f"{yard[:12]}-{row.id}", now)
            if why is None:
                self._store.notice_sent(row.id)
                continue
            failed.add(way)
            if now - row.ts >= GIVE_UP_S:
                text = f"target {row.target_id} did not take the notice of {row.kind!r} for a day, is not told: {why}"
                self._store.give_up_notice(row, text, now)
            else:
                delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(row.tries, 20))
                self._store.retry_notice(row.id, row.tries + 1, now + delay)

    def _send(self, row: NoticeRow, delivery: str, now: float) -> str | None:
        """Why it was not taken; None where it was."""
        try:
            where = json.loads(self._vault.open("", row.uid, Sealed(row.key_id, row.box)))
            notice = {"id": delivery, "ts": row.ts, "kind": row.kind, "job": row.job_id, "text": row.text}
            if row.target_kind == EMAIL:
                if self._relay is None:
                    return NO_RELAY
                send(self._relay, where["url"].removeprefix(MAILTO), notice, delivery)
                return None
            post(where["url"], where["key"], body_of(row.target_kind, notice), delivery, now, self._allowed)
        except (OSError, HTTPException, TuneyardError) as error:
            return str(error) if isinstance(error, TuneyardError) else words_of(error)
        return None
