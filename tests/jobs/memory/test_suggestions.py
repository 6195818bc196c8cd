"""jobs/memory/suggestions.py: what would help, with figures that hold when the advice is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jobs.jobfile.spec import JobSpec
from jobs.memory.bottleneck import cannot_help
from jobs.memory.ladder import Choice, NoFit, choose
from jobs.memory.project import Rung, project
from jobs.memory.remedies import changed
from jobs.memory.suggestions import EIGHT_BIT_STATE, checkpointing_saves, suggestions
from jobs.units import GiB, MiB
from tests.step_profiles import card, profile


def _spec(method: str = "full", length: int = 512, optimizer: str = "adamw", **memory: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "model": "org/model",
            "data": "org/data",
            "method": method,
            "training": {"global_batch": 8, "sequence_length": length, "optimizer": optimizer},
            "memory": memory,
        }
    )


def _texts(*asked: Any, **more: Any) -> list[str]:
    return [one.text for one in suggestions(*asked, **more)]


def test_a_fixed_setting_that_is_in_the_way_is_named_first() -> None:
    spec = _spec(checkpointing="off", micro_batch=8)
    freed = choose(profile(), _spec(), card(600 * MiB))
    assert isinstance(choose(profile(), spec, card(600 * MiB)), NoFit)
    assert isinstance(freed, Choice)
    told = suggestions(profile(), spec, card(600 * MiB))[0]
    assert told.text.startswith("memory.checkpointing: auto, memory.micro_batch: auto would fit")
    assert told.upper_bytes == freed.projection.upper_bytes


def test_an_eight_bit_optimizer_is_suggested_with_what_it_would_take_never_chosen() -> None:
    made = replace(profile(), optimizer_bytes=800 * MiB, trained_count=100 * MiB)
    small = card(700 * MiB)
    told = next(one for one in suggestions(made, _spec(), small) if "adamw_8bit" in one.text)
    taken = choose(
        replace(made, optimizer_bytes=round(100 * MiB * EIGHT_BIT_STATE)),
        _spec(optimizer="adamw_8bit"),
        small,
    )
    assert isinstance(taken, Choice)
    assert told.upper_bytes == taken.projection.upper_bytes
    assert "would fit" in told.text
    assert not any("adamw_8bit" in text for text in _texts(made, _spec(optimizer="adamw_8bit"), small))
    assert not any("adamw_8bit" in text for text in _texts(made, _spec(), card(700 * MiB, kind="cpu")))


def test_four_bits_leave_embeddings_and_head_as_they_are() -> None:
    config = {"vocab_size": 32_000, "hidden_size": 1000, "tie_word_embeddings": False}
    made = replace(profile(), weight_bytes=4 * GiB, parameter_count=2 * GiB, adapter_bytes=MiB)
    told = next(
        one for one in suggestions(made, _spec("lora"), card(2 * GiB), config=config) if "qlora" in one.text
    )
    least = 64_000_000 * 2 + (2 * GiB - 64_000_000) * 0.5
    assert told.upper_bytes is not None and told.upper_bytes > least
    assert told.upper_bytes < 3 * GiB
    unknown = _texts(made, _spec("lora"), card(2 * GiB))
    assert any("qlora holds the base in 4 bits" in text for text in unknown)
    assert not any("qlora" in text for text in _texts(made, _spec("qlora"), card(2 * GiB), config=config))
    full = _texts(made, _spec("full"), card(2 * GiB), config=config)
    assert any("in place of" in text and "qlora" in text for text in full)


def test_a_shorter_sequence_is_the_longest_half_that_fits() -> None:
    spec = _spec(length=4096)
    least = min(
        project(profile(), Rung(1, 1, 8, offload=True), sequence_length=length, card=card()).upper_bytes
        for length in (1024,)
    )
    texts = _texts(profile(), spec, card(least))
    assert any(text.startswith("training.sequence_length: 1024 would fit") for text in texts)


def test_a_larger_card_is_the_smallest_that_fits() -> None:
    made = replace(profile(), weight_bytes=31 * GiB)
    assert any(
        "A100-SXM4-40GB" in text or "A100-PCIE-40GB" in text for text in _texts(made, _spec(), card(24 * GiB))
    )
    cpu = _texts(profile(), _spec(), card(100 * MiB, kind="cpu"))
    assert any(text.startswith("a CPU card of") for text in cpu)


def test_checkpointing_can_not_lower_what_weights_and_optimizer_set() -> None:
    heavy = replace(profile(), weight_bytes=60 * GiB)
    for made, helps in ((profile(), True), (heavy, False)):
        projection = project(made, Rung(0, 1, 8), sequence_length=128, card=card())
        saves = checkpointing_saves(made, projection, card(), length=128)
        every = project(made, Rung(1, 1, 8), sequence_length=128, card=card())
        assert saves == projection.device_bytes - every.device_bytes
        assert cannot_help(saves, projection.device_bytes) is not helps


def test_every_suggestion_can_be_done() -> None:
    """Laid over the job file as it says, its rules accept it."""
    made = replace(profile(), optimizer_bytes=800 * MiB, trained_count=100 * MiB)
    for method in ("full", "lora", "qlora"):
        for dtype in ("bfloat16", "float16", "float32"):
            for adapter in ("auto", "float32"):
                value = {"model": {"path": "org/model", "dtype": dtype}, "data": "org/data"}
                value |= {
                    "method": {"kind": method, **({"adapter_dtype": adapter} if method != "full" else {})}
                }
                value |= {
                    "memory": {"checkpointing": "off", "micro_batch": 8},
                    "training": {"sequence_length": 512},
                }
                try:
                    spec = JobSpec.model_validate(value)
                except ValueError:
                    continue
                for one in suggestions(made, spec, card(100 * MiB)):
                    assert not one.overrides or changed(spec, one.overrides) is not None, one.text
                    named = [
                        word
                        for word in one.text.split()
                        if word.startswith(("memory.", "training.", "method."))
                    ]
                    assert bool(named) == bool(one.overrides), one.text
