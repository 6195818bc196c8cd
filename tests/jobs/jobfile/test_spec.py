"""JobSpec: what is accepted, defaults, the round trip through storage, and the JSON schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import SpecError
from jobs.jobfile.loader import parse_yaml
from jobs.jobfile.spec import JobSpec, parse_spec, schema

EXAMPLES = sorted((Path(__file__).parents[3] / "jobs" / "examples").rglob("*.yaml"))
LEAST: dict[str, Any] = {"model": "org/name", "data": "pairs.jsonl"}


def job(**sections: Any) -> JobSpec:
    return parse_spec({**LEAST, **sections})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid_for_parser_and_schema(path: Path) -> None:
    value = parse_yaml(path.read_text(encoding="utf-8"))
    assert parse_spec(value).name
    jsonschema.validate(value, schema())


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} >= {"lora", "full", "qlora", "from-config", "job"}


def test_model_and_data_are_enough() -> None:
    spec = job()
    assert (spec.model.path, spec.data.path, spec.method.kind) == ("org/name", "pairs.jsonl", "lora")
    assert (spec.priority, spec.batch_per_gpu, spec.memory.checkpointing) == (50, 8, "auto")


def test_a_section_whose_keys_are_all_commented_out_is_empty() -> None:
    spec = parse_spec(parse_yaml("model: a\ndata: b\ntraining:\n  # steps: 3\nmemory:\n"))
    assert spec.training == job().training


def test_off_is_a_word_and_not_a_boolean() -> None:
    text = "model: a\ndata: b\nmemory: {checkpointing: off}\nname: 2024-01-01"
    spec = parse_spec(parse_yaml(text))
    assert spec.memory.checkpointing == "off"
    assert spec.name == "2024-01-01"


@pytest.mark.parametrize("text", ["2e-4", "2.0e-4", "0.0002", "'2e-4'"])
def test_a_learning_rate_reads_as_everybody_writes_it(text: str) -> None:
    value = parse_yaml(f"model: a\ndata: b\ntraining: {{learning_rate: {text}}}")
    assert parse_spec(value).training.learning_rate == 2e-4


@pytest.mark.parametrize(
    ("given", "meant"), [("low", 25), ("normal", 50), ("high", 75), (0, 0), (100, 100)], ids=str
)
def test_priorities(given: Any, meant: int) -> None:
    assert job(priority=given).priority == meant


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), ("1.5h", 5400), ("1h30m", 5400), ("20d", 1_728_000)]
)
def test_durations(given: str, seconds: float) -> None:
    assert job(time_limit=given).time_limit == seconds


@pytest.mark.parametrize(
    ("given", "count"), [("24GiB", 24 * 2**30), ("24 gb", 24 * 10**9), ("1.5MiB", 1572864)]
)
def test_sizes(given: str, count: int) -> None:
    assert job(resources={"min_memory": given}).resources.min_memory == count


@pytest.mark.parametrize("checkpointing", ["auto", "off", "every_layer", {"every_n": 3}], ids=str)
def test_checkpointing(checkpointing: Any) -> None:
    assert job(memory={"checkpointing": checkpointing}).memory.checkpointing == checkpointing


def test_a_spec_is_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        job().priority = 3  # type: ignore[misc]


@given(
    steps=st.integers(1, 10**6),
    gpus=st.integers(1, 64),
    share=st.integers(1, 64),
    rate=st.floats(1e-9, 10),
    time_limit=st.integers(1, 10**8),
    memory=st.integers(1, 2**48),
    every_n=st.integers(1, 99),
)
def test_what_is_stored_reads_back_as_the_same_spec(
    steps: int, gpus: int, share: int, rate: float, time_limit: int, memory: int, every_n: int
) -> None:
    spec = job(
        training={"steps": steps, "learning_rate": rate, "global_batch": gpus * share},
        resources={"gpus": gpus, "min_memory": f"{memory}B"},
        memory={"checkpointing": {"every_n": every_n}},
        time_limit=f"{time_limit}s",
    )
    for unset in (True, False):
        stored = spec.model_dump(mode="json", exclude_unset=unset)
        assert parse_spec(stored) == spec


def test_a_full_dump_of_a_full_job_reads_back() -> None:
    """It holds LoRA's defaults, which are not held against it."""
    spec = job(method="full")
    assert parse_spec(spec.model_dump(mode="json")) == spec


# What the schema and the parser must say alike: section -> values that both take, values that both refuse.
AGREED: dict[str, tuple[list[Any], list[Any]]] = {
    "method": (
        ["full", {"kind": "qlora", "rank": 4}, {"targets": ["q_proj"]}],
        ["qlra", 3, {"targets": []}, {"rnk": 4}],
    ),
    "memory": (
        [{"checkpointing": {"every_n": 2}}, {"micro_batch": 4}, {"offload": True}],
        [{"checkpointing": {"every_n": 0}}, {"checkpointing": {}}, {"micro_batch": 0}, {"offload": "maybe"}],
    ),
    "training": (
        [{"steps": 3}, {"epochs": 0.5}],
        [{"steps": 0}, {"steps": "3"}, {"epochs": 0}, {"learning_rate": -1}],
    ),
    "priority": (["high", 7], ["urgent", 101, True]),
    "model": (["a", {"path": "a"}], ["", 3, {"path": ""}, {"pth": "a"}]),
    "output": (["a/b"], [""]),
    "secrets": ([["WANDB_API_KEY"], []], ["WANDB_API_KEY", ["a b"], ["X", "X"], [3]]),
    "report_to": (
        ["wandb", [], ["tensorboard", "mlflow"]],
        ["wandbb", ["wandb", "wandb"], [3], "", {"a": 1}],
    ),
    "name": (["a-b"], ["a b", "../x", 3]),
}


@pytest.mark.parametrize("section", AGREED)
def test_schema_and_parser_agree(section: str) -> None:
    taken, refused = AGREED[section]
    validator = jsonschema.Draft202012Validator(schema())
    for value in taken:
        assert validator.is_valid({**LEAST, section: value}), value
        job(**{section: value})
    for value in refused:
        assert not validator.is_valid({**LEAST, section: value}), value
        with pytest.raises(SpecError):
            job(**{section: value})


def test_the_schema_is_one_and_describes_every_key() -> None:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    sections = [made, *(s["anyOf"][0] if "anyOf" in s else s for s in made["$defs"].values())]
    for section in sections:
        for name, field in section["properties"].items():
            assert field.get("description"), name
            assert not {"ge", "gt", "le", "lt"} & set(field), f"{name}: a bound that no editor knows"


def test_types_that_follow_from_others():
    def made(**sections: object) -> JobSpec:
        return parse_spec({"model": "org/name", "data": "d.jsonl", **sections})

    assert (made().adapter_dtype, made().autocast_dtype) == ("float32", "bfloat16")
    assert made(method="qlora").adapter_dtype == "bfloat16"
    assert made(method={"kind": "qlora", "adapter_dtype": "float32"}).adapter_dtype == "float32"
    masters = made(model={"path": "org/name", "dtype": "float32"}, training={"autocast": "bfloat16"})
    assert masters.autocast_dtype == "bfloat16"
    assert made(model={"path": "org/name", "dtype": "float32"}).autocast_dtype is None
    assert made(training={"autocast": "off"}).autocast_dtype is None


def test_optimizers_go_by_transformers_names_too():
    for name, kept in (("adamw_bnb_8bit", "adamw_8bit"), ("adamw_torch_fused", "adamw"), ("sgd", "sgd")):
        spec = parse_spec({"model": "org/name", "data": "d", "training": {"optimizer": name}})
        assert spec.training.optimizer == kept
    assert spec.libraries == ()
