"""Every way of training that a job file can ask for, on a card that is not there: the libraries' own CUDA paths."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.jobfile.fields import OPTIMIZERS
from jobs.memory.rung import Rung
from jobs.messages.reports import Ended
from jobs.state import Outcome
from tests.cuda_double.trainers import Trainers

LONG = pytest.mark.slow
PLAIN = Rung(0, 2, accumulation=2)
LORA, QLORA = {"kind": "lora"}, {"kind": "qlora"}


def trained(trainers: Trainers, rung: Rung = PLAIN, **sections: Any) -> Ended:
    """How it ends, which is well."""
    training = {"steps": 3, "sequence_length": 128, **sections.pop("training", {})}
    trainer = trainers.start(rung=rung, training=training, **sections)
    ended = trainer.end()
    assert ended.outcome is Outcome.SUCCEEDED, f"{ended.message}\n{trainer.log()}"
    assert ended.steps == 3 and ended.expandable is True
    assert ended.allocated_bytes and ended.reserved_bytes and ended.device_bytes
    assert ended.allocated_bytes <= ended.reserved_bytes < ended.device_bytes
    return ended


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_trains_all_weights(trainers: Trainers, optimizer: str) -> None:
    trained(trainers, method="full", training={"optimizer": optimizer})


MOST: list[dict[str, Any]] = [
    {"method": LORA, "holdout": 0.2, "training": {"eval_steps": 2, "packing": True}},
    {"method": QLORA, "training": {"optimizer": "paged_adamw_8bit"}},
    {"method": {**LORA, "dropout": 0.1, "dora": True}},
    {"method": "full", "model": {"dtype": "float32"}, "training": {"autocast": "bfloat16"}},
]
OTHERS: list[dict[str, Any]] = [
    {"method": LORA},
    {"method": QLORA},
    {"method": {**LORA, "rslora": True, "targets": ["q_proj", "v_proj"]}},
    {"method": LORA, "model": {"dtype": "float16"}},
    {"method": "full", "training": {"on_nan": "skip"}},
]
LADDER = [Rung(0, 8), Rung(2, 8), Rung(1, 8), Rung(1, 8, offload=True), Rung(1, 2, accumulation=4)]


@pytest.mark.parametrize("sections", [*MOST, *(pytest.param(one, marks=LONG) for one in OTHERS)], ids=str)
def test_every_method_trains(trainers: Trainers, sections: dict[str, Any]) -> None:
    ended = trained(trainers, **sections)
    assert (ended.eval_loss is not None) == ("holdout" in sections)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("full", id="full"),
        *(pytest.param(one, id=one["kind"], marks=LONG) for one in (LORA, QLORA)),
    ],
)
def test_every_rung_trains_and_each_takes_less_than_the_one_before(trainers: Trainers, method: Any) -> None:
    training = {"global_batch": 8, "sequence_length": 256}
    peaks = [trained(trainers, rung, method=method, training=training).allocated_bytes for rung in LADDER]
    assert peaks == sorted(peaks, reverse=True) and len({*peaks}) >= 4, peaks
