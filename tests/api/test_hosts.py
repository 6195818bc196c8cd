"""Joining over the API: which database it is, and whose name it is."""

from __future__ import annotations

from orchestrator.api.app import PREFIX
from tests.api.test_scheduling import HOST, FakeHost, card


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
