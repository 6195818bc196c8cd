"""workers/profiler/cross_layer_tensors.py: models whose layers return what the next one frees, projected at mixed
rungs too.
"""

from __future__ import annotations

from typing import Any

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

from jobs.cards import Card
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import Line, Segment
from jobs.memory.project import Rung, project
from workers.profiler.cross_layer_tensors import carried, handed_over
from workers.profiler.fake_model import build, load_config
from workers.profiler.trace import trace, whole_step

LAYERS = 8
_GPT = {"n_embd": 192, "n_layer": LAYERS, "n_head": 6, "vocab_size": 4001, "n_positions": 1024}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt_neo": {
        "hidden_size": 192,
        "num_layers": LAYERS,
        "num_heads": 6,
        "vocab_size": 4001,
        "attention_types": [[["global", "local"], LAYERS // 2]],
    },
    "gptj": {**_GPT, "rotary_dim": 16},
    "codegen": {**_GPT, "n_head": 8, "rotary_dim": 16},
    "mpt": {"d_model": 192, "n_layers": LAYERS, "n_heads": 6, "vocab_size": 4001, "max_seq_len": 2048},
}
BARE = {kind: Card("bare", 1, 1e12, 1e12, 0, "live bytes alone", kind) for kind in ("cuda", "cpu")}
MIXED = (("cuda", 0, 1, 384), ("cuda", 1, 7, 600), ("cuda", 2, 2, 384), ("cpu", 3, 4, 200))


@pytest.mark.parametrize("kind", SHAPES)
def test_layers_that_hand_on_their_probabilities_project_the_whole_model(kind: str) -> None:
    """To 1 % of a trace of the full depth, and at most one layer's probabilities too much where modes are mixed."""
    spec = JobSpec.model_validate(
        {
            "model": {
                "config": {"model_type": kind, **SHAPES[kind]},
                "tokenizer": "none",
                "attention": "eager",
            },
            "data": "none",
            "method": "full",
            "training": {"sequence_length": 256},
        }
    )
    profile = trace(spec, [])
    left = carried(profile.body("cuda", True, every=True).segments)
    assert left.pair > 0, "this model hands nothing on: it says nothing here"
    mode = FakeTensorMode()
    whole = build(spec, load_config(spec, []), mode, copies=None)
    assert profile.layers == len(whole.layers) == LAYERS
    for card, every_n, rows, length in MIXED:
        traced = whole_step(whole, spec, mode, every_n=every_n, kind=card, rows=rows, length=length)  # type: ignore[arg-type]
        found = project(profile, Rung(every_n, rows), sequence_length=length, card=BARE[card])
        over = left.at(0, rows * length**2) if every_n > 1 else 0.0
        off = found.allocated_bytes - traced
        assert -0.01 * traced <= off <= 0.01 * traced + over, (card, every_n, rows, length)


def test_what_is_carried_is_moved_and_nothing_is_lost() -> None:
    """The sum of all changes stays, and the peak of what comes after each layer is where it was."""
    body = {
        "first": Segment(Line(pair=5), (Line(pair=9),)),
        "layer": Segment(Line(pair=2), (Line(pair=9),), of_layers={"layer": Line(pair=-30)}),
        "last": Segment(Line(pair=2), (Line(pair=9),), of_layers={"layer": Line(pair=-3)}),
        "loss": Segment(Line(pair=-3), (Line(pair=1),)),
    }
    line = carried(body)
    assert line == Line(pair=3), "not what a layer took and gave back itself"
    made = handed_over(body, ["first", "layer", "last"], {"first", "layer", "last"}, line)
    assert [segment.delta.pair for segment in made.values()] == [2, 2, 2, 0]
    assert [segment.peaks[0].pair for segment in made.values()] == [9, 12, 12, 4]
    plain_between = handed_over(body, ["first", "layer", "last"], {"first"}, line)
    assert [segment.delta.pair for segment in plain_between.values()] == [2, 5, 2, -3]
    assert carried({"first": Segment(Line(1)), "last": Segment(Line(1))}) == Line()
