"""Models that a host looks into: what would begin at random, or can't be loaded, is refused; odd settings are saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from jobs.errors import InputError
from jobs.messages.reports import TraceRequest, TraceResult
from jobs.state import Outcome
from tests.workers.builders import TINY, claimed, make_assignment
from workers.model.host_checks import check_generation, check_on_host
from workers.profiler.__main__ import scanned
from workers.trainer.train import run_attempt


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = AutoConfig.for_model(**{**TINY, "num_hidden_layers": 2})
    folder = tmp_path_factory.mktemp("models") / "shards"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, max_shard_size="50KB")
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


def change(path: Path, **values: Any) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}))


def spec_of(model: Path | str, tokenizer: Path | str, rows: Path) -> Any:
    return make_assignment(rows, Path(tokenizer), model={"config": None, "path": str(model)}).spec


def refusal(model: Path, tokenizer: Path, rows: Path) -> str:
    with pytest.raises(InputError) as error:
        check_on_host(spec_of(model, tokenizer, rows), [])
    return error.value.line


def test_a_whole_model_passes(model: Path, tokenizer: Path, rows: Path) -> None:
    check_on_host(spec_of(model, tokenizer, rows), [])


def test_what_the_weights_lack_would_be_random(model: Path, tokenizer: Path, rows: Path) -> None:
    index = model / "model.safetensors.index.json"
    value = json.loads(index.read_text())
    gone = {name: file for name, file in value["weight_map"].items() if ".mlp.up_proj." not in name}
    index.write_text(json.dumps({**value, "weight_map": gone}))
    kept = set(gone.values())
    assert kept == set(value["weight_map"].values()), "the shards are the same"
    # transformers reads every tensor of a shard, whatever the index says: so take the shard's header, too.
    for name in kept:
        tensors = load_file(model / name)
        save_file({n: t for n, t in tensors.items() if n in gone}, model / name, metadata={"format": "pt"})
    said = refusal(model, tokenizer, rows)
    assert "its weights lack model.layers.0.mlp.up_proj.weight" in said and "would be random" in said


@pytest.mark.parametrize("values", [{"intermediate_size": 80}, {"num_key_value_heads": 4}])
def test_shapes_that_config_json_does_not_say(
    values: dict[str, int], model: Path, tokenizer: Path, rows: Path
) -> None:
    change(model / "config.json", **values)
    said = refusal(model, tokenizer, rows)
    assert "does not fit config.json" in said and " x " in said


def test_settings_that_stop_a_load_are_named(model: Path, tokenizer: Path, rows: Path) -> None:
    change(model / "generation_config.json", max_new_tokens=0)
    said = refusal(model, tokenizer, rows)
    assert "generation_config.json" in said and "`max_new_tokens` must be greater than 0" in said
    assert check_generation("org/not-there") == []


def test_the_scan_says_whose_fault_it_is(model: Path, tokenizer: Path, rows: Path, tmp_path: Path) -> None:
    def found(folder: Path) -> TraceResult:
        request = TraceRequest(data_key="d", spec=spec_of(folder, tokenizer, rows))
        return scanned(request, TraceResult())

    assert found(model).data_error is None
    shard = sorted(model.glob("*.safetensors"))[0]
    shard.unlink()
    broken = found(model)
    assert broken.data_bad_input and not broken.data_missing and str(shard) in (broken.data_error or "")
    gone = found(tmp_path / "nowhere" / "else")
    assert gone.data_missing and "does not exist" in (gone.data_error or "")


@pytest.mark.parametrize("value", [[], "text", 3, None, {"watermarking_config": 3}])
def test_generation_settings_of_another_form_are_named(
    value: Any, model: Path, tokenizer: Path, rows: Path
) -> None:
    (model / "generation_config.json").write_text(json.dumps(value))
    said = refusal(model, tokenizer, rows)
    assert str(model / "generation_config.json") in said and "Error" not in said.partition(":")[2]
    assert "generation_config.json" in str(check_generation(str(model))[0])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps"),
        ({"rope_parameters": "x"}, "rope_parameters"),
        ({"eos_token_id": "x"}, "eos_token_id"),
        ({"layer_types": ["a"]}, "layer_types"),
        ({"auto_map": 3}, "can't be used"),
        ({"dtype": "float31"}, "float31"),
    ],
)
def test_a_config_that_transformers_refuses_is_named(
    values: dict[str, Any], says: str, model: Path, tokenizer: Path, rows: Path
) -> None:
    change(model / "config.json", **values)
    found = scanned(TraceRequest(data_key="d", spec=spec_of(model, tokenizer, rows)), TraceResult())
    assert found.data_bad_input, found.data_error
    said = found.data_error or ""
    assert str(model / "config.json") in said and says in said and "Error" not in said


def test_weights_with_more_layers_than_the_config_are_told(
    model: Path, tokenizer: Path, rows: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Published models bring layers that predict further tokens: it is no fault."""
    change(model / "config.json", num_hidden_layers=1)
    assignment = make_assignment(rows, tokenizer, model={"config": None, "path": str(model)})
    found = scanned(TraceRequest(data_key="d", spec=assignment.spec), TraceResult())
    assert found.lengths is not None, found.data_error
    said = found.lengths["warnings"][0]
    assert "The model has 1 layer," in said and "its weights have 2" in said and "left out" in said
    ended = run_attempt(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    assert said in caplog.text


def test_other_tensors_without_a_place_are_told(model: Path, tokenizer: Path, rows: Path) -> None:
    shard = sorted(model.glob("*.safetensors"))[0]
    tensors = load_file(shard)
    more = {f"vision.{n}.weight": tensors[next(iter(tensors))].clone() for n in range(5)}
    save_file({**tensors, **more}, shard, metadata={"format": "pt"})
    (said,) = check_on_host(spec_of(model, tokenizer, rows), [])
    assert "left out: vision.0.weight, vision.1.weight, vision.2.weight and 2 more" in said


def test_odd_generation_settings_are_saved_as_they_were(
    model: Path, tokenizer: Path, rows: Path, tmp_path: Path
) -> None:
    """save_pretrained refuses them once TRL has set a padding token in them."""
    change(model / "generation_config.json", do_sample=False, temperature=0.6, top_p=0.9)
    assignment = make_assignment(
        rows,
        tokenizer,
        model={"config": None, "path": str(model)},
        training={"steps": 2, "checkpoint_steps": 1},
    )
    ended = run_attempt(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    assert ended.last_checkpoint is not None and ended.result is not None
    kept = json.loads((Path(ended.result) / "generation_config.json").read_text())
    assert (kept["do_sample"], kept["temperature"], kept["top_p"]) == (False, 0.6, 0.9)
