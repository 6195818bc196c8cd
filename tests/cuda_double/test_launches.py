"""What jobs/memory/kernel_launches.py says of a step is what torch launches on the double. No GPU: counts, never
times.
"""

from __future__ import annotations

import pytest

from benchmarks.launches.__main__ import answers
from benchmarks.launches.cases import MICRO_BATCHES, Case
from jobs.memory.kernel_launches import LAUNCHES

pytestmark = pytest.mark.slow

CASES = [
    Case("llama", method, every_n, "adamw", layers=3)
    for method, every_n in (("full", 0), ("lora", 1), ("qlora", 2))
]


@pytest.mark.timeout(400)  # the imports of a trainer, where cores are busy
def test_a_step_launches_what_projections_take_it_to(cuda_environment: None) -> None:
    """Every method and kind of rung: off, every layer, every other one."""
    found = dict(answers(CASES, "a100-80gb"))
    assert [*found] == CASES
    for case, answer in found.items():
        own = LAUNCHES[case.method]
        told = MICRO_BATCHES * own.micro_batch(case.layers, case.rung) + own.step
        assert abs(answer["step"] / told - 1) < 0.03, (case, answer)
