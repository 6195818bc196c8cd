"""Idempotency-Key: asking again makes no second job."""

from __future__ import annotations

import pytest

from orchestrator.client.responses import KEY_HEADER

JOBS = "/api/v1/jobs"


def post(yard, body, key="one-key", path=JOBS):
    return yard.http.post(path, json=body, headers={KEY_HEADER: key})


def test_the_second_answer_is_that_of_the_first(yard):
    body = {"jobs": [yard.job(name="alone"), yard.job(name="many", matrix={"training.seed": [1, 2]})]}
    first, second = post(yard, body), post(yard, body)
    assert (first.status_code, second.status_code) == (201, 201), second.text
    one, other = first.json(), second.json()
    assert (one.pop("again"), other.pop("again")) == (False, True)
    assert one == other and one["groups"][0]["values"] == [{"training.seed": 1}, {"training.seed": 2}]
    assert yard.http.get(JOBS).json()["total"] == 3
    assert post(yard, body, "another-key").json()["jobs"][0]["id"] == 4


def test_what_became_of_its_files_does_not_matter_to_who_asks_again(yard):
    body = {"jobs": [yard.job(name="alone")]}
    post(yard, body)
    yard.data.unlink()
    assert post(yard, body).json()["jobs"][0]["id"] == 1
    assert post(yard, body, "another-key").status_code == 422


def test_a_key_goes_with_one_body(yard):
    post(yard, {"jobs": [yard.job(name="a")]})
    for body, path in (({"jobs": [yard.job(name="b")]}, JOBS), (None, f"{JOBS}/a/requeue")):
        refused = post(yard, body, path=path)
        assert refused.status_code == 422
        assert "one-key was given with another submission" in refused.json()["error"]["message"]
    assert yard.http.get(JOBS).json()["total"] == 1


@pytest.mark.parametrize("key", ["", "two words", "x" * 201, "é".encode("latin-1")])
def test_what_can_not_be_a_key_is_refused(yard, key):
    answer = post(yard, {"jobs": [yard.job()]}, key)
    assert answer.status_code == 422
    assert answer.json()["error"]["faults"][0]["path"] == KEY_HEADER
    assert yard.http.get(JOBS).json()["total"] == 0


def test_a_dry_run_uses_up_no_key(yard):
    body = {"jobs": [yard.job(name="a")]}
    assert post(yard, body, path=f"{JOBS}?dry_run=true").status_code == 200
    assert post(yard, body).json()["again"] is False


def test_a_job_is_requeued_once(yard):
    yard.submit(name="a")
    yard.http.post(f"{JOBS}/1/cancel")
    made = [post(yard, {}, path=f"{JOBS}/1/requeue") for _ in range(2)]
    assert [one.status_code for one in made] == [201, 201], made[1].text
    assert [one.json()["id"] for one in made] == [2, 2]
    assert made[0].json()["goes_on"] == made[1].json()["goes_on"] | {
        "text": made[0].json()["goes_on"]["text"]
    }
