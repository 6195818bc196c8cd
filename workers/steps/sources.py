"""The result that a step works on: verified before anything is made of it."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from jobs.identity import result_fault
from jobs.messages.taken_result import TakenResult
from workers.checkpoints.manifest import MANIFEST, Corrupt, verify
from workers.input_errors import Refused


def verified(taken: TakenResult) -> dict[str, Any]:
    """The manifest of the result, all of whose files are what it says. Raises Refused where it is another's, or was
    changed.
    """
    folder = Path(taken.folder)
    try:
        manifest = verify(folder)
    except Corrupt as error:
        raise Refused(f"the result of job {taken.owner.job_id} can't be used: {error}") from None
    if fault := result_fault(manifest, taken.owner, taken.attempt_id, taken.attempt_uuid):
        raise Refused(f"what {folder} holds {fault}")
    return manifest


def parent_facts(taken: TakenResult) -> dict[str, Any]:
    """What a result that is made of another says of that one."""
    digest = sha256((Path(taken.folder) / MANIFEST).read_bytes()).hexdigest()
    return {**taken.owner.facts(), "attempt_id": taken.attempt_id, "manifest_sha256": digest}


def is_adapter(folder: Path) -> bool:
    """Whether a result is an adapter, and no whole model."""
    return (folder / "adapter_config.json").exists()


def adapter_config(folder: Path) -> dict[str, Any]:
    """PEFT's own file of an adapter."""
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return found
