"""Weights by their headers: what from_pretrained can't load is refused, what it loads is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from jobs.errors import Fault
from tests.workers.builders import TINY
from workers.checks.inputs import check_data, check_model, check_tokenizer
from workers.checks.weights import weight_faults

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134217728\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model as one file, as shards, and as a pickle."""
    root = tmp_path_factory.mktemp("models")
    config = AutoConfig.for_model(**{**TINY, "num_hidden_layers": 2})
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(root / "one")
    model.save_pretrained(root / "shards", max_shard_size="50KB")
    (root / "pickle").mkdir()
    config.save_pretrained(root / "pickle")
    torch.save(model.state_dict(), root / "pickle" / "pytorch_model.bin")
    assert len(list((root / "shards").glob("*.safetensors"))) > 1
    return {path.name: path for path in root.iterdir()}


def faults(folder: Path) -> list[Fault]:
    return weight_faults(folder, json.loads((folder / "config.json").read_text()))


def loads(folder: Path) -> bool:
    """As it was saved: weights that are not found are random ones, without a word."""
    try:
        _, found = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    except Exception:  # whatever the libraries raise for it
        return False
    return not found["missing_keys"]


def test_what_is_whole_is_not_refused(saved: dict[str, Path]) -> None:
    for folder in saved.values():
        assert faults(folder) == [] and loads(folder)


def shard(folder: Path) -> Path:
    return sorted(folder.glob("model-*.safetensors"))[1]


def index(folder: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    path = folder / "model.safetensors.index.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "pointer": ("one", lambda at: (at / "model.safetensors").write_text(POINTER), "is a Git LFS pointer"),
    "pointer of a shard": ("shards", lambda at: shard(at).write_text(POINTER), "is a Git LFS pointer"),
    "pointer of the index": (
        "shards",
        lambda at: (at / "model.safetensors.index.json").write_text(POINTER),
        "is a Git LFS pointer",
    ),
    "pointer of a pickle": (
        "pickle",
        lambda at: (at / "pytorch_model.bin").write_text(POINTER),
        "is a Git LFS pointer",
    ),
    "empty": ("one", lambda at: (at / "model.safetensors").write_bytes(b""), "is empty"),
    "no header": (
        "one",
        lambda at: (at / "model.safetensors").write_bytes(b"<html>" * 99),
        "its header is broken",
    ),
    "more than its header says": (
        "one",
        lambda at: (at / "model.safetensors").open("ab").write(b"more"),
        "does not match its header",
    ),
    "no tensors": (
        "one",
        lambda at: (at / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}"),
        "holds no tensors",
    ),
    "no shard": (
        "shards",
        lambda at: shard(at).unlink(),
        "is missing, which model.safetensors.index.json names",
    ),
    "no index": (
        "shards",
        lambda at: (at / "model.safetensors.index.json").unlink(),
        "nothing would be loaded",
    ),
    "broken index": (
        "shards",
        lambda at: (at / "model.safetensors.index.json").write_text('{"weight_map": {'),
        "is not readable as JSON",
    ),
    "index of nothing": (
        "shards",
        lambda at: index(at, lambda v: v["weight_map"].clear()),
        "names no tensors",
    ),
    "index without a map": (
        "shards",
        lambda at: index(at, lambda v: v.pop("weight_map")),
        "has no weight_map, so it is no index of weights",
    ),
    "index without metadata": (
        "shards",
        lambda at: index(at, lambda v: v.pop("metadata")),
        "has no metadata, so it is no index of weights",
    ),
    "index that is a list": (
        "shards",
        lambda at: (at / "model.safetensors.index.json").write_text("[]"),
        "is a list, not an object with a weight_map",
    ),
    "index whose map is a list": (
        "shards",
        lambda at: index(at, lambda v: v.update(weight_map=["model.safetensors"])),
        "has a weight_map that is a list, not an object",
    ),
    "index with a number for a file": (
        "shards",
        lambda at: index(at, lambda v: v["weight_map"].update({"lm_head.weight": 3})),
        "names no file for lm_head.weight: a number",
    ),
    "cut pickle": (
        "pickle",
        lambda at: (at / "pytorch_model.bin").write_bytes((at / "pytorch_model.bin").read_bytes()[:5000]),
        "is cut off",
    ),
    "another vocabulary": ("one", lambda at: config(at, vocab_size=321), "says vocab_size 321, but"),
    "another width": ("one", lambda at: config(at, hidden_size=64, head_dim=8), "says hidden_size 64, but"),
    "only GGUF": (
        "one",
        lambda at: (at / "model.safetensors").rename(at / "model.gguf"),
        "has no weights (*.safetensors), only GGUF ones",
    ),
    "only TensorFlow": (
        "one",
        lambda at: (at / "model.safetensors").rename(at / "tf_model.h5"),
        "only TensorFlow ones",
    ),
    "nothing": ("one", lambda at: (at / "model.safetensors").unlink(), "has no weights"),
    "another name": (
        "one",
        lambda at: (at / "model.safetensors").rename(at / "weights.safetensors"),
        "has weights.safetensors, but neither",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_with_its_file_and_a_remedy(
    name: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    kind, damage, says = DAMAGE[name]
    folder = shutil.copytree(saved[kind], tmp_path / "model")
    damage(folder)
    assert not loads(folder)
    (fault,) = faults(folder)
    assert says in fault.problem and fault.fix
    assert fault.path == "model.path" and fault.given.startswith(str(folder))
    assert check_model(str(folder), ["llama"])[0] == fault


@pytest.mark.parametrize("up", ["../base/", "a/../../base/", "here"])
def test_weights_outside_of_the_folder_are_refused(up: str, saved: dict[str, Path], tmp_path: Path) -> None:
    """from_pretrained would load them."""
    folder = shutil.copytree(saved["shards"], tmp_path / "model")
    (folder / "a").mkdir()
    base = shutil.copytree(folder, tmp_path / "base")
    (fault,) = faults_of_moved(folder, f"{base}/" if up == "here" else up)
    assert "is outside of the model's folder" in fault.problem and "base" in fault.problem
    assert fault.given == str(folder / "model.safetensors.index.json") and fault.fix
    config(folder, transformers_weights=f"{up}model.safetensors")
    (fault,) = faults(folder)
    assert fault.given.startswith(str(folder))


def faults_of_moved(folder: Path, to: str) -> list[Fault]:
    index(folder, lambda v: v.update(weight_map={name: to + file for name, file in v["weight_map"].items()}))
    return faults(folder)


def test_shards_in_a_folder_of_the_folder_are_not(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["shards"], tmp_path / "model")
    (folder / "parts").mkdir()
    for part in folder.glob("model-*.safetensors"):
        part.rename(folder / "parts" / part.name)
    assert faults_of_moved(folder, "parts/") == [] and loads(folder)


def test_layers_that_the_weights_lack_would_be_random(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["one"], tmp_path / "model")
    config(folder, num_hidden_layers=4)
    assert "says 4 layers, but the weights have 2" in faults(folder)[0].problem


def test_an_adapter_is_no_model_even_with_weights_beside_it(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["one"], tmp_path / "model")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    (fault,) = faults(folder)
    assert "holds an adapter" in fault.problem and "give its base model (org/base)" in fault.fix


def test_what_is_not_loaded_may_be_a_pointer(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved["one"], tmp_path / "model")
    (folder / "pytorch_model.bin").write_text(POINTER)
    (folder / "consolidated.safetensors").write_text(POINTER)
    assert faults(folder) == []


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(share=st.floats(0, 0.999))
def test_a_file_that_is_cut_anywhere_is_refused(share: float, saved: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved["one"], folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: int(len(whole) * share)])
    (fault,) = faults(folder)
    assert fault.given == str(folder / "model.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
    ],
)
def test_a_pointer_beside_the_weights_is_named(
    name: str, saved: dict[str, Path], tokenizer: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved["one"], tmp_path / "model")
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    assert check_model(str(folder), ["llama"]) == []
    (folder / name).write_text(POINTER)
    found = check_model(str(folder), ["llama"]) + check_tokenizer(str(folder))
    assert [fault.given for fault in found] == [str(folder / name)]
    assert "is a Git LFS pointer" in found[0].problem and "git lfs pull" in found[0].fix


@pytest.mark.parametrize("text", ["[]", '"text"', "3", "null", "[" * 100_000])
@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("added_tokens.json", "chat_template.json", "tokenizer.json"),
    ],
)
def test_json_of_another_type_is_named(
    name: str, text: str, saved: dict[str, Path], tokenizer: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved["one"], tmp_path / "model")
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    (folder / name).write_text(text)
    found = check_model(str(folder), ["llama"]) + check_tokenizer(str(folder))
    assert [fault.given for fault in found] == [str(folder / name)]
    said = found[0].problem
    assert "object" in said or "not readable as JSON" in said or "cut off" in said
    assert found[0].fix


@pytest.mark.parametrize("said", ["{}", '{"tokenizer_class": "LlamaTokenizer"}'])
def test_a_tokenizer_without_a_vocabulary_is_named(said: str, tmp_path: Path) -> None:
    """Some are then made with no vocabulary at all, and nothing is said."""
    (tmp_path / "tokenizer_config.json").write_text(said)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (fault,) = check_tokenizer(str(tmp_path))
    assert "tokenizer.json is missing" in fault.problem and fault.given == str(tmp_path) and fault.fix


@pytest.mark.parametrize(
    ("said", "file"),
    [
        ({"tokenizer_class": "ByT5Tokenizer"}, ""),
        ({"auto_map": {"AutoTokenizer": ["own.Own", None]}}, "own.py"),
        ({"tokenizer_class": "GPT2Tokenizer"}, "vocab.bpe"),
        ({"tokenizer_class": "PhobertTokenizer"}, "bpe.codes"),
        ({}, "tekken.json"),
        ({}, "tokenizer.mm.json"),
    ],
)
def test_a_vocabulary_of_another_name_is_left_to_the_scan(
    said: dict[str, object], file: str, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    if file:
        (tmp_path / file).write_text("x")
    assert check_tokenizer(str(tmp_path)) == []


def test_a_tokenizer_that_is_cut_off_is_named(tokenizer: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tokenizer, tmp_path / "tokenizer")
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text[: len(text) // 2].rstrip("}] \n"))
    assert "is cut off" in str(check_tokenizer(str(folder))[0])


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_data_that_is_a_pointer_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(POINTER)
    (fault,) = check_data(str(tmp_path / name))
    assert "is a Git LFS pointer" in fault.problem and fault.given == str(tmp_path / name)


def test_a_saved_data_set_that_is_a_pointer_is_named(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "saved")
    (part,) = (tmp_path / "saved").glob("*.arrow")
    part.write_text(POINTER)
    (fault,) = check_data(str(tmp_path / "saved"))
    assert "is a Git LFS pointer" in fault.problem and fault.given == str(part)
