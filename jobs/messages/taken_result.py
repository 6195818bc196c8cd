"""The result that a step works on."""

from __future__ import annotations

from jobs.identity import Owner
from jobs.message_base import Message


class TakenResult(Message):
    """The result that a step works on: a folder of this host, by whom it was made."""

    folder: str
    owner: Owner  # the job
    attempt_id: int
    attempt_uuid: str = ""
