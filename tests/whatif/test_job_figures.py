"""orchestrator/whatif/job_figures.py: the figures of a plan."""

from __future__ import annotations

from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.memory.ladder import Choice
from jobs.memory.sequence_lengths import Lengths
from jobs.units import GiB
from orchestrator.whatif.job_figures import Asked, projection_shape
from tests.step_profiles import card, profile

SPEC: JobSpec = parse_spec(
    {"model": "org/m", "data": "d", "training": {"sequence_length": 2048, "global_batch": 8}}
)
SHORT_WITH_ONE_LONG = Lengths.counted({100: 99, 2048: 1}, rows=100)
ASKED = Asked(SPEC, SHORT_WITH_ONE_LONG)


def _choice(asked: Asked = ASKED) -> Choice:
    found = asked.ladder(profile(), SPEC, card(80 * GiB), asked.length)
    assert isinstance(found, Choice)
    return found


def test_a_step_takes_as_long_as_the_data_as_it_is() -> None:
    assert _choice().step_s < _choice(Asked(SPEC)).step_s / 2
    # Of eight rows one is long far more often than of two, and then all are as long.
    best, others = _choice().tried[0], _choice().tried[1:]
    assert best.rung.micro_batch < 8
    assert all(one.relative_time > 1.01 * best.relative_time for one in others if one.rung.micro_batch == 8)


def test_a_projection_is_shown_with_its_phases_and_intervals() -> None:
    projection = _choice().projection
    shown = projection_shape(projection, 2.0)
    assert shown["step_s"] == 2 * projection.step_s, "at the pace of jobs like it"
    assert shown["phases"][projection.phase] == projection.allocated_bytes
    low, high = shown["intervals"]["device"]
    assert low < projection.device_bytes < high == projection.upper_bytes
