"""Secrets of projects: set, listed, named by jobs, handed to the trainer, and to be read nowhere."""

from __future__ import annotations

import json

import pytest

from orchestrator.api.app import PREFIX
from tests.api.scheduling.test_scheduling import FakeHost, card
from tests.api.submission.test_data_lengths import answers

SECRETS = f"{PREFIX}/projects/default/secrets"
VALUE = "s3cr3t-value-of-a-test"


def put(yard, name="WANDB_API_KEY", value=VALUE):
    return yard.http.put(f"{SECRETS}/{name}", json={"value": value})


def test_a_secret_is_set_listed_by_name_and_removed(yard):
    assert put(yard).status_code == 200
    (one,) = yard.http.get(SECRETS).json()["secrets"]
    assert (one["name"], one["set_at"]) == ("WANDB_API_KEY", yard.now)
    assert yard.http.get(f"{PREFIX}/projects/other/secrets").json() == {"secrets": []}
    assert yard.http.delete(f"{SECRETS}/WANDB_API_KEY").json() == {"secrets": []}
    assert yard.http.delete(f"{SECRETS}/WANDB_API_KEY").status_code == 404


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("lower", VALUE, "is no name of a secret"),
        ("LD_PRELOAD", VALUE, "the trainer itself goes by"),
        ("PATH", VALUE, "the trainer itself goes by"),
        ("TOKEN", "short", "has 5 characters"),
        ("TOKEN", "x" * 65_537, "has 65,537 characters"),
        ("TOKEN", "x" * 8 + "\0", "NUL"),
    ],
)
def test_what_is_no_secret_is_refused_without_a_word_of_it(yard, name, value, says):
    answer = put(yard, name, value)
    assert answer.status_code == 422 and says in answer.text
    assert "xxxxxxxx" not in answer.text and VALUE not in answer.text
    assert yard.http.get(SECRETS).json() == {"secrets": []}


def test_a_job_that_names_one_which_is_not_there_is_refused_by_name(yard):
    body = {"jobs": [yard.job(secrets=["WANDB_API_KEY", "HF_TOKEN"])]}
    put(yard)
    answer = yard.http.post(f"{PREFIX}/jobs", json=body)
    assert answer.status_code == 422
    (fault,) = answer.json()["error"]["faults"]
    assert (fault["path"], fault["given"]) == ("secrets", "HF_TOKEN")
    assert "tuneyard secret set HF_TOKEN --project default" in fault["fix"]
    body["jobs"][0]["spec"]["project"] = "other"  # a secret is one project's
    assert len(yard.http.post(f"{PREFIX}/jobs", json=body).json()["error"]["faults"]) == 2


def running(yard):
    host = FakeHost(yard, card(0, 2))
    put(yard)
    made = yard.submit(secrets=["WANDB_API_KEY"])
    yard.tick()
    answers(host)
    return made


def test_the_trainer_alone_is_told(yard, tmp_path):
    made = running(yard)
    yard.tick()
    (handed,) = yard.dispatch.started
    parts = handed["parts"]
    assert parts[0]["env"] == {"WANDB_API_KEY": VALUE}
    assert VALUE not in json.dumps(handed["assignments"])
    for path in (f"jobs/{made['id']}", f"jobs/{made['id']}/logs", "events", "actions", "projects", "history"):
        assert VALUE not in yard.http.get(f"{PREFIX}/{path}").text
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "test.db" for path in kept)
    assert not [path.name for path in kept if VALUE.encode() in path.read_bytes()]


def test_a_key_that_was_lost_keeps_the_job_from_being_handed_over_and_says_why(yard):
    running(yard)
    key = yard.services.settings.vault.path
    text = key.read_text()
    key.unlink()
    yard.tick()
    assert not yard.dispatch.started
    told = yard.http.get(f"{PREFIX}/events").text
    assert "can't be read" in told and "--secrets-key FILE" in told
    assert put(yard, "MORE").status_code == 409 and not key.exists()
    key.write_text(text)
    yard.now += 3600
    yard.tick()
    assert len(yard.http.get(SECRETS).json()["secrets"]) == 1
