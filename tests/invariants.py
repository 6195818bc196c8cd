"""What must always hold (DESIGN, section 5), asked of a database at the end of every test that touches it."""

from __future__ import annotations

from pathlib import Path

from jobs.identity import Owner, fault_of
from jobs.jobfile.resume_compatibility import weights_digest
from jobs.jobfile.spec import JobSpec
from orchestrator.store import Store
from orchestrator.store.maintenance.audit import faults
from workers.attempt_folder import checkpoints_root
from workers.checkpoints.folders import listed
from workers.checkpoints.job_folder import read_record
from workers.checkpoints.manifest import MANIFEST, read_manifest


def check_all(store: Store) -> None:
    """Fails with every breach. tests/store/maintenance/test_audit.py shows that each kind of breach is found."""
    with store.read() as connection:
        found = faults(connection)
    assert not found, "the database breaks its invariants:\n" + "\n".join(f"  {fault}" for fault in found)


def check_folders(store: Store, home: Path) -> None:
    """8: on a host nothing of another job is where a job of the database would take it for its own.

    home: of this database on the host (workers.attempt_folder.yard_root).
    """
    found = []
    jobs = store.jobs(limit=10_000)
    unnamed = store.unnamed_attempts([job.id for job in jobs])
    for job in jobs:
        record = read_record(home, job.id)
        if record is not None and record.job_uuid not in ("", job.uuid):
            found.append(f"the folder of job {job.id} is of {record.job_uuid}")
        digest = weights_digest(JobSpec.model_validate(job.spec))
        owner = Owner(job_id=job.id, job_uuid=job.uuid, digest=digest, unnamed=unnamed.get(job.id, ()))
        found += [
            f"checkpoint {path} {fault}"
            for path, _ in listed(checkpoints_root(home, job.id))
            if (path / MANIFEST).is_file() and (fault := fault_of(read_manifest(path), owner))
        ]
        for attempt in store.attempts(job.id):
            if attempt.result and (Path(attempt.result) / MANIFEST).is_file():
                made_by = read_manifest(Path(attempt.result)).get("attempt_uuid", "")
                if made_by not in ("", attempt.uuid):
                    found.append(f"the result {attempt.result} of attempt {attempt.id} is of {made_by}")
    assert not found, "a host has what would be taken for a job's:\n" + "\n".join(f"  {one}" for one in found)
