"""Code that a model's or a tokenizer's folder brings runs only where an operator named that very source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.jobfile.sections.model import ModelSpec
from tests.workers.builders import make_tokenizer
from workers.input_errors import Refused
from workers.model.build import build_tokenizer, trusts


@pytest.fixture
def with_code(tmp_path: Path) -> Path:
    """A tokenizer whose code leaves a file `ran` beside its folder when it is imported."""
    folder = make_tokenizer(tmp_path / "own")
    (folder / "own_code.py").write_text(
        "from pathlib import Path\n"
        "from transformers import PreTrainedTokenizerFast\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class OwnTokenizer(PreTrainedTokenizerFast):\n"
        "    pass\n"
    )
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config |= {
        "tokenizer_class": "OwnTokenizer",
        "auto_map": {"AutoTokenizer": [None, "own_code.OwnTokenizer"]},
    }
    path.write_text(json.dumps(config))
    return folder


@pytest.fixture(autouse=True)
def modules_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies such code to its cache and imports it from there."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def spec(**values: Any) -> ModelSpec:
    return ModelSpec(**{"path": "org/trusted", "trust_remote_code": True, **values})


def test_a_trusted_model_vouches_for_no_tokenizer_from_elsewhere(tmp_path: Path, with_code: Path) -> None:
    model = spec(tokenizer=str(with_code))
    assert trusts(model, ["org/trusted"])
    with pytest.raises(Refused, match=r"model\.tokenizer: .*own brings code of its own"):
        build_tokenizer(model, ["org/trusted"])
    assert not (tmp_path / "ran").exists()


def test_a_trusted_tokenizers_code_runs(tmp_path: Path, with_code: Path) -> None:
    made = build_tokenizer(spec(tokenizer=str(with_code)), ["org/trusted", str(with_code)])
    assert (tmp_path / "ran").exists() and made.eos_token == "<eos>"


def test_the_models_own_tokenizer_is_trusted_with_it(tmp_path: Path, with_code: Path) -> None:
    build_tokenizer(spec(path=str(with_code)), [str(with_code)])
    assert (tmp_path / "ran").exists()


def test_without_trust_remote_code_no_code_runs(tmp_path: Path, with_code: Path) -> None:
    model = spec(tokenizer=str(with_code), trust_remote_code=False)
    with pytest.raises(Refused, match=r"set model\.trust_remote_code"):
        build_tokenizer(model, [str(with_code)])
    assert not (tmp_path / "ran").exists()


def test_a_model_that_nobody_named_is_refused() -> None:
    with pytest.raises(Refused, match="no operator allowed the code of org/trusted"):
        trusts(spec(), ["org/other"])
