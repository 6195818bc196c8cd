"""Whose something is. Row ids come again when a database goes back to a backup; what stands here does not.

A job and an attempt have a uuid each. What an older version left behind bears none: such an attempt has a uuid that was
derived from its row (is_derived), and what it wrote is known by its ids.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from jobs.message_base import Message

_FIXED_BITS = 0xF << 76 | 0x3 << 62  # version and variant
_VERSION_4 = 0x4 << 76 | 0x2 << 62


def new_uuid() -> str:
    """Of a job or an attempt that begins to be."""
    # As uuid.uuid4().hex (RFC 9562, version 4), at a third of its cost: a request may bring thousands of jobs.
    return f"{secrets.randbits(128) & ~_FIXED_BITS | _VERSION_4:032x}"


def derived_uuid(yard: str, what: str) -> str:
    """Of a row that was made without one: the same each time that the same row is given one (RFC 9562, version 5).

    yard: uuid of the database; what: names the row, for instance by its id and when it was made.
    """
    return uuid.uuid5(uuid.UUID(yard), what).hex


def is_derived(text: str) -> bool:
    """Whether a uuid is of a row that was made without one."""
    try:
        return uuid.UUID(text).version == 5
    except ValueError:
        return False


class Owner(Message):
    """A job as its files name it.

    digest: of what decides its weights (jobs.jobfile.resume_compatibility.weights_digest); unnamed: ids of its
    attempts whose files bear no uuid. An older server names no uuid: then ids and the digest must do.
    """

    job_id: int
    job_uuid: str = ""
    digest: str = ""
    unnamed: tuple[int, ...] = Field(default=())

    def facts(self) -> dict[str, Any]:
        """As a manifest holds it."""
        named = {"job_uuid": self.job_uuid} if self.job_uuid else {}
        return {"job_id": self.job_id, **named, "weights_digest": self.digest}


class AttemptKey(Message):
    """An attempt as its folder names it."""

    attempt_id: int
    job_id: int
    number: int
    uuid: str = ""

    @classmethod
    def of(cls, one: Any) -> AttemptKey:
        """The attempt that a message, or a row of the database, is about."""
        attempt_id = one.attempt_id if hasattr(one, "attempt_id") else one.id
        return cls(attempt_id=attempt_id, job_id=one.job_id, number=one.number, uuid=one.uuid)

    def is_of(self, other: AttemptKey) -> bool:
        """Whether both are one attempt. other: as the server has it."""
        if self.attempt_id != other.attempt_id:
            return False
        if self.uuid or (other.uuid and not is_derived(other.uuid)):
            return self.uuid == other.uuid
        return (self.job_id, self.number) == (other.job_id, other.number)


class JobKey(Message):
    """A job as its folder on a host names it; without a uuid where an older version made that."""

    job_id: int
    job_uuid: str = ""


class Aside(Message):
    """Something on a host that was moved out of the way: it is not what the database has by its id.

    name: of the folder that it is in now, among the host's `aside`; job_id: by which it was found.
    """

    name: str
    ts: float
    text: str
    job_id: int | None = None


def fault_of(manifest: Mapping[str, Any], owner: Owner, *, own: bool = True) -> str | None:
    """Why what a manifest describes is not this job's, in words that follow "it"; None where it is.

    own: it is in the place of that job's own files; one without a digest is believed only there.
    """
    found, digest = manifest.get("job_uuid"), manifest.get("weights_digest")
    if found is not None:
        if found != owner.job_uuid:
            return f"is of another job that had the id {manifest.get('job_id')} (uuid {str(found)[:12]})"
        if digest != owner.digest:
            return "is of the same job with another job file, which makes other weights"
        return None
    if owner.job_uuid and manifest.get("attempt_id") not in owner.unnamed:
        return "names no job, and none of this job's attempts wrote such"
    if digest is None:
        return None if own else "does not say which weights it has"
    return None if not owner.digest or digest == owner.digest else "is of a job with other weights"


def result_fault(manifest: Mapping[str, Any], owner: Owner, attempt_id: int, attempt_uuid: str) -> str | None:
    """The same of a result, which one attempt made."""
    if manifest.get("job_uuid") is not None:
        if (fault := fault_of(manifest, owner)) is not None:
            return fault
    elif manifest.get("weights_digest") not in (None, owner.digest) and owner.digest:
        return "is of a job with other weights"
    made_by = manifest.get("attempt_uuid")
    if made_by is not None and made_by != attempt_uuid:
        return f"was made by another attempt (uuid {str(made_by)[:12]})"
    if made_by is None and attempt_uuid and not is_derived(attempt_uuid):
        return "does not name the attempt that made it"
    if (manifest.get("job_id"), manifest.get("attempt_id")) != (owner.job_id, attempt_id):
        return "was made by another job or attempt"
    return None
