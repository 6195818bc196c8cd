"""What follows a training, on a real fleet: trained by TRL, then merged and compared, each a job of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from orchestrator.store import Store
from tests import invariants
from tests.acceptance.conftest import Fleet
from workers.checkpoints.manifest import verify

pytestmark = pytest.mark.acceptance


def test_an_adapter_is_merged_and_compared_once_it_is_trained(fleet: Fleet):
    method = {"kind": "lora", "rank": 4}
    path = fleet.job_file("follow", method=method, then=["merge"], training={"steps": 12})
    answer = fleet.json("submit", str(path))
    (job,), (step,) = answer["jobs"], answer["steps"]
    assert (step["kind"], step["of"]) == ("merge", job["id"])
    merged = fleet.end(step["job"])
    assert merged["state"] == "succeeded", fleet.logs(step["job"])
    assert merged["name"] == "follow-merge" and merged["step_of"] == job["id"] and merged["gpus"] == 0
    (attempt,) = merged["attempts_detail"]
    assert attempt["gpus"] == [] and attempt["rung"] is None
    assert 0 <= attempt["made"]["kl"] < attempt["made"]["max_kl"] == 1e-4
    trained = fleet.show(job["id"])
    (shown,) = trained["steps"]
    assert shown["result"] == attempt["result"] and shown["made"] == attempt["made"]

    folder = Path(attempt["result"])
    assert verify(folder)["parent"]["job_id"] == job["id"]
    adapter = Path(trained["attempts_detail"][-1]["result"])
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)("2 + 3 =").input_ids])
    set_seed(0)
    base = AutoModelForCausalLM.from_config(model.config)
    plain = base(ids).logits
    adapted = PeftModel.from_pretrained(base, adapter)
    assert torch.allclose(model(ids).logits, adapted(ids).logits, atol=1e-4)
    assert not torch.allclose(model(ids).logits, plain, atol=1e-2)  # it learned something


def test_what_can_not_be_merged_is_told_and_what_waits_for_it_ends(fleet: Fleet):
    full = fleet.run("submit", str(fleet.job_file("whole", method="full", then=["merge"])))
    assert full.returncode == 2 and "has no adapter to merge" in full.stderr
    path = fleet.job_file("strict", method="lora", then=[{"merge": {"max_difference": 1e-30}}])
    step = fleet.json("submit", str(path), "--set", "model.dtype=bfloat16")["steps"][0]["job"]
    ended = fleet.end(step)
    assert ended["state"] == "failed" and ended["reason"]["code"] == "bad_input"
    assert "more than 1e-30" in ended["reason"]["text"]
    results = fleet.home / "results"
    assert not [one for one in results.rglob("*") if "strict-merge" in one.name or one.name.startswith(".")]

    broken = fleet.job_file(
        "broken",
        method="lora",
        then=["merge"],
        data="./rows.jsonl",
        time_limit="1s",
        training={"steps": 100_000},
    )
    answer = fleet.json("submit", str(broken))
    assert fleet.end(answer["jobs"][0]["id"])["state"] == "failed"
    ended = fleet.end(answer["steps"][0]["job"])
    assert ended["state"] == "failed" and ended["reason"]["code"] == "after"


def test_a_step_that_was_cancelled_runs_again_and_nothing_breaks(fleet: Fleet):
    path = fleet.job_file("again", method="lora", then=["merge"])
    answer = fleet.json("submit", "--hold", str(path))
    step = answer["steps"][0]["job"]
    assert fleet.run("cancel", str(step)).returncode == 0
    assert fleet.run("release", str(answer["jobs"][0]["id"])).returncode == 0
    assert fleet.end(answer["jobs"][0]["id"])["state"] == "succeeded"
    copy = fleet.json("requeue", str(step))["jobs"][0]["id"]
    ended = fleet.end(copy)
    assert ended["state"] == "succeeded" and ended["step_of"] == answer["jobs"][0]["id"]
    store = Store(f"sqlite:///{fleet.home / 'tuneyard.db'}")
    try:
        invariants.check_all(store)
    finally:
        store.close()
