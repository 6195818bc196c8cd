"""orchestrator/forecast.py: the figures of a plan."""

from __future__ import annotations

from jobs.ladder import Choice, choose
from jobs.lengths import Lengths
from jobs.spec import JobSpec, parse_spec
from jobs.units import GiB
from orchestrator.forecast import Asked, mean_step_s, projection_shape
from tests.step_profiles import card, profile

SPEC: JobSpec = parse_spec(
    {"model": "org/m", "data": "d", "training": {"sequence_length": 2048, "global_batch": 8}}
)
SHORT_WITH_ONE_LONG = Lengths.counted({100: 99, 2048: 1}, rows=100)
ASKED = Asked(SPEC, SHORT_WITH_ONE_LONG)


def _choice(speed: float = 1.0) -> Choice:
    found = choose(profile(), SPEC, card(80 * GiB), length=ASKED.length, speed=speed)
    assert isinstance(found, Choice)
    return found


def test_a_step_takes_as_long_as_the_data_as_it_is() -> None:
    found = _choice()
    assert mean_step_s(ASKED, profile(), card(), found) < found.step_s / 2
    assert mean_step_s(Asked(SPEC), profile(), card(), found) == found.step_s


def test_a_measured_pace_has_the_data_in_it_and_counts_once() -> None:
    """Measured over what was projected for the longest batch: short rows have made it small already."""
    measured = _choice(speed=0.1)
    assert mean_step_s(ASKED, profile(), card(), measured) == 0.1 * measured.projection.step_s


def test_a_projection_is_shown_with_its_phases_and_intervals() -> None:
    projection = _choice().projection
    shown = projection_shape(projection)
    assert shown["phases"][projection.phase] == projection.allocated_bytes
    low, high = shown["intervals"]["device"]
    assert low < projection.device_bytes < high == projection.upper_bytes
