"""Plans of jobs that have no data: projected for rows of the whole sequence length, and said so."""

from __future__ import annotations

import json

import pytest

from orchestrator.api.app import PREFIX
from tests.api.scheduling.test_scheduling import FakeHost, card
from tests.api.submission.test_data_lengths import SHORT, answers
from tests.api.submission.test_jobs import faults
from tests.profiles import small_profile

PLAN = f"{PREFIX}/plan"
CONFIG = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def ask(yard, host=None, *, cards=(), base_dir=None, **sections):
    """The answer once what it asked the host for is there."""
    body = {"job": {"spec": sections, "base_dir": base_dir}, "cards": list(cards)}
    answer = yard.http.post(PLAN, json=body)
    while host is not None and answer.status_code == 202:
        for wanted in host.report()["traces"]:
            assert wanted["data_key"] == "", "there is nothing to count"
            host.report(traces=[{"key": wanted["key"], "profile": small_profile().as_dict()}])
        answer = yard.http.post(PLAN, json=body)
    return answer


@pytest.mark.parametrize("model", ["org/model", {"path": "org/model"}, {"config": CONFIG}])
def test_a_model_is_enough(yard, model):
    host = FakeHost(yard, card(0, 2))
    found = ask(yard, host, model=model, training={"sequence_length": 512}).json()
    assert (found["length"], found["data"]) == (512, None)
    assert any("no data was named" in line and "512 tokens" in line for line in found["notes"])
    assert found["cards"][0]["fits"] is True
    named = ask(yard, host, cards=["rtx4090"], model=model, training={"sequence_length": 512}).json()
    assert [one["short"] for one in named["cards"]][-1] == "rtx4090"
    assert yard.http.get(f"{PREFIX}/jobs").json()["total"] == 0


def test_a_folder_with_a_config_alone_is_enough(yard, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    host = FakeHost(yard, card(0, 2))
    assert ask(yard, host, model=str(tmp_path)).json()["cards"][0]["fits"] is True
    with_data = dict(yard.job(model=str(tmp_path))["spec"])
    found = ask(yard, host, **with_data).json()
    assert found["cards"][0]["fits"] is True
    assert any(str(tmp_path) in line and "the data was not counted" in line for line in found["notes"])
    refused = faults(yard.http.post(f"{PREFIX}/jobs", json={"jobs": [yard.job(model=str(tmp_path))]}))
    assert "no tokenizer" in refused["model.path"], "to train takes all of it"


def test_data_that_is_not_there_is_named(yard, tmp_path):
    host = FakeHost(yard, card(0, 2))
    found = ask(yard, host, model="org/model", data="pairs.jsonl", base_dir=str(tmp_path)).json()
    assert any(f"there is no {tmp_path / 'pairs.jsonl'}" in line for line in found["notes"])
    assert found["length"] == found["sequence_length"]


def test_every_other_fault_is_one(yard, tmp_path):
    (tmp_path / "broken.jsonl").write_text("{")
    found = faults(ask(yard, model="org/model", data=str(tmp_path / "broken.jsonl"), training={"steps": 0}))
    assert "training.steps" in found
    assert "data.path" in faults(ask(yard, model="org/model", data=str(tmp_path / "broken.jsonl")))
    assert "model" in faults(ask(yard, training={"steps": 1}))
    assert "data.holdout" in faults(ask(yard, model="org/model", data={"holdout": 3}))


def test_a_submission_needs_its_data(yard):
    answer = yard.http.post(f"{PREFIX}/jobs", json={"jobs": [{"spec": {"model": "org/model"}}]})
    assert "data" in faults(answer)


def test_data_is_counted_where_it_is_there(yard):
    host = FakeHost(yard, card(0, 2))
    body = {"job": yard.job(training={"sequence_length": 512})}
    answer = yard.http.post(PLAN, json=body)
    while answer.status_code == 202:
        answers(host)
        answer = yard.http.post(PLAN, json=body)
    found = answer.json()
    assert found["data"]["rows"] == SHORT.rows and found["length"] == 300
    assert not any("no data" in line for line in found["notes"])
