"""GET /fleet: hosts, cards, jobs and queue by column; filtered, sorted and cut on the server."""

from __future__ import annotations

import pytest

from orchestrator.api.responses.fleet_state import IDLE_S
from tests.api.scheduling.test_quarantine import runs
from tests.api.scheduling.test_scheduling import PREFIX, FakeHost, card

FLEET = f"{PREFIX}/fleet"


def fleet(yard, **query):
    answer = yard.http.get(FLEET, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(table):
    """A table by column as a list of rows."""
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


def test_a_card_that_trains_is_told_with_what_it_was_projected_to_take(yard):
    runs(yard)
    yard.submit(name="waits", priority=2)
    yard.tick()
    found = fleet(yard)
    (host,), (one,), (job,), (waits,) = (rows(found[name]) for name in ("hosts", "cards", "running", "queue"))
    shown = yard.http.get(f"{PREFIX}/jobs/1").json()
    assert (host["name"], host["state"], host["cards"], host["free"]) == ("h1", "online", 1, 0)
    assert (one["uuid"], one["state"], one["job"], one["used_bytes"]) == ("cpu-0", "busy", 1, 1)
    assert one["projected_bytes"] == shown["projected_bytes"]
    assert one["upper_bytes"] == shown["attempts_detail"][0]["projection"]["upper_bytes"]
    assert (job["name"], job["step"], job["total_steps"], job["eta_s"]) == ("first", 3, 9, 3.0)
    assert (waits["id"], waits["priority"], waits["reason"]) == (2, 2, "busy")
    assert (found["totals"]["states"], found["totals"]["waiting"]) == ({"busy": 1}, 1)
    assert "unreadable" not in found


def test_a_held_card_that_does_nothing_for_a_minute_is_idle(yard):
    host = runs(yard)
    sample = {"uuid": "cpu-0", "memory_used_bytes": 1, "utilization": 0.0}

    def state(after_s, utilization=0.0):
        yard.now += after_s
        host.report(samples=[{**sample, "ts": yard.now, "utilization": utilization}])
        return rows(fleet(yard)["cards"])[0]

    began = yard.now
    assert state(1)["state"] == "busy"
    assert state(IDLE_S - 2)["state"] == "busy"
    idle = state(2)
    assert (idle["state"], idle["idle_since"]) == ("idle", began + 1)
    assert state(1, 0.9)["state"] == "busy", "it works again"
    assert state(1)["state"] == "busy", "and the minute begins anew"


def test_of_a_host_that_is_away_no_reading_is_told(yard):
    host = FakeHost(yard, card(0, 2))
    host.report(samples=[{"uuid": "cpu-0", "ts": yard.now, "memory_used_bytes": 5}])
    assert rows(fleet(yard)["cards"])[0]["used_bytes"] == 5
    yard.now += 30
    found = fleet(yard)
    (one,), (seen,) = rows(found["cards"]), rows(found["hosts"])
    assert (one["state"], one["used_bytes"], seen["state"], seen["last_seen"]) == (
        "away",
        None,
        "away",
        1_000.0,
    )


@pytest.fixture
def four(yard):
    """Hosts h1 to h4, whose cards use 4, 3, 2, 1 bytes; h3 has a fault."""
    for number in range(1, 5):
        fault = {"fault": "Xid 79"} if number == 3 else {}
        one = FakeHost(yard, {**card(number, 2), **fault}, name=f"h{number}")
        one.report(samples=[{"uuid": f"cpu-{number}", "ts": yard.now, "memory_used_bytes": 5 - number}])
    return yard


def names(found):
    return found["hosts"]["name"]


def test_hosts_are_sorted_filtered_and_cut_with_their_cards(four):
    assert names(fleet(four, sort="used")) == ["h4", "h3", "h2", "h1"]
    assert names(fleet(four, sort="-used", limit=2, offset=1)) == ["h2", "h3"]
    found = fleet(four, sort="-used", limit=2, offset=1)
    assert (found["cards"]["uuid"], found["matching"]) == (["cpu-2", "cpu-3"], 4)
    assert found["totals"]["cards"] == 4, "of the whole fleet"
    assert names(fleet(four, find="xid")) == ["h3"]
    assert names(fleet(four, find="H4")) == ["h4"]
    nothing = fleet(four, find="nothing has this")
    assert (names(nothing), nothing["cards"]["id"], nothing["matching"]) == ([], [], 0)


def test_hosts_are_found_by_the_jobs_that_run_there(yard):
    runs(yard)
    FakeHost(yard, card(1, 2), name="other").report()
    for text in ("first", "default"):
        found = fleet(yard, find=text)
        assert (names(found), found["running"]["name"]) == (["h1"], ["first"])
    assert fleet(yard, find="other")["running"]["id"] == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"sort": "colour"}, "write one of name, state"),
        ({"limit": 0}, "from 1 to"),
        ({"offset": -1}, "how many hosts"),
        ({"queue": 501}, "from 0 to 500"),
    ],
)
def test_what_can_t_be_read_is_refused_with_what_would_be_right(yard, query, says):
    answer = yard.http.get(FLEET, params=query)
    assert answer.status_code == 422
    assert says in answer.text


def test_the_queue_is_cut(yard):
    for number in range(3):
        yard.submit(name=f"j{number}")
    found = fleet(yard, queue=2)
    assert (len(found["queue"]["id"]), found["totals"]["waiting"]) == (2, 3)
