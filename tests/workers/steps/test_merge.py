"""Adapters that TRL trained, merged into their base: what is compared, what is refused, what is left behind."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from jobs.jobfile.spec import parse_spec
from jobs.messages.reports import Assignment, Ended
from jobs.messages.taken_result import TakenResult
from jobs.state import Outcome
from tests.workers.builders import TINY, claimed, make_assignment
from workers.checkpoints.manifest import verify, write_manifest
from workers.steps.compare import Place, difference
from workers.steps.run import run_attempt as run_step
from workers.trainer.train import run_attempt

BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None


@pytest.fixture
def base(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    config = {key: value for key, value in TINY.items() if key != "model_type"}
    LlamaForCausalLM(LlamaConfig(**config)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(at: Path, tokenizer: Path, rows: Path, model: dict[str, Any], **sections: Any) -> Assignment:
    """A job whose adapter is in the output folder."""
    sections = {"method": {"kind": "lora", "rank": 4}, **sections}
    assignment = make_assignment(rows, tokenizer, name="tune", model=model, **sections)
    ended = run_attempt(assignment, claimed(at / "home", assignment), at / "home", at / "out")
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    return assignment


def merge_of(at: Path, job: Assignment, options: dict[str, Any] | None = None, attempt_id: int = 2) -> Ended:
    """The step that follows the job, run as a host runs it."""
    stored = job.spec.model_dump(mode="json", exclude_unset=True)
    spec = {**stored, "name": "tune-merge", "step": {"merge": options or {}, "takes": "job"}}
    made = at / "out" / "job-1-tune"
    taken = TakenResult(folder=str(made), owner=job.mine, attempt_id=1)
    step = Assignment(
        attempt_id=attempt_id,
        job_id=attempt_id,
        number=1,
        spec=parse_spec(spec),
        rung=job.rung,
        gpus=[],
        taken=taken,
        host="test",
    )
    return run_step(step, claimed(at / "home", step), at / "home", at / "out")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("more", [{}, {"dora": True, "rslora": True}])
def test_a_merged_model_is_the_sum(
    tmp_path: Path, tokenizer: Path, rows: Path, base: Path, dtype: str, more: dict[str, Any]
):
    model = {"config": None, "path": str(base), "dtype": dtype}
    job = trained(tmp_path, tokenizer, rows, model, method={"kind": "lora", "rank": 4, **more})
    ended = merge_of(tmp_path, job)
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    assert ended.made and ended.made["kl"] <= ended.made["max_kl"] == (1e-4 if dtype == "float32" else 0.01)
    assert ended.made["rows"] == 8 and ended.made["base"] == str(base)
    folder = Path(str(ended.result))
    manifest = verify(folder)
    assert manifest["kind"] == "model" and manifest["step"] == "merge" and manifest["made"] == ended.made
    assert manifest["parent"]["job_id"] == 1 and manifest["parent"]["attempt_id"] == 1
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == getattr(torch, dtype)
    before, after = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name].to(after[name].dtype), after[name])}
    assert changed and all("proj" in name for name in changed)


def test_a_difference_above_the_bound_is_refused_and_leaves_nothing(
    tmp_path: Path, tokenizer: Path, rows: Path, base: Path
):
    job = trained(tmp_path, tokenizer, rows, {"config": None, "path": str(base), "dtype": "bfloat16"})
    ended = merge_of(tmp_path, job, {"max_difference": 1e-12})
    assert ended.outcome is Outcome.FAILED and ended.bad_input
    assert "more than 1e-12" in ended.message and "max_difference" in ended.message
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["job-1-tune"]


def test_a_result_that_was_changed_or_is_anothers_is_not_merged(
    tmp_path: Path, tokenizer: Path, rows: Path, base: Path
):
    job = trained(tmp_path, tokenizer, rows, {"config": None, "path": str(base)})
    folder = tmp_path / "out" / "job-1-tune"
    weights = folder / "adapter_model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    ended = merge_of(tmp_path, job)
    assert ended.outcome is Outcome.FAILED and "does not match its checksum" in ended.message
    weights.write_bytes(kept)
    other = job.model_copy(update={"job_id": 7})
    ended = merge_of(tmp_path, other, attempt_id=3)
    assert ended.outcome is Outcome.FAILED and "was made by another job" in ended.message


def test_weights_that_are_not_finite_are_no_merged_model(
    tmp_path: Path, tokenizer: Path, rows: Path, base: Path
):
    job = trained(tmp_path, tokenizer, rows, {"config": None, "path": str(base)})
    folder = tmp_path / "out" / "job-1-tune"
    weights = load_file(folder / "adapter_model.safetensors")
    name = next(name for name in weights if "lora_B" in name)
    weights[name][0, 0] = float("nan")
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    facts = {key: value for key, value in verify_facts(folder).items() if key != "files"}
    write_manifest(folder, facts)
    ended = merge_of(tmp_path, job)
    assert ended.outcome is Outcome.FAILED and "NaN" in ended.message
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["job-1-tune"]


def verify_facts(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, whose files may be others by now."""
    from workers.checkpoints.manifest import read_manifest

    return read_manifest(folder)


@pytest.mark.skipif(not BITSANDBYTES, reason="bitsandbytes is not installed")
def test_a_qlora_adapter_goes_into_the_original_base_and_is_compared_with_the_packed_one(
    tmp_path: Path, tokenizer: Path, rows: Path, base: Path
):
    model = {"config": None, "path": str(base), "dtype": "bfloat16"}
    job = trained(tmp_path, tokenizer, rows, model, method={"kind": "qlora", "rank": 4})
    ended = merge_of(tmp_path, job)
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    assert ended.made and ended.made["kl_quantised"] > 0 and ended.made["loss_quantised"] > 0
    assert "with the quantised base" in ended.message
    assert "quantization_config" not in (Path(str(ended.result)) / "config.json").read_text()


@pytest.mark.skipif(not BITSANDBYTES, reason="bitsandbytes is not installed")
def test_a_base_that_is_quantised_needs_its_original(tmp_path: Path, tokenizer: Path, rows: Path, base: Path):
    from transformers import BitsAndBytesConfig

    packed = tmp_path / "packed"
    kind = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    AutoModelForCausalLM.from_pretrained(
        base, quantization_config=kind, dtype=torch.bfloat16
    ).save_pretrained(packed)
    job = trained(tmp_path, tokenizer, rows, {"config": None, "path": str(packed), "dtype": "bfloat16"})
    ended = merge_of(tmp_path, job)
    assert ended.outcome is Outcome.FAILED and ended.bad_input
    assert "is quantised" in ended.message and "then: [{merge: {base:" in ended.message
    ended = merge_of(tmp_path, job, {"base": str(base)}, attempt_id=3)
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    assert ended.made and ended.made["base"] == str(base) and "kl_quantised" in ended.made


def test_the_difference_is_that_of_the_distributions():
    row = Place([1, 2, 3], [0, 1], [2, 3])
    one = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    same = difference([Place([0, 0, 1], [0, 1], [0, 1])], [one], [one])
    assert (same.kl, same.largest, same.same) == (0.0, 0.0, 1.0)
    p, q = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.5, 0.5]])
    found = difference([Place([0, 0], [0], [0])], [p.log()], [q.log()])
    expected = float((p * (p / q).log()).sum())
    assert found.kl == pytest.approx(expected, rel=1e-5)
    assert found.first_loss == pytest.approx(-float(p[0, 0].log()), rel=1e-5)
    broken = difference([Place([0, 0], [0], [0])], [p.log()], [q.log() * float("nan")])
    assert broken.kl != broken.kl
    assert row.places == [0, 1]
