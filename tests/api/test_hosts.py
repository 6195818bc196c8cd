"""Hosts over the API: which database they join, whose name it is, and whether they are there."""

from __future__ import annotations

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from tests.api.conftest import Yard
from tests.api.scheduling.test_scheduling import HOST, FakeHost, card, end, job


def test_a_trainer_is_sent_where_the_agent_of_this_database_looks(yard):
    host = FakeHost(yard, card(0, 2))
    joined = yard.http.post(f"{PREFIX}/hosts/join", json={**HOST, "gpus": host.cards}).json()
    assert joined["host_id"] == host.id and joined["yard"] == yard.services.store.yard()
    yard.submit(name="a")
    host.trace()
    (handed,) = yard.dispatch.started
    assert handed["home"] == f"{HOST['home']}/{joined['yard'][:12]}"


def test_a_namesake_is_told_why_it_cant_join(yard):
    FakeHost(yard, card(0, 2))
    namesake = {**HOST, "gpus": [], "machine_id": "m-2"}
    answer = yard.http.post(f"{PREFIX}/hosts/join", json=namesake)
    assert answer.status_code == 409 and answer.json()["error"]["kind"] == "conflict"
    assert "h1 is the host at /tmp/h1 on machine m" in answer.json()["error"]["message"]
    assert "--name" in answer.json()["error"]["message"]


def seen(yard: Yard) -> dict[str, tuple[str, int]]:
    """State and free cards of each host; its cards and the count of who answers say the same."""
    hosts = yard.http.get(f"{PREFIX}/hosts").json()["hosts"]
    states = {host["name"]: host["state"] for host in hosts}
    for gpu in yard.http.get(f"{PREFIX}/gpus").json()["gpus"]:
        assert gpu["host_state"] == states[gpu["host"]]
    there = sum(state not in ("away", "stopped") for state in states.values())
    assert yard.http.get(f"{PREFIX}/health").json()["hosts_online"] == there
    return {host["name"]: (host["state"], host["free"]) for host in hosts}


def test_a_host_that_falls_silent_is_away_and_one_that_says_so_has_stopped(yard):
    one, two = FakeHost(yard, card(0, 2)), FakeHost(yard, card(1, 2), name="h2")
    one.report()
    two.report()
    assert seen(yard) == {"h1": ("online", 1), "h2": ("online", 1)}
    one.report(boot="")  # what an agent says that is told to end
    assert seen(yard) == {"h1": ("stopped", 0), "h2": ("online", 1)}
    yard.now += yard.services.settings.away_after_s
    assert seen(yard) == {"h1": ("stopped", 0), "h2": ("away", 0)}
    FakeHost(yard, card(0, 2)).report()
    two.report()
    assert seen(yard) == {"h1": ("online", 1), "h2": ("online", 1)}


def test_a_server_that_just_started_holds_no_silence_against_a_host_that_did_not_say_that_it_ends(yard):
    one, two = FakeHost(yard, card(0, 2)), FakeHost(yard, card(1, 2), name="h2")
    one.report(boot="")
    two.report()
    yard.now += 1000
    yard.services.controller.hearing.restart()
    assert seen(yard) == {"h1": ("stopped", 0), "h2": ("online", 1)}


def test_the_room_on_its_disks_is_as_a_host_said_last(yard):
    host = FakeHost(yard, card(0, 2))
    told = {"holds": "results", "path": "/data", "free_bytes": 2**43, "total_bytes": 2**44}
    host.report(disks=[{**told, "of_a_newer_agent": 1}])
    assert yard.http.get(f"{PREFIX}/hosts").json()["hosts"][0]["disks"] == [told]
    host.report()  # an older one's
    assert yard.http.get(f"{PREFIX}/hosts").json()["hosts"][0]["disks"] == []


def test_no_job_starts_on_a_host_that_is_leaving_and_why_says_so(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="a")
    host.trace()
    assert job(yard)["state"] == "running"
    # Its trainer was stopped, and has saved; another could start here at once.
    host.report(boot="", attempts=end(1, 1, Outcome.HOST_STOPPED))
    yard.tick()
    assert (job(yard)["state"], job(yard)["reason"]["code"]) == ("queued", "no_host")
    why = yard.http.get(f"{PREFIX}/jobs/1/why").json()
    assert [row["verdict"] for row in why["hosts"]] == ["was stopped"]
    FakeHost(yard, card(0, 2)).report()
    yard.tick()
    assert job(yard)["state"] == "running"


def test_a_host_is_draining_until_nothing_is_left_on_it(yard):
    host = FakeHost(yard, card(0, 2), card(1, 2))
    yard.submit(name="a")
    host.trace()
    host.report(running=[1])
    assert yard.http.post(f"{PREFIX}/hosts/h1/drain", json={"drained": True}).json()["hosts"][0]["drained"]
    assert seen(yard) == {"h1": ("draining", 0)}
    host.report(running=[1], attempts=end(1, 1, Outcome.SUCCEEDED))
    yard.tick()
    assert seen(yard) == {"h1": ("draining", 0)}  # the card is given back, and its process is still there
    host.report(running=[])
    assert seen(yard) == {"h1": ("drained", 0)}
    host.report(boot="")
    (row,) = yard.http.get(f"{PREFIX}/hosts").json()["hosts"]
    assert (row["state"], row["drained"]) == ("stopped", True)
