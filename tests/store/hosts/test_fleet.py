"""Hosts and cards: who joined, what they have, what is drained."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import Conflict, NotFound
from orchestrator.config import Settings
from orchestrator.control.snapshot.build import hosts_of
from orchestrator.store import Store
from tests.builders import NOW, a_host, a_report, cards, joined, submitted, training


def test_a_host_joins_with_its_cards(store: Store) -> None:
    host_id = store.join_host(a_host("alpha", gpus=2, labels={"rack": "7"}), NOW)
    host = store.host(host_id)
    assert store.hosts() == [host] == [store.host_by_name("alpha")]
    assert (host.name, host.joined_at, host.last_seen) == ("alpha", NOW, NOW)
    assert (host.drained, host.ray_ready, host.boot, host.running) == (False, False, None, ())
    assert host.info["labels"] == {"rack": "7"}
    first = store.gpus()[0]
    assert (first.uuid, first.host, first.index, first.kind) == ("GPU-alpha-0", "alpha", 0, "cuda")
    assert (first.present, first.fault, first.attempt_id) == (True, None, None)


def test_the_same_name_joins_as_the_same_host(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=2)
    store.set_drained(host_id, True, NOW)
    assert store.join_host(a_host(gpus=1, version="0.2.0"), NOW + 9) == host_id
    host = store.host(host_id)
    assert (host.joined_at, host.last_seen, host.info["version"]) == (NOW, NOW + 9, "0.2.0")
    assert host.drained, "joining again must not undo what the operator did"
    assert [(gpu.id, gpu.present) for gpu in store.gpus()] == [(gpu_ids[0], True), (gpu_ids[1], False)]
    store.join_host(a_host(gpus=2), NOW + 10)
    assert [gpu.present for gpu in store.gpus()] == [True, True]


@pytest.mark.parametrize("other", [{"machine_id": "m-2"}, {"home": "/elsewhere"}])
def test_a_namesake_is_refused_while_the_host_is_heard_of(store: Store, other: dict[str, str]) -> None:
    host_id, _ = joined(store, home="/srv/host")
    namesake = a_host(**{"home": "/srv/host"} | other)
    with pytest.raises(Conflict, match=r"name: alpha .* at /srv/host on machine machine-alpha, .*--name"):
        store.join_host(namesake, NOW + 19)
    assert store.host(host_id).last_seen == NOW
    store.record_report(host_id, a_report(), NOW + 15)
    with pytest.raises(Conflict, match="heard of 15 s ago"):
        store.join_host(namesake, NOW + 30)
    assert store.join_host(namesake, NOW + 35) == host_id, "it moved to another machine"


def test_a_card_keeps_its_id_when_it_moves_to_another_host(store: Store) -> None:
    _, (card,) = joined(store, "alpha")
    beta = store.join_host(a_host("beta", gpus=0).model_copy(update={"gpus": cards("alpha")}), NOW)
    (moved,) = store.gpus()
    assert (moved.id, moved.host_id, moved.host) == (card, beta, "beta")


def test_draining_is_noted_once(store: Store) -> None:
    host_id, _ = joined(store)
    for _ in range(2):
        store.set_drained(host_id, True, NOW)
        assert store.host(host_id).drained
    store.set_drained(host_id, False, NOW)
    assert not store.host(host_id).drained
    with pytest.raises(NotFound, match="no host 99"):
        store.set_drained(99, True, NOW)


def test_who_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="no host 99"):
        store.host(99)
    with pytest.raises(NotFound, match="'beta'"):
        store.host_by_name("beta")
    with pytest.raises(NotFound, match="join first"):
        store.record_report(99, a_report(), NOW)


def test_the_fleet_is_read_at_one_instant(store: Store) -> None:
    attempt = training(store)
    waiting = submitted(store)
    rows = store.fleet_rows()
    assert (rows.hosts, rows.gpus) == (store.hosts(), store.gpus())
    assert (rows.queued, rows.attempts) == ([waiting], [attempt])
    assert rows.gpus[0].job_id == attempt.job_id
    assert store.fleet_rows(limit=0).queued == []


def test_a_report_updates_the_host_and_its_cards(store: Store) -> None:
    host_id, _ = joined(store, gpus=2)
    ill = cards(count=1)[0].model_copy(update={"fault": "Xid 48"})
    report = a_report(boot="boot-2", ray_ready=True, running=[5, 6]).model_copy(update={"gpus": [ill]})
    store.record_report(host_id, report, NOW + 1)
    host = store.host(host_id)
    assert (host.boot, host.last_seen, host.ray_ready, host.running) == ("boot-2", NOW + 1, True, (5, 6))
    assert [(gpu.present, gpu.fault) for gpu in store.gpus()] == [(True, "Xid 48"), (False, None)]
    store.record_report(host_id, a_report(gpus=3), NOW + 2)
    assert [(gpu.present, gpu.fault) for gpu in store.gpus()] == [(True, None)] * 3
    fixed = cards(count=1)[0].model_copy(update={"expandable": False})
    store.record_report(host_id, a_report().model_copy(update={"gpus": [fixed]}), NOW + 3)
    (host,) = hosts_of(
        store.fleet_rows(), NOW + 3, Settings(home=Path(), database="", token=""), lambda one: True
    )
    assert [gpu.expandable for gpu in store.gpus()] == [False, True, True]
    assert [gpu.card.expandable for gpu in host.gpus] == [False]
