"""The order to send a result."""

from __future__ import annotations

from typing import Literal

from jobs.identity import Owner
from jobs.message_base import Message


class SendOrder(Message):
    """Send a job's result to the server: its manifest, or its files one after the other by name, from an offset."""

    id: str = ""
    job_id: int
    attempt_id: int
    attempt_uuid: str = ""
    owner: Owner | None = None  # the job, as the manifest must name it; None: of an older server
    epoch: int = 0  # of the database, when this was asked for
    folder: str  # as the attempt's end named it; its manifest must name this job and attempt
    what: Literal["manifest", "files"]
    offset: int = 0
    manifest_sha256: str = ""  # of the manifest by which the receiver checks the files
