"""Whose a file is: every combination of uuid, digest and attempt, of jobs with and without files that bear no uuid."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import RFC_4122, UUID

import pytest

from jobs.identity import AttemptKey, Owner, derived_uuid, fault_of, is_derived, new_uuid, result_fault

MINE, OTHER = new_uuid(), new_uuid()
YARD = "0123456789abcdef0123456789abcdef"
SAME = {"job_id": 7, "attempt_id": 3, "job_uuid": MINE, "weights_digest": "d", "epoch": 1}


def manifest(**changed: Any) -> dict[str, Any]:
    return {name: value for name, value in {**SAME, **changed}.items() if value is not None}


@pytest.mark.parametrize("epoch", [None, 0, 1, 2])
@pytest.mark.parametrize("unnamed", [(), (3,), (4,)])
@pytest.mark.parametrize("own", [True, False])
def test_whose_it_is_follows_from_uuid_and_digest(
    own: bool, unnamed: tuple[int, ...], epoch: int | None
) -> None:
    owner = Owner(job_id=7, job_uuid=MINE, digest="d", unnamed=unnamed)
    for uuid, digest, job_id in itertools.product((MINE, OTHER, None), ("d", "x", None), (7, 8)):
        found = manifest(job_uuid=uuid, weights_digest=digest, job_id=job_id, epoch=epoch)
        if uuid is not None:
            good = (uuid, digest) == (MINE, "d")
        else:
            good = 3 in unnamed and (digest == "d" or (digest is None and own))
        assert (fault_of(found, owner, own=own) is None) == good, found


@pytest.mark.parametrize("uuid", [MINE, OTHER, None], ids=["mine", "other", "none"])
@pytest.mark.parametrize("digest", ["d", "x", None])
def test_a_result_is_of_one_attempt_of_one_job(uuid: str | None, digest: str | None) -> None:
    owner = Owner(job_id=7, job_uuid=MINE, digest="d")
    old = derived_uuid(YARD, "attempt 3")
    for wanted, made_by in itertools.product(("a" * 32, old), ("a" * 32, old, "b" * 32, None)):
        found = manifest(job_uuid=uuid, weights_digest=digest, attempt_uuid=made_by)
        whose = digest != "x" if uuid is None else (uuid, digest) == (MINE, "d")
        good = whose and (made_by == wanted or (made_by is None and wanted == old))
        assert (result_fault(found, owner, 3, wanted) is None) == good, (wanted, found)
        assert result_fault(found, owner, 4, wanted) is not None, "another attempt"


def test_an_attempt_is_known_by_its_uuid_and_an_old_one_by_its_ids() -> None:
    new, old = new_uuid(), derived_uuid(YARD, "attempt 3 of 7")
    for server, folder, number in itertools.product((new, old), (new, old, OTHER, ""), (1, 2)):
        here = AttemptKey(attempt_id=3, job_id=7, number=number, uuid=folder)
        there = AttemptKey(attempt_id=3, job_id=7, number=1, uuid=server)
        good = folder == server or (folder == "" and server == old and number == 1)
        assert here.is_of(there) == good, (here, there)


def test_a_row_gets_the_same_uuid_each_time_and_another_row_another() -> None:
    assert derived_uuid(YARD, "job 1 10.0") == derived_uuid(YARD, "job 1 10.0")
    assert derived_uuid(YARD, "job 1 10.0") != derived_uuid(YARD, "job 1 10.5")
    assert is_derived(derived_uuid(YARD, "job 1 10.0")) and not is_derived(new_uuid()) and not is_derived("")


def test_a_new_uuid_is_one_of_version_four_and_of_no_row():
    made = [new_uuid() for _ in range(1000)]
    assert len(set(made)) == len(made)
    for text in made:
        assert (UUID(text).version, UUID(text).variant) == (4, RFC_4122)
        assert text == UUID(text).hex and not is_derived(text)
