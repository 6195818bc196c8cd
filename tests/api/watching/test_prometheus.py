"""/metrics: what is exported, in which units, to whom; what a server that stands by says; a database that is away."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
from anyio import run
from prometheus_client.parser import text_string_to_metric_families

from jobs.errors import Unavailable
from orchestrator.api.app import create_app
from orchestrator.api.prometheus.columns import counter_text, gauge_text, labels_of
from tests.api.watching.test_series import lived_in

PER_CARD = "tuneyard_gpu_"


def families(yard):
    yard.services.scrape.apart_s = 0.0
    answer = yard.http.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith(
        "text/plain; version=0.0.4"
    )
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def names_of(yard):
    """Every metric that a server exports, with the suffix of counters."""
    return {f"{name}_total" if family.type == "counter" else name for name, family in families(yard).items()}


def one(family, **labels):
    (found,) = [s.value for s in family.samples if labels.items() <= s.labels.items()]
    return found


def test_a_card_has_its_figures_in_base_units_by_its_uuid_alone(yard):
    lived_in(yard)
    found = families(yard)
    assert one(found["tuneyard_gpu_utilization_ratio"]) == 0.5
    assert one(found["tuneyard_gpu_memory_used_bytes"]) == 5 * 2**30
    for name, family in found.items():
        if name.startswith(PER_CARD) and name not in ("tuneyard_gpu_info", "tuneyard_gpu_state"):
            assert all(set(sample.labels) == {"uuid"} for sample in family.samples), name
    (info,) = found["tuneyard_gpu_info"].samples
    assert (info.labels["host"], info.labels["gpu"], info.labels["job_name"]) == ("h1", "0", "one")
    assert (info.labels["job"], info.labels["user"], info.value) == ("1", "ada", 1.0)
    assert one(found["tuneyard_gpu_state"], state="busy") == 1
    assert sum(sample.value for sample in found["tuneyard_gpu_state"].samples) == 1


def test_jobs_attempts_and_the_server(yard):
    lived_in(yard)
    yard.submit(name="two")
    yard.tick()
    found = families(yard)
    assert one(found["tuneyard_jobs"], state="running") == 1
    assert one(found["tuneyard_jobs"], state="queued") == 1
    assert sum(s.value for s in found["tuneyard_queue_jobs"].samples) == 1
    assert one(found["tuneyard_attempts_started"]) == 1
    assert one(found["tuneyard_attempts_ended"], outcome="oom") == 0
    assert one(found["tuneyard_leader"]) == 1 and one(found["tuneyard_collect_success"]) == 1
    assert one(found["tuneyard_database_bytes"]) > 0 and one(found["tuneyard_ticks"]) > 0


def test_every_metric_is_there_though_nothing_happened_yet(yard):
    before = names_of(yard)
    lived_in(yard)
    assert names_of(yard) == before


def test_a_server_that_stands_by_exports_itself_alone(yard):
    lived_in(yard)
    yard.services.leadership = SimpleNamespace(leads=False, seen=None)
    found = families(yard)
    assert one(found["tuneyard_leader"]) == 0
    assert not [name for name in found if name.startswith((PER_CARD, "tuneyard_jobs", "tuneyard_collect"))]


def test_a_database_that_is_away_is_a_collection_that_failed(yard, monkeypatch):
    families(yard)

    def away():
        raise Unavailable("gone")

    monkeypatch.setattr(yard.services.store, "exported", away)
    found = families(yard)
    assert one(found["tuneyard_collect_success"]) == 0 and one(found["tuneyard_collect_failures"]) == 1
    assert one(found["tuneyard_collect_success_timestamp_seconds"]) == yard.now
    assert "tuneyard_gpu_info" not in found


def test_who_asks_soon_again_gets_the_same(yard):
    yard.services.scrape.apart_s = 60.0
    first = yard.http.get("/metrics").text
    yard.submit(name="two")
    assert yard.http.get("/metrics").text == first


@pytest.mark.parametrize(("path", "status"), [("/metrics", 200), ("/api/v1/jobs", 401)])
def test_the_scrape_token_opens_metrics_alone(yard, path, status):
    settings = replace(yard.services.settings, token="the-servers-own", scrape_token="for-prometheus-alone")
    gate = create_app(replace(yard.services, settings=settings))

    async def ask(token: str) -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://x") as http:
            return (await http.get(path, headers={"Authorization": f"Bearer {token}"})).status_code

    assert run(ask, "for-prometheus-alone") == status
    assert run(ask, "the-servers-own") == 200
    assert run(ask, "neither-of-them") == 401


def test_columns_are_text_that_a_scraper_reads():
    odd = ['a"b\\c\nd', "plain"]
    labels = labels_of(odd, ["x", "y"], names=("uuid", "state"))
    text = gauge_text("one", "What it is.", labels, [1.5, 2**53])
    text += counter_text("two", "What it counts.", labels, [None, float("inf")])
    one, two = text_string_to_metric_families(text)
    assert [(s.labels["uuid"], s.labels["state"], s.value) for s in one.samples] == [
        (odd[0], "x", 1.5),
        (odd[1], "y", 2.0**53),
    ]
    assert (one.type, two.type, two.name) == ("gauge", "counter", "tuneyard_two")
    assert [(s.labels["uuid"], s.value) for s in two.samples] == [("plain", float("inf"))]
