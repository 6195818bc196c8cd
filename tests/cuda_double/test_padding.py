"""One long row among short ones: what a step takes of the card beside what is projected of its valid tokens."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.memory.double import rows
from benchmarks.memory.double.cases import Case
from benchmarks.memory.double.rows import card_of, profile_of
from jobs.memory.project import project
from jobs.memory.sequence_lengths import Lengths
from tests.cuda_double.processes import Cuda

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHORT = 128
CASE = Case(
    shape="Llama-68M",
    layers=0,
    method="full",
    dtype="bfloat16",
    optimizer="adamw",
    rung="every",
    micro_batch=4,
    accumulation=1,
    length=1024,
    varied=True,
    card="rtx4090",
    allocator="expandable",
    steps=3,
    seed=1,
)
TRAIN = """
sys.modules["bitsandbytes"] = None
from benchmarks.memory.double import child
from benchmarks.memory.double.cases import Case

class Skewed(Case):
    rows = ([1024] + [{short}] * 3) * 3

told, sys.stdout = sys.stdout, sys.stderr  # the trainer prints
found = child.measured(Skewed(**json.loads({case!r})))
sys.stdout = told
answer(**found)
"""


@pytest.mark.parametrize("rung", ["off", "every"])
def test_padding_beside_a_long_row_takes_no_part_in_the_loss(
    cuda: Cuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rung: str
) -> None:
    monkeypatch.setattr(rows, "KEPT", tmp_path / "profiles")
    case = replace(CASE, rung=rung)
    found = cuda.run(
        TRAIN.format(short=SHORT, case=json.dumps(asdict(case))),
        PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True",
        OMP_NUM_THREADS="1",
    )
    assert found["outcome"] == "ran", found
    data = Lengths.counted({case.length: 3, SHORT: 9}, rows=12)
    assert data.most_valid(4) == 3 * case.length + SHORT, "three long rows may come together"
    valid = case.length + 3 * SHORT  # of the batches that were trained
    said, charged = (
        project(profile_of(case), case.place, sequence_length=case.length, card=card_of(case), valid=most)
        for most in (valid, None)
    )
    assert said.allocated_bytes == pytest.approx(found["allocated_bytes"], rel=0.01)
    assert charged.allocated_bytes > 1.15 * found["allocated_bytes"]
    assert found["reserved_bytes"] + found["outside_bytes"] <= said.upper_bytes
