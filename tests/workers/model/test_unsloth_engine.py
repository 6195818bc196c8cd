"""The calls of workers/model/unsloth_engine.py against Unsloth's own signatures, and where the engine is
refused.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.memory.project import Rung
from workers.model.unsloth_engine import adapter_arguments, checkpointing, load_arguments
from workers.trainer.config import trl_config

KEPT = Path(__file__).with_name("unsloth_signatures.txt")


def sources() -> list[str]:
    """The installed Unsloth's where there is one, else the kept signatures."""
    found = importlib.util.find_spec("unsloth")
    if found is None or found.origin is None:
        return [KEPT.read_text()]
    models = Path(found.origin).parent / "models"
    return [(models / name).read_text() for name in ("loader.py", "llama.py")]


def accepted(function: str) -> list[set[str]]:
    """Named parameters of each definition of a function; what only **kwargs takes is not among them."""
    trees = [ast.parse(source) for source in sources()]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    made = [node.args for node in nodes if node.name == function]
    return [{arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)} for args in made]


def spec_of(**sections: Any) -> JobSpec:
    model = {"path": "org/model", "engine": "unsloth"}
    return parse_spec({"model": model, "data": "rows.jsonl", **sections})


@pytest.mark.parametrize("method", ["full", "lora", {"kind": "qlora", "targets": ["q_proj"], "rslora": True}])
@pytest.mark.parametrize("every_n", [0, 1])
def test_unsloth_accepts_what_it_is_given(method: Any, every_n: int) -> None:
    spec, rung = spec_of(method=method), Rung(every_n, 1)
    loading, adapting = load_arguments(spec, rung, False), adapter_arguments(spec, rung)
    assert any(set(loading) <= names for names in accepted("from_pretrained"))
    assert any({"model", *adapting} <= names for names in accepted("get_peft_model"))
    assert loading["use_gradient_checkpointing"] == adapting["use_gradient_checkpointing"]
    assert (loading["load_in_4bit"], loading["full_finetuning"]) == (
        spec.method.kind == "qlora",
        spec.method.kind == "full",
    )


def test_the_check_sees_an_argument_that_is_gone() -> None:
    assert not any({"max_seq_len"} <= names for names in accepted("from_pretrained"))


def test_the_full_rung_is_unsloths_own(tmp_path: Path) -> None:
    assert (checkpointing(Rung(0, 1)), checkpointing(Rung(1, 1))) == (False, "unsloth")
    config = trl_config(spec_of(), Rung(1, 2), tmp_path, use_cpu=True)
    assert config.activation_checkpointing is False, (
        "transformers would put its own in the place of Unsloth's"
    )
