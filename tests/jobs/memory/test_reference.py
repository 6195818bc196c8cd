"""What a frozen reference takes of a card, and what the ladder does about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.cards import Card
from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.memory.ladder import Choice, choose, rungs
from jobs.memory.profile import Line, MemoryProfile, Pass, Segment, trace_key
from jobs.memory.project import Rung, project
from jobs.units import MiB
from tests.builders import a_spec
from tests.profiles import small_profile

LENGTH = 100
LAYER, LOSS = 9_000, 3_000  # bytes a token of the reference's forward pass


def card(memory_bytes: int = 10**12, **more: Any) -> Card:
    return Card("card", memory_bytes, 1e12, 1e12, 0, "for tests", "cpu", **more)


def profile(reference_bytes: int = 40 * MiB, rows: int = 2) -> MemoryProfile:
    made = small_profile()
    layer = Segment(Line(), (Line(token=LAYER),), Line(token=1e6))
    forward = dict.fromkeys(("first", "layer", "last"), layer)
    alone = Pass({"before": Segment(Line()), **forward, "loss": Segment(Line(), (Line(token=LOSS),))})
    return replace(
        made,
        passes={**made.passes, "cpu.reference": alone},
        rows=rows,
        reference_bytes=reference_bytes,
        reference_passes=1,
    )


def job(trainer: str = "dpo", **values: Any) -> JobSpec:
    training = {"sequence_length": LENGTH, "global_batch": 4}
    return parse_spec(a_spec(trainer=trainer, method="full", training=training, **values))


def test_a_pair_has_two_rows() -> None:
    """Of a profile whose bytes go with the tokens alone."""
    plain = replace(small_profile(), adapter_bytes=0)
    pairs = project(replace(plain, rows=2), Rung(0, 2), sequence_length=LENGTH, card=card())
    assert pairs.phases == project(plain, Rung(0, 4), sequence_length=LENGTH, card=card()).phases


def test_the_reference_runs_while_the_activations_are_held() -> None:
    found = project(profile(), Rung(0, 2), sequence_length=LENGTH, card=card())
    tokens, made = 2 * 2 * LENGTH, profile()
    resting = made.weight_bytes + made.adapter_bytes + made.optimizer_bytes + made.reference_bytes
    # The last layer of this profile keeps nothing.
    assert found.phases["reference"] == resting + tokens * (4_000 + LAYER)
    assert found.parts["reference"] == made.reference_bytes
    assert sum(found.parts.values()) == found.device_bytes
    assert found.phase == "reference"


def test_what_is_worked_out_before_training_holds_no_reference() -> None:
    held = project(profile(), Rung(0, 2), sequence_length=LENGTH, card=card())
    before = project(profile(), Rung(0, 2, precompute=True), sequence_length=LENGTH, card=card())
    assert before.parts["reference"] == 0
    assert before.phases["reference"] < held.phases["reference"] - profile().reference_bytes
    assert before.phases["forward end"] == held.phases["forward end"] - profile().reference_bytes
    assert before.step_s == held.step_s  # it runs over the rows once, too
    assert before.rung.label == "off + precompute, 2×1"


def test_the_reference_costs_time() -> None:
    without = replace(profile(), reference_passes=0)
    slow, quick = (
        project(one, Rung(0, 2), sequence_length=LENGTH, card=card(layer_s=1e-3)).step_s
        for one in (profile(), without)
    )
    assert slow > quick


def test_precomputing_is_for_where_nothing_else_is_as_fast() -> None:
    roomy = choose(profile(), job(), card())
    assert isinstance(roomy, Choice) and not roomy.rung.precompute
    needs = roomy.projection.upper_bytes
    tight = choose(profile(), job(), card(needs - 10 * MiB))
    assert isinstance(tight, Choice) and tight.rung.precompute and tight.rung.every_n == 0


@pytest.mark.parametrize(("wish", "made"), [("auto", {False, True}), (True, {True}), (False, {False})])
def test_the_job_file_decides(wish: Any, made: set[bool]) -> None:
    spec = job(dpo={"precompute_ref_log_probs": wish})
    assert {one.precompute for one in rungs(spec, 4, "cpu")} == made


def test_trainers_without_a_reference_have_no_such_rungs() -> None:
    assert not any(one.precompute for name in ("sft", "reward") for one in rungs(job(name), 4, "cpu"))


def test_the_kl_term_needs_two_rows() -> None:
    assert {one.micro_batch for one in rungs(job("kto"), 4, "cpu")} == {2, 4}
    free = job("kto", kto={"loss_type": "apo_zero_unpaired"})
    assert {one.micro_batch for one in rungs(free, 4, "cpu")} == {1, 2, 4}


def test_what_changes_memory_is_in_the_key_of_a_profile() -> None:
    specs = [job(name) for name in ("sft", "dpo", "kto", "reward")]
    specs.append(job("kto", kto={"loss_type": "apo_zero_unpaired"}))
    assert len({trace_key(spec, {}, None) for spec in specs}) == len(specs)
    assert trace_key(job(), {}, None) == trace_key(job(dpo={"beta": 0.5}), {}, None)


def test_an_older_rung_is_read() -> None:
    made = project(profile(), Rung(0, 2), sequence_length=LENGTH, card=card())
    said = made.as_dict()
    del said["rung"]["precompute"]
    assert type(made).from_dict(said).rung == Rung(0, 2)
