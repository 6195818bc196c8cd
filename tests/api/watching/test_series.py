"""The series route: subjects, fields and times as people write them, and every fault named."""

from __future__ import annotations

import pytest

from orchestrator.api.routes.watching import series
from tests.api.scheduling.test_scheduling import FakeHost, card
from tests.builders import a_sample

PREFIX = "/api/v1"


def lived_in(yard) -> None:
    """A host of one card, one reading a second for five seconds, and a job that holds it from the third on."""
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="one")
    host.trace()
    uuid = yard.http.get(f"{PREFIX}/gpus").json()["gpus"][0]["uuid"]
    host.report(
        samples=[a_sample(uuid, 1000.0 + at, utilization=0.5).model_dump(mode="json") for at in range(5)]
    )
    yard.now = 1010.0


@pytest.mark.parametrize(
    ("query", "name", "n"),
    [
        ("kind=fleet", "fleet", 5),
        ("kind=host", "h1", 5),
        ("kind=card&of=h1/0", "h1/0", 5),
        ("kind=card&of=1", "h1/0", 5),
        ("kind=job&of=one", "one", 5),
        ("kind=fleet&since=1002&until=1970-01-01T00:16:44Z", "fleet", 2),
        ("kind=fleet&since=8s", "fleet", 3),
        ("kind=fleet&since=1970-01-01T01:16:41%2B01:00", "fleet", 4),
    ],
)
def test_a_line_has_its_name_and_every_sample(yard, query, name, n):
    lived_in(yard)
    answer = yard.http.get(f"{PREFIX}/series?{query}")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    (line,) = found["series"]
    assert (line["name"], sum(line["n"])) == (name, n)
    assert len(line["n"]) == len(found["ts"]) == len(line["values"]["utilization"]["mean"])
    assert set(line["values"]) == {"memory_used_bytes", "utilization", "power_w"}
    assert found["source"] == "sample"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("kind=cards", "kind"),
        ("kind=fleet&since=yesterday", "since"),
        ("kind=fleet&since=2h&until=inf", "until"),
        ("kind=fleet&since=-5", "since"),
        ("kind=fleet&since=2026-13-01", "since"),
        ("kind=fleet&since=1h&until=2h", "since"),
        ("kind=fleet&fields=power", "fields"),
        ("kind=fleet&fields=", "fields"),
        ("kind=fleet&stats=median", "stats"),
        ("kind=fleet&points=0", "points"),
        ("kind=fleet&of=h1", "of"),
        ("kind=job", "of"),
        ("kind=fleet&form=h1", "form"),
        ("", "kind"),
    ],
)
def test_what_can_not_be_read_is_named(yard, query, field):
    lived_in(yard)
    answer = yard.http.get(f"{PREFIX}/series?{query}")
    assert answer.status_code == 422
    assert [fault["path"] for fault in answer.json()["error"]["faults"]] == [field]


@pytest.mark.parametrize("query", ["kind=card&of=h1/7", "kind=host&of=nobody", "kind=job&of=77"])
def test_what_is_not_there_is_not_found(yard, query):
    lived_in(yard)
    assert yard.http.get(f"{PREFIX}/series?{query}").status_code == 404


def test_a_large_answer_is_made_of_wider_steps(yard, monkeypatch):
    lived_in(yard)
    monkeypatch.setattr(series, "MOST_NUMBERS", 100)
    found = yard.http.get(f"{PREFIX}/series?kind=fleet&since=10s&points=300").json()
    assert len(found["ts"]) < 10 and sum(found["series"][0]["n"]) == 5
