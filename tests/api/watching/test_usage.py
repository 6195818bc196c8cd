"""The usage route: lines by project, user, job and card, whose parts add up."""

from __future__ import annotations

import dataclasses

import pytest

from tests.api.watching.test_series import PREFIX, lived_in

PARTS = ("startup_s", "training_s", "recompute_s", "lost_s", "idle_s")


@pytest.mark.parametrize(
    ("by", "name"), [("project", "default"), ("user", "ada"), ("job", "one"), ("card", "h1/0")]
)
def test_usage_is_by_what_was_asked(yard, by, name):
    lived_in(yard)
    yard.now += 3600
    found = yard.http.get(f"{PREFIX}/usage?by={by}&since=2h").json()
    (line,) = found["lines"]
    assert line["name"] == name and line["attempts"] == 1
    assert line["gpu_s"] >= 3600
    assert sum(line[part] for part in PARTS) == pytest.approx(line["gpu_s"], abs=0.01)
    assert {key: value for key, value in line.items() if key not in ("id", "user")} | {"name": "total"} == (
        found["total"]
    )
    assert line["price"] is None, "no card has a price"


def test_a_price_is_of_an_hour_of_a_card(yard):
    lived_in(yard)
    yard.now += 3600
    services = yard.services
    kind = yard.http.get(f"{PREFIX}/gpus").json()["gpus"][0]["name"]
    services.settings = dataclasses.replace(services.settings, prices={kind: 2.0})
    total = yard.http.get(f"{PREFIX}/usage").json()["total"]
    assert total["price"] == pytest.approx(total["gpu_s"] / 3600 * 2, abs=0.001)


def test_nothing_was_used(yard):
    found = yard.http.get(f"{PREFIX}/usage").json()
    assert found["lines"] == [] and found["total"]["gpu_s"] == 0


@pytest.mark.parametrize(
    ("query", "path"), [("by=team", "by"), ("since=soon", "since"), ("until=x", "until")]
)
def test_what_can_not_be_read_is_named(yard, query, path):
    answer = yard.http.get(f"{PREFIX}/usage?{query}")
    assert answer.status_code == 422 and answer.json()["error"]["faults"][0]["path"] == path
