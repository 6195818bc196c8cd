"""Bad input: each is named, with what would be right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save_file

from jobs.errors import SpecError
from jobs.jobfile.spec import JobSpec, parse_spec
from workers.checks.inputs import check_inputs, check_model, check_tokenizer, resolve_output

KNOWN = ["llama", "mistral", "qwen2"]


def spec(**sections: Any) -> JobSpec:
    return parse_spec({"model": "org/model", "data": "org/data", **sections})


def model(folder: Path, config: Any, weights: str = "model.safetensors") -> str:
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights:
        save_file({"model.norm.weight": numpy.zeros(2)}, folder / weights)
    (folder / "tokenizer_config.json").write_text("{}")
    return str(folder)


def test_models(tmp_path: Path) -> None:
    assert check_model(model(tmp_path / "good", {"model_type": "llama"}), KNOWN) == []
    assert check_model("org/model", KNOWN) == []
    for path, says in (
        (str(tmp_path / "gone"), "does not exist"),
        (str(tmp_path / "good" / "config.json"), "is a file"),
        (str(tmp_path), "has no config.json"),
        (model(tmp_path / "text", "{"), "is not readable as JSON"),
        (model(tmp_path / "typeless", {"a": 1}), "has no model_type"),
        (
            model(tmp_path / "flat", {"model_type": "llama", "hidden_size": 0}),
            "has hidden_size 0, which is no size",
        ),
        (model(tmp_path / "misspelt", {"model_type": "lama"}), "did you mean llama?"),
        (
            model(tmp_path / "new", {"model_type": "zzz"}),
            "is no model type that the installed transformers knows",
        ),
        (model(tmp_path / "bare", {"model_type": "llama"}, weights=""), "has no weights"),
    ):
        faults = check_model(path, KNOWN)
        assert len(faults) == 1 and says in str(faults[0]), faults
        assert faults[0].path == "model.path" and faults[0].fix
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert "give its base model" in str(check_model(str(tmp_path / "adapter"), KNOWN)[0])


def test_while_no_host_has_said_what_it_knows_no_type_is_wrong(tmp_path: Path) -> None:
    assert check_model(model(tmp_path / "new", {"model_type": "zzz"}), ()) == []


def test_every_fault_of_a_spec_at_once(tmp_path: Path) -> None:
    config = {"config": {"model_type": "mistrial"}, "tokenizer": str(tmp_path)}
    faults = check_inputs(spec(model=config, data=str(tmp_path / "gone.jsonl")), KNOWN)
    assert [fault.path for fault in faults] == ["data.path", "model.config.model_type", "model.tokenizer"]
    assert check_inputs(spec(), KNOWN) == []


def test_tokenizers(tmp_path: Path, tokenizer: Path) -> None:
    assert check_tokenizer(str(tokenizer)) == [] and check_tokenizer("org/model") == []
    assert "holds no tokenizer" in str(check_tokenizer(str(tmp_path))[0])
    assert "does not exist" in str(check_tokenizer(str(tmp_path / "gone"))[0])


@pytest.mark.parametrize(
    ("sections", "folder"),
    [
        ({}, "job-7"),
        ({"name": "demo"}, "job-7-demo"),
        ({"output": "a/b"}, "a/b"),
        ({"output": "here/"}, "here"),
    ],
)
def test_where_results_go(sections: Any, folder: str, tmp_path: Path) -> None:
    assert resolve_output(tmp_path, spec(**sections), 7) == tmp_path / folder


def test_results_stay_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "out"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (tmp_path / "alias").symlink_to(root)
    assert resolve_output(tmp_path / "alias", spec(output="x"), 1) == root / "x"
    for output in (
        ".",
        "link",
        "link/x",
        "/etc/x",
        "../x",
        "a/../../x",
        str(tmp_path / "outside"),
        str(root),
    ):
        with pytest.raises(SpecError) as raised:
            # Past the spec's own check: this one has the file system's word.
            resolve_output(root, spec().model_copy(update={"output": output}), 1)
        assert raised.value.faults[0].path == "output" and str(root) in str(raised.value)


def test_the_server_needs_no_torch() -> None:
    code = (
        "import sys, workers.checks.inputs, workers.attempt_folder;"
        "print([m for m in ('torch', 'pyarrow', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
