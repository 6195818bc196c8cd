"""What is wrong with a job file: every fault at once, with where, what stood there, and what would do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.errors import Fault, SpecError
from jobs.jobfile import cross_field_rules
from jobs.jobfile.sections.memory import MemorySpec
from jobs.jobfile.sections.method import MethodSpec
from jobs.jobfile.sections.model import ModelSpec
from jobs.jobfile.sections.resources import ResourceSpec
from jobs.jobfile.sections.training import TrainingSpec
from jobs.jobfile.spec import JobSpec, parse_spec


def faults(**sections: Any) -> list[Fault]:
    with pytest.raises(SpecError) as caught:
        parse_spec({"model": "org/name", "data": "pairs.jsonl", **sections}, "job.yaml")
    return caught.value.faults


def one(**sections: Any) -> str:
    found = faults(**sections)
    assert len(found) == 1, found
    return str(found[0])


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"hidden_size": "abc"}, "hidden_size: is no size (given: abc); write a whole number from 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: is no size (given: 0); write a whole number from 1"),
        ({"vocab_size": -5}, "vocab_size: is no size (given: -5); write a whole number from 1"),
        (
            {"num_attention_heads": 8, "num_key_value_heads": 3},
            "num_key_value_heads: can't be shared by 8 attention heads (given: 3); "
            "use a divisor of num_attention_heads, such as 2",
        ),
    ],
    ids=str,
)
def test_impossible_sizes_of_a_model_are_told_at_submit(sizes: dict[str, Any], said: str) -> None:
    config = {"model_type": "llama", "hidden_size": 256, **sizes}
    assert one(model={"config": config, "tokenizer": "org/name"}) == f"model.config.{said}"


def test_sizes_of_unlike_layers_and_those_left_to_the_model_type_are_no_fault() -> None:
    config = {"model_type": "openelm", "intermediate_size": [256, 512], "num_key_value_heads": None}
    parse_spec({"model": {"config": config, "tokenizer": "org/name"}, "data": "pairs.jsonl"})


def test_every_fault_is_told_at_once() -> None:
    found = faults(
        nmae="x",
        model={"path": "a", "config": {}},
        data={},
        method={"kind": "full", "rank": 8, "alpha": -1},
        training={"steps": 3, "epochs": 1, "sequence_lenght": 10, "learning_rate": "fast", "global_batch": 7},
        memory={"checkpointing": "off", "offload": True, "confidence": 2},
        resources={"gpus": 2, "min_memory": 24},
        priority="urgent",
        time_limit=4,
        output="../x",
    )
    assert sorted(fault.path for fault in found) == [
        "data.path",
        "memory.confidence",
        "memory.offload",
        "method.alpha",
        "method.rank",
        "model",
        "nmae",
        "output",
        "priority",
        "resources.min_memory",
        "time_limit",
        "training.global_batch",
        "training.learning_rate",
        "training.sequence_lenght",
        "training.steps",
    ]


def test_the_message_names_the_file_and_each_fault_on_a_line() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({"data": "d", "retries": -1}, "job.yaml")
    first, *rest = str(caught.value).splitlines()
    assert first == "job.yaml: 2 faults"
    assert [line.split(":")[0] for line in rest] == ["  model", "  retries"]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"nmae": "x"}, "nmae: unknown key (given: x); did you mean name?"),
        (
            {"training": {"sequence_lenght": 3}},
            "training.sequence_lenght: unknown key (given: 3); did you mean sequence_length?",
        ),
        (
            {"memory": {"gradient_checkpointing": True}},
            "memory.gradient_checkpointing: unknown key (given: true); did you mean checkpointing?",
        ),
        ({"steps": 3}, "steps: unknown key (given: 3); did you mean training.steps?"),
        (
            {"resources": {"zzz": 1}},
            "resources.zzz: unknown key (given: 1); "
            "known here: across_hosts, card, gpus, labels, min_memory, policy, share",
        ),
        (
            {"method": "qlra"},
            "method.kind: is not one of the choices (given: qlra); use 'full', 'lora' or 'qlora'",
        ),
        (
            {"method": {"kind": "full", "rank": 8}},
            "method.rank: only applies to lora and qlora (given: 8); leave it out for full",
        ),
        (
            {"training": {"eval_steps": 5}},
            "training.eval_steps: has no rows to evaluate on (given: 5); "
            "set data.holdout to the share of rows to evaluate on, such as 0.05, or leave eval_steps out",
        ),
        (
            {"method": {"kind": "full", "dora": True}},
            "method.dora: only applies to lora and qlora (given: True); leave it out for full",
        ),
        (
            {"training": {"optimizer": "adafactor"}},
            "training.optimizer: is no optimizer here (given: adafactor); "
            "write adamw, adamw_8bit, paged_adamw, paged_adamw_8bit or sgd",
        ),
        (
            {"model": {"path": "org/name", "dtype": "float16"}, "method": "qlora"},
            "model.dtype: gives bfloat16 adapters, whose gradients float16 training can't scale (given: float16); "
            "set model.dtype: bfloat16, or method.adapter_dtype: float32",
        ),
        (
            {"model": {"path": "org/name", "dtype": "float32", "attention": "flash_attention_2"}},
            "model.attention: has no kernels for float32 (given: flash_attention_2); "
            "set model.dtype or training.autocast to bfloat16, or attention to sdpa",
        ),
        (
            {
                "model": {"path": "org/name", "dtype": "float16"},
                "training": {"autocast": "bfloat16"},
            },
            "training.autocast: does not go with float16 weights (given: bfloat16); "
            "set model.dtype: bfloat16, or leave training.autocast out",
        ),
        (
            {
                "model": {"path": "org/name", "engine": "unsloth"},
                "memory": {"checkpointing": {"every_n": 2}},
            },
            "memory.checkpointing: can't be had with Unsloth, which checkpoints every layer or none "
            "(given: {'every_n': 2}); use auto, off or every_layer, or engine: transformers",
        ),
        (
            {"model": {"path": "org/name", "engine": "unsloth"}, "method": {"kind": "lora", "dora": True}},
            "method.dora: is not in Unsloth's kernels (given: true); leave dora out, or use engine: transformers",
        ),
        (
            {"training": {"epochs": 1, "steps": 2}},
            "training.steps: stands beside epochs (given: 2); give one of the two",
        ),
        (
            {"training": {"global_batch": 7}, "resources": {"gpus": 2}},
            "training.global_batch: is not divisible by resources.gpus 2 (given: 7); use 6 or 8",
        ),
        (
            {"training": {"global_batch": 3}, "resources": {"gpus": 4}},
            "training.global_batch: is not divisible by resources.gpus 4 (given: 3); use 4",
        ),
        (
            {"training": {"global_batch": 2**20}, "memory": {"micro_batch": 3}},
            "memory.micro_batch: does not divide the batch per GPU, 1048576 (given: 3); use 2 or 4",
        ),
        (
            {"memory": {"micro_batch": 9}},
            "memory.micro_batch: does not divide the batch per GPU, 8 (given: 9); use 8",
        ),
        (
            {"memory": {"offload": True, "checkpointing": "off"}},
            "memory.offload: needs checkpointing, which is off (given: true); "
            "set memory.checkpointing to auto, every_layer or {every_n: k}, or leave offload out",
        ),
        (
            {"time_limit": 4},
            "time_limit: has no unit (given: 4); write a duration such as 90s, 30m or 4h",
        ),
        (
            {"resources": {"min_memory": 24}},
            "resources.min_memory: has no unit (given: 24); write a size such as 24GiB or 700MiB",
        ),
        (
            {"output": "../x"},
            "output: leads out of the host's output root (given: ../x); "
            "write a folder inside it, such as team/run-1",
        ),
        (
            {"training": {"steps": 0}},
            "training.steps: must be at least 1 (given: 0); write a whole number of at least 1",
        ),
        (
            {"model": {"config": {"model_type": "llama"}}},
            "model.tokenizer: is required; a model from config has none of its own; give a hub id or folder",
        ),
        (
            {"name": 2024},
            "name: is not text; put it in quotes (given: 2024); "
            "expected: name for people: letters, digits, dot, underscore, dash",
        ),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_the_words_of_a_fault(section: dict[str, Any], said: str) -> None:
    assert one(**section) == said


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"training": {"learning_rate": 1e4}}, "write a number above 0 and at most 10"),
        ({"training": {"learning_rate": "fast"}}, "write a number above 0 and at most 10"),
        ({"training": {"epochs": 0}}, "write a number above 0"),
        ({"training": {"sequence_length": 4}}, "write a whole number from 8 to 2097152"),
        ({"training": {"packing": 3}}, "write true or false"),
        ({"method": {"kind": "lora", "dropout": 1}}, "write a number of at least 0 and below 1"),
        ({"resources": {"labels": 3}}, "expected: labels that the host must carry"),
        ({"method": {"kind": "lora", "rank": None}}, "write a whole number from 1 to 4096"),
        ({"model": 3}, "expected: hub id, local folder, or an architecture config with random weights"),
    ],
    ids=str,
)
def test_a_fault_ends_in_what_would_be_right(section: dict[str, Any], said: str) -> None:
    assert one(**section).endswith(f"; {said}")


@pytest.mark.parametrize(
    "section", [name for name in JobSpec.model_fields if name in cross_field_rules.SECTIONS]
)
def test_no_field_answers_with_a_sentence_about_itself(section: str) -> None:
    """Whatever stands where its own type was wanted: the words fit what was wrong."""
    for key in getattr(JobSpec.model_fields[section].annotation, "model_fields", {}):
        for fault in faults(**{section: {key: {"x": {}}}}):
            assert " is: " not in fault.fix and not fault.fix.endswith("."), fault
            assert fault.fix, fault


@pytest.mark.parametrize("value", [True, "8", 8.0, 8.5, None, [], "many"], ids=str)
def test_a_whole_number_is_not_read_from_anything_else(value: Any) -> None:
    assert "training.global_batch: is not a whole number" in one(training={"global_batch": value})


@pytest.mark.parametrize("value", [True, "fast", [], float("nan"), float("inf"), "nan", -1, 0, 11], ids=str)
def test_a_learning_rate_is_a_sensible_number(value: Any) -> None:
    assert one(training={"learning_rate": value}).startswith("training.learning_rate: ")


@pytest.mark.parametrize(
    "value", [{}, {"every_k": 2}, {"every_n": 0}, {"every_n": 2, "x": 1}, True, "some"], ids=str
)
def test_checkpointing_that_is_none_gets_one_answer(value: Any) -> None:
    assert one(memory={"checkpointing": value}).endswith(
        "; write auto, off, every_layer, or {every_n: k} with k from 1"
    )


@pytest.mark.parametrize("value", ["/abs", "~/x", "a/../../x", "", "a//b", ".", "a\nb", "a\x00b"], ids=repr)
def test_an_output_stays_inside_the_root(value: str) -> None:
    assert [fault.path for fault in faults(output=value)] == ["output"]


@pytest.mark.parametrize(
    "value", ["9" * 400 + "GiB", "1 PiB", "GiB", "-1GiB", "1e3MiB", 5, []], ids=lambda v: str(v)[:9]
)
def test_sizes_that_are_none(value: Any) -> None:
    assert [fault.path for fault in faults(resources={"min_memory": value})] == ["resources.min_memory"]


@pytest.mark.parametrize(
    "value", ["0s", "4", "1 fortnight", "9" * 400 + "d", "-1h", 4, True], ids=lambda v: str(v)[:9]
)
def test_durations_that_are_none(value: Any) -> None:
    assert [fault.path for fault in faults(time_limit=value)] == ["time_limit"]


NUL = "a\0b"


@pytest.mark.parametrize(
    ("path", "sections"),
    [
        ("data.path", {"data": NUL}),
        ("data.split", {"data": {"path": "a", "split": NUL}}),
        ("model.path", {"model": NUL}),
        ("model.revision", {"model": {"path": "a", "revision": NUL}}),
        ("model.tokenizer", {"model": {"path": "a", "tokenizer": NUL}}),
        ("resources.card", {"resources": {"card": NUL}}),
        ("resources.labels.rack", {"resources": {"labels": {"rack": NUL}}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_control_characters_are_in_no_name(path: str, sections: dict[str, Any]) -> None:
    assert one(**sections) == (
        rf"{path}: holds the control character U+0000 (given: a\x00b); write it without that"
    )


@pytest.mark.parametrize("value", ["a\nb", "a\x1b[31mb", "a\x7fb", "a\x85b"], ids=repr)
def test_what_was_given_is_shown_without_its_control_characters(value: str) -> None:
    said = one(data=value)
    assert said.startswith("data.path: holds the control character") and said.isprintable()


@pytest.mark.parametrize("value", ["/data/été", "/data/日本　語", "/data/a b"])
def test_a_path_in_any_language_is_one(value: str) -> None:
    assert parse_spec({"model": "org/name", "data": value}).data.path == value


@pytest.mark.parametrize("method", ["full", {"kind": "full"}])
def test_a_full_fine_tune_in_float16_is_refused(method: Any) -> None:
    model = {"path": "org/name", "dtype": "float16"}
    said = (
        "model.dtype: loses the small updates of a full fine-tune (given: float16); "
        "use float32 with training.autocast: bfloat16, or train with lora"
    )
    assert one(model=model, method=method) == said
    beside = faults(model=model, method=method, training={"steps": 0})
    assert [fault.path for fault in beside] == ["training.steps", "model.dtype"]
    assert parse_spec({"model": model, "data": "a", "method": "lora"}).model.dtype == "float16"


def test_a_long_value_is_cut() -> None:
    found = faults(priority="x" * 10_000)
    assert len(found[0].given) == 80


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
sections = st.sampled_from([*JobSpec.model_fields, "other"])
keys = st.sampled_from(
    [
        name
        for section in (ModelSpec, TrainingSpec, MemorySpec, ResourceSpec, MethodSpec)
        for name in section.model_fields
    ]
)


@given(st.dictionaries(sections, anything | st.dictionaries(keys, anything, max_size=4), max_size=6))
@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
def test_whatever_stands_there_is_a_spec_or_a_spec_error(value: dict[str, Any]) -> None:
    try:
        spec = parse_spec(value)
    except SpecError as error:
        assert error.faults
        assert all(fault.path and fault.problem for fault in error.faults)
        assert len({str(fault) for fault in error.faults}) == len(error.faults)
    else:
        assert parse_spec(spec.model_dump(mode="json")) == spec
