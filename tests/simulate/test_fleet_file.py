"""Fleet files, and what pools mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import SpecError, UsageError
from jobs.units import GiB
from orchestrator.scheduler.fleet import Project
from orchestrator.simulate.fleet_file import FleetFile, describe, load_fleet, read_clusters, read_fleet
from orchestrator.simulate.pools import misfits, with_borders
from orchestrator.simulate.trace import TraceJob

MIXED = """
hosts:
  - {name: big, gpus: 8, card: h100, pool: west, labels: {site: north}}
  - {count: 3, gpus: 4, card: rtx4090, pool: east}
projects:
  vision: {guarantee: 8, weight: 2}
  text: {borrows: false}
prices: {h100: 2.5}
"""


def faults(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read_fleet(text, "fleet.yaml")
    return [str(fault) for fault in caught.value.faults]


def job(gpus: int = 1, **values) -> TraceJob:
    return TraceJob(**{"job_id": 1, "submit_s": 0.0, "duration_s": 60.0, "gpus": gpus, **values})


def fits(one: TraceJob, fleet: FleetFile, borders: str = "pools") -> list[str]:
    return [str(fault) for _, fault in misfits([one], ["line 2"], fleet, borders)]


def test_hosts_cards_and_projects():
    fleet = read_fleet(MIXED, "fleet.yaml")
    assert [host.name for host in fleet.hosts] == ["big", "rtx4090-1", "rtx4090-2", "rtx4090-3"]
    assert fleet.hosts[0].labels == {"site": "north", "pool": "west"}
    assert (fleet.gpus, fleet.pools) == (20, {"west": 8, "east": 12})
    cards = [gpu for host in fleet.hosts for gpu in host.gpus]
    assert len({gpu.id for gpu in cards}) == len({gpu.uuid for gpu in cards}) == 20
    assert cards[0].price == 2.5 and cards[-1].price is None
    assert fleet.projects == {"vision": Project(8, 2.0), "text": Project(borrows=False)}
    assert fleet.warnings == ()
    assert describe(fleet).startswith("4 hosts, 2 pools: 8 × H100 80GB HBM3 79.11 GiB, 12 × GeForce RTX 4090")


def test_memory_of_a_card():
    (host,) = read_fleet("hosts: [{card: h100, memory: 40GiB}]", "f").hosts
    assert host.gpus[0].memory_bytes == 40 * GiB
    (host,) = read_fleet("hosts: [{card: 'cpu:2GiB', gpus: 2}]", "f").hosts
    assert [gpu.kind for gpu in host.gpus] == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hosts: [{card: h1000}]", "hosts[0].card: card 'h1000' is not in the catalogue; did you mean h100"),
        ("hosts: [{gpus: 2}]", "hosts[0].card: is required; write what people call it"),
        ("hosts: [{card: 4090}]", "hosts[0].card: is not text; put it in quotes (given: 4090)"),
        ("hosts: [{card: h100, gpu: 8}]", "hosts[0].gpu: unknown key (given: 8); did you mean gpus?"),
        ("hosts: [{card: h100, gpus: 0}]", "hosts[0].gpus: is no such number (given: 0)"),
        ("hosts: [{card: h100, gpus: true}]", "hosts[0].gpus: is no such number (given: True)"),
        ("hosts: [{card: h100, count: 2.5}]", "hosts[0].count: is no such number (given: 2.5)"),
        ("hosts: [{card: h100, count: 99999, gpus: 64}]", "hosts[0].count: makes it more than 100,000 GPUs"),
        ("hosts: [{card: h100, memory: 40}]", "hosts[0].card and memory: card 'h100:40' is not a size"),
        ("hosts: [h100]", "hosts[0]: is not a mapping of keys (given: h100)"),
        ("hosts: []", "hosts: is not a list of hosts"),
        ("host: []", "host: unknown key (given: []); did you mean hosts?"),
        ("hosts: [{card: h100, labels: north}]", "hosts[0].labels: is not a mapping"),
        ("hosts: [{card: h100, pool: [a]}]", "hosts[0].pool: is no name of a pool"),
        ("hosts: [{card: h100}]\nprojects: {a: {guarantee: -1}}", "projects.a.guarantee: is no such number"),
        ("hosts: [{card: h100}]\nprojects: {a: {weight: 0}}", "projects.a.weight: is no weight (given: 0)"),
        ("hosts: [{card: h100}]\nprojects: {a: {borrow: false}}", "projects.a.borrow: unknown key"),
        ("hosts: [{card: h100}]\nprojects: {a: {borrows: 3}}", "projects.a.borrows: is not true or false"),
        ("hosts: [{card: h100}]\nprojects: {a: 8}", "projects.a: is not a mapping of keys (given: 8)"),
        ("hosts: [{card: h100}]\nprices: {h100: free}", "prices: prices has h100='free'"),
        ("- h100", "file: is not a mapping of keys (given: list); it has a list of hosts"),
        ("hosts: [{card: h100", "not readable as YAML"),
        ("hosts: &a [*a]", "aliases"),
    ],
)
def test_a_fault_has_its_path(text: str, said: str):
    assert any(fault.startswith(said) or said in fault for fault in faults(text))


def test_every_fault_at_once():
    assert len(faults("hosts: [{card: x9}, {gpus: 0, card: h100}]\nprojects: {a: {weight: x}}")) == 3


def test_guarantees_above_the_fleet_are_warned_of():
    fleet = read_fleet(
        "hosts: [{card: h100, gpus: 4}]\nprojects: {a: {guarantee: 3}, b: {guarantee: 2}}", "f"
    )
    assert fleet.warnings == ("guarantees add up to 5 GPUs, the fleet has 4: they can't all be kept at once",)


def test_virtual_clusters():
    fleet = read_clusters("vc,nodes,gpus\na,2,16\nb,1,4\n", "vc.csv")
    assert fleet.pools == {"a": 16, "b": 4}
    assert [len(host.gpus) for host in fleet.hosts] == [8, 8, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vc,hosts,gpus\na,1,8", "line 1: is another header"),
        ("vc,nodes,gpus\na,0,8", "line 2: is no cluster (given: a,0,8)"),
        ("vc,nodes,gpus\na,3,16", "line 2, gpus: is no multiple of 3 nodes"),
        ("vc,nodes,gpus\na,1", "line 2: is no cluster"),
        ("vc,nodes,gpus\n", "file: has no cluster"),
    ],
)
def test_a_faulty_cluster_file(text: str, said: str):
    with pytest.raises(SpecError, match=said.replace("(", r"\(").replace(")", r"\)")):
        read_clusters(text, "vc.csv")


def test_files_that_can_not_be_read(tmp_path: Path):
    with pytest.raises(UsageError, match=r"gone\.yaml can't be read"):
        load_fleet(tmp_path / "gone.yaml")
    large = tmp_path / "large.yaml"
    large.write_text("#" * 300_000)
    with pytest.raises(UsageError, match="hosts alike share an entry"):
        load_fleet(large)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not text in UTF-8"):
        load_fleet(tmp_path / "b.yaml")


def test_pools_as_walls_guarantees_or_nothing():
    fleet = read_fleet(MIXED, "f")
    one = job(pool="west", project="vision")
    assert with_borders([one], fleet, "pools") == ([one], dict(fleet.projects))
    (opened,), projects = with_borders([one], fleet, "guarantees")
    assert (opened.pool, opened.project) == ("", "west")
    assert (projects["west"].guarantee, projects["east"].guarantee) == (8, 12)
    (opened,), projects = with_borders([one], fleet, "none")
    assert (opened.pool, opened.project, set(projects)) == ("", "vision", {"vision", "text"})


def test_what_the_file_guarantees_goes_before_what_the_pool_has():
    fleet = read_fleet(
        "hosts: [{card: h100, gpus: 8, pool: a}]\nprojects: {a: {guarantee: 2, weight: 3}}", "f"
    )
    assert with_borders([], fleet, "guarantees")[1] == {"a": Project(2, 3.0)}


def test_jobs_that_could_never_run():
    fleet = read_fleet(MIXED, "f")
    assert fits(job(12), fleet) == [], "over three hosts"
    (said,) = fits(job(13), fleet)
    assert said.startswith("line 2, gpus: the fleet has 12 GPUs of one type (given: 13)"), (
        "a gang stays on one"
    )
    assert fits(job(8, pool="west"), fleet) == []
    assert fits(job(9, pool="west"), fleet)[0].startswith("line 2, gpus: pool west has 8 GPUs (given: 9)")
    assert fits(job(9, pool="west"), fleet, "guarantees") == []
    assert fits(job(pool="wets"), fleet)[0].endswith(
        "is no pool of the fleet (given: wets); did you mean west?"
    )


def test_jobs_that_fit_only_some_cards():
    fleet = read_fleet(MIXED, "f")
    h100 = fleet.hosts[0].gpus[0].name
    assert fits(job(8, seconds_by_card=((h100, 60.0),)), fleet) == []
    assert "8 GPUs of the cards it fits" in fits(job(9, seconds_by_card=((h100, 60.0),)), fleet)[0]
    assert "0 GPUs of the cards it fits (L4)" in fits(job(1, seconds_by_card=(("L4", 60.0),)), fleet)[0]
