"""The result of a job: adapter or model as safetensors, tokenizer, manifest of checksums; published whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from jobs.report import Assignment
from workers.building import Refused
from workers.checkpoints import Corrupt, put_in_place, read_manifest, write_manifest


def check_free(target: Path, assignment: Assignment) -> None:
    """Raises Refused if `target` holds what no earlier attempt of this very job made."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        manifest = read_manifest(target)
    except (Corrupt, NotADirectoryError):
        manifest = {}
    if manifest.get("job_id") == assignment.job_id and manifest.get("spec") == spec_of(assignment):
        return
    owner = f"made by job {manifest['job_id']}" if "job_id" in manifest else "not made by tuneyard"
    raise Refused(f"output: {target} exists already, {owner}; move it away, or set output to another folder")


def spec_of(assignment: Assignment) -> dict[str, Any]:
    """The job's spec as the manifest holds it."""
    return assignment.spec.model_dump(mode="json")


def publish_result(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    target: Path,
    assignment: Assignment,
    facts: dict[str, Any],
) -> Path:
    """Save next to `target`, then rename. facts go into the manifest (steps, losses, versions)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.attempt-{assignment.attempt_id}")
    shutil.rmtree(staged, ignore_errors=True)
    model.save_pretrained(staged)
    tokenizer.save_pretrained(staged)
    write_manifest(
        staged,
        {
            "kind": "adapter" if isinstance(model, PeftModel) else "model",
            "job_id": assignment.job_id,
            "attempt_id": assignment.attempt_id,
            "number": assignment.number,
            "base_model": assignment.spec.model.path,
            "spec": spec_of(assignment),
            **facts,
        },
    )
    return put_in_place(staged, target)
