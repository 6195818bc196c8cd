"""The routes of one card: by id, uuid and place; which jobs held it; its events."""

from __future__ import annotations

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from tests.api.conftest import Yard
from tests.api.scheduling.test_scheduling import FakeHost, card, end
from tests.builders import a_sample


def lived_in(yard: Yard) -> FakeHost:
    """A host of one card, on which job 1 has succeeded and job 2 runs; its memory has counted errors."""
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="one")
    host.trace()
    host.report(attempts=end(1, 1, Outcome.SUCCEEDED, device_bytes=123))
    yard.tick()
    yard.submit(name="two")
    host.trace()
    sample = a_sample("cpu-0", yard.now, ecc_uncorrected=4, temperature_c=91.0)
    host.report(samples=[sample.model_dump(mode="json")])
    return host


@pytest.mark.parametrize("name", ["1", "cpu-0", "h1/0", "h1%2F0"])
def test_a_card_by_any_of_its_names(yard: Yard, name: str) -> None:
    lived_in(yard)
    shown = yard.http.get(f"{PREFIX}/gpus/{name}").json()
    assert (shown["id"], shown["host"], shown["index"], shown["jobs"]) == (1, "h1", 0, [2])
    assert (shown["sample"]["temperature_c"], shown["present"], shown["host_state"]) == (91.0, True, "online")
    held = yard.http.get(f"{PREFIX}/gpus/{name}/jobs").json()
    assert [(one["job"], one["name"], one["outcome"]) for one in held["jobs"]] == [
        (2, "two", None),
        (1, "one", "succeeded"),
    ]
    assert held["more"] is False and held["jobs"][1]["measured_bytes"] == 123
    (event,) = yard.http.get(f"{PREFIX}/events?card={name}").json()["events"]
    assert (event["kind"], event["card"], event["subject"], event["host"]) == (
        "card_ecc",
        1,
        "card h1/0",
        "h1",
    )


def test_jobs_of_a_card_come_in_pages(yard: Yard) -> None:
    lived_in(yard)
    first = yard.http.get(f"{PREFIX}/gpus/1/jobs?limit=1").json()
    assert ([one["job"] for one in first["jobs"]], first["more"]) == ([2], True)
    rest = yard.http.get(f"{PREFIX}/gpus/1/jobs?limit=1&before={first['jobs'][0]['attempt']}").json()
    assert ([one["job"] for one in rest["jobs"]], rest["more"]) == ([1], False)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/gpus/h1/7", 404, "there is no card h1/7"),
        ("/gpus/nothing/jobs", 404, "HOST/INDEX"),
        ("/events?card=h9/0", 404, "h9/0"),
        ("/gpus/1/jobs?limit=0", 422, "limit"),
        ("/gpus/1/jobs?limit=501", 422, "limit"),
        ("/gpus/1/jobs?before=x", 422, "before"),
        ("/gpus/1?limit=2", 422, "limit"),
    ],
)
def test_what_can_t_be_answered_is_named(yard: Yard, path: str, status: int, said: str) -> None:
    lived_in(yard)
    answer = yard.http.get(f"{PREFIX}{path}")
    assert answer.status_code == status and said in answer.text, answer.text


def test_a_sick_card_is_told_to_targets_with_its_name(yard: Yard) -> None:
    body = {"url": "https://example.org/hook", "on": ["card_fault", "card_ecc"]}
    assert yard.http.post(f"{PREFIX}/notify", json=body).status_code == 200
    lived_in(yard)
    (notice,) = yard.services.store.due_notices(yard.now)
    assert (notice.kind, notice.job_id) == ("card_ecc", None)
    assert notice.text.startswith("card h1/0 (cpu-0): 4 uncorrected memory errors")
