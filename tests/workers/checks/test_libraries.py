"""What a model's files ask for: whose fault it is where there is none, and what of it can't be trained."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

from jobs.errors import Unavailable
from jobs.jobfile.spec import JobSpec
from jobs.messages.reports import TraceRequest, TraceResult
from jobs.state import Outcome
from tests.workers.builders import TINY, claimed, make_assignment
from workers.checks import libraries
from workers.checks.inputs import check_inputs
from workers.checks.libraries import needs_of, quantised_faults, tokenizer_needs
from workers.model.build import build_config, build_model
from workers.profiler.__main__ import scanned
from workers.profiler.trace import answer
from workers.trainer.train import run_attempt

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}


@pytest.fixture
def model(tmp_path: Path, tokenizer: Path) -> Path:
    folder = tmp_path / "model"
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**TINY)).save_pretrained(folder)
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    return folder


def quantised(folder: Path, said: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": said}))


def spec_of(model: Path, rows: Path, method: str = "lora", tokenizer: Path | None = None) -> JobSpec:
    named = {"config": None, "path": str(model), "tokenizer": tokenizer and str(tokenizer)}
    return make_assignment(rows, model, model=named, method=method).spec


def found(spec: JobSpec) -> TraceResult:
    return scanned(TraceRequest(data_key="d", spec=spec), TraceResult())


@pytest.mark.parametrize(
    ("said", "method", "says"),
    [
        (GPTQ, "full", "are quantised (gptq)"),
        (GPTQ, "qlora", "are quantised already (gptq)"),
        ({"load_in_8bit": True, "quant_method": "bitsandbytes"}, "qlora", "already (in 8 bits)"),
        ({"load_in_4bit": True}, "full", "are quantised (bitsandbytes)"),
        ({"quant_method": "quark"}, "lora", "quantised (quark), which can't be trained"),
        ({"quant_method": "exl2"}, "lora", "quantised (exl2), which transformers can't read"),
        (
            {"quant_method": "bitnet"},
            "lora",
            "with linear_class: autobitlinear and quantization_mode: online",
        ),
        ({"quant_method": "fp_quant", "store_master_weights": False}, "lora", "store_master_weights: true"),
        ({"quant_method": "fp8"}, "full", "are quantised (fp8)"),
        ({"quant_method": "fp8"}, "lora", ""),
        ({"quant_method": "fouroversix", "keep_master_weights": True}, "lora", ""),
        (3, "lora", "a quantization_config that is a number"),
        ({}, "lora", "without a quant_method"),
        (GPTQ, "lora", ""),
        ({"load_in_4bit": True}, "qlora", ""),
        ({"quant_method": "mxfp4"}, "full", ""),
        (None, "full", ""),
    ],
)
def test_quantised_weights_that_the_method_can_not_train_are_refused_at_submit(
    said: Any, method: str, says: str, model: Path, rows: Path
) -> None:
    quantised(model, said)
    spec = spec_of(model, rows, method)
    faults = check_inputs(spec, ["llama"])
    assert faults == quantised_faults(spec)
    if not says:
        assert faults == []
        return
    (fault,) = faults
    assert says in str(fault) and fault.fix
    assert found(spec).data_bad_input and says in (found(spec).data_error or "")


@pytest.mark.skipif(find_spec("optimum") is not None, reason="this machine has optimum")
def test_a_library_for_quantised_weights_that_a_host_lacks_is_the_hosts(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    quantised(model, GPTQ)
    spec = spec_of(model, rows)
    assert [name for name, _ in needs_of(spec)] == ["optimum", "gptqmodel"]
    scan, profile = found(spec), answer(TraceRequest(key="k", spec=spec))
    for error in (scan.data_error, profile.error):
        assert error is not None and "this host has no optimum" in error and "pip install optimum" in error
    assert not scan.data_bad_input and not profile.bad_input
    assignment = make_assignment(rows, model).model_copy(update={"spec": spec})
    ended = run_attempt(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.NOT_STARTED and "has no optimum" in ended.message


@pytest.mark.skipif(find_spec("optimum") is not None, reason="this machine has optimum")
def test_a_library_that_only_transformers_knows_of_is_the_hosts_too(
    model: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantised(model, GPTQ)
    spec = spec_of(model, rows)
    monkeypatch.setattr("workers.checks.libraries._PACKAGES", {})
    scan = found(spec)
    assert not scan.data_bad_input and "this host lacks a library" in (scan.data_error or "")
    with pytest.raises(Unavailable, match="this host lacks a library"):
        build_model(spec, build_config(spec.model, False), False)


SENTENCEPIECE = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"


@pytest.mark.parametrize(
    ("name", "content", "library"),
    [
        ("tokenizer.model", SENTENCEPIECE, "sentencepiece"),
        ("spiece.model", SENTENCEPIECE, "sentencepiece"),
        ("source.spm", SENTENCEPIECE, "sentencepiece"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n", "tiktoken"),
        ("qwen.tiktoken", b"IQ== 0\n", "tiktoken"),
    ],
)
def test_a_library_for_a_tokenizer_that_a_host_lacks_is_the_hosts(
    name: str, content: bytes, library: str, model: Path, rows: Path
) -> None:
    (model / "tokenizer.json").unlink()
    (model / name).write_bytes(content)
    assert [package for package, _ in tokenizer_needs(model)] == [library]
    if find_spec(library) is None:
        told = found(spec_of(model, rows))
        assert not told.data_bad_input and f"this host has no {library}" in (told.data_error or "")
    (model / "tokenizer.json").write_text("{}")
    assert tokenizer_needs(model) == ()


@pytest.mark.parametrize(
    "damage",
    [
        {"tokenizer.json": None},
        {"tokenizer.json": None, "tokenizer_config.json": '{"tokenizer_class": "LlamaTokenizer"}'},
        {"tokenizer.json": "{}"},
        {"tokenizer.json": '{"model": {"type": "BPE"}, "added_tokens": [], "pre_tokenizer": {"type": "No"}}'},
        {
            "tokenizer.json": None,
            "vocab.json": "{}",
            "tokenizer_config.json": '{"tokenizer_class": "GPT2Tokenizer"}',
        },
        {"tokenizer_config.json": '{"added_tokens_decoder": 3}'},
        {"tokenizer_config.json": '{"model_max_length": {}, "eos_token": 7, "extra_special_tokens": 3}'},
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_a_tokenizer_that_can_not_be_built_is_the_folders(
    own: bool, damage: dict[str, str | None], model: Path, tokenizer: Path, rows: Path, tmp_path: Path
) -> None:
    folder = model if own else shutil.copytree(tokenizer, tmp_path / "other")
    for name, text in damage.items():
        (folder / name).unlink(missing_ok=True)
        if text is not None:
            (folder / name).write_text(text)
    told = found(spec_of(model, rows, tokenizer=None if own else folder))
    said = told.data_error or ""
    assert told.data_bad_input and not told.data_missing, said
    assert str(folder) in said and ("model.path" if own else "model.tokenizer") in said
    assert "Error" not in said and "; " in said


def test_every_quantiser_of_transformers_is_known_and_those_that_never_train_say_so() -> None:
    """A new one must not wait for a library that no host can have."""
    theirs = {name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZER_MAPPING}
    assert theirs == libraries._KNOWN
