"""Routes of projects: good, bad and without a token."""

from __future__ import annotations

import pytest

from orchestrator.api.app import PREFIX
from tests.builders import joined

PROJECTS = f"{PREFIX}/projects"
OURS = {
    "name": "ours",
    "guarantee": 2,
    "weight": 1.5,
    "borrows": False,
    "own_terms": True,
    "queued": 0,
    "gpus": 0,
}


def test_projects_are_set_listed_and_removed(yard):
    joined(yard.services.store, gpus=2)
    terms = {"guarantee": 2, "weight": 1.5, "borrows": False}
    made = yard.http.put(f"{PROJECTS}/ours", json=terms)
    assert made.json() == {"projects": [OURS], "gpus": 2, "warnings": []}
    yard.submit(project="ours")
    yard.submit()
    listed = yard.http.get(PROJECTS).json()["projects"]
    default = {"name": "default", "guarantee": None, "weight": 1.0, "borrows": True, "own_terms": False}
    assert listed == [{**default, "queued": 1, "gpus": 0}, {**OURS, "queued": 1}]
    only = yard.http.put(f"{PROJECTS}/ours", json={"guarantee": None}).json()["projects"][1]
    assert (only["guarantee"], only["weight"], only["borrows"]) == (None, 1.5, False)
    (warning,) = yard.http.get(PROJECTS).json()["warnings"]
    assert warning.startswith("ours may not borrow but has no guarantee")
    gone = yard.http.delete(f"{PROJECTS}/ours").json()["projects"][1]
    assert (gone["own_terms"], gone["weight"], gone["queued"]) == (False, 1.0, 1)
    assert yard.http.get(PROJECTS).json()["warnings"] == []
    assert yard.http.delete(f"{PROJECTS}/ours").status_code == 404


def test_guarantees_that_the_fleet_can_not_keep_are_warned_of(yard):
    joined(yard.services.store, gpus=3)
    assert yard.http.put(f"{PROJECTS}/a", json={"guarantee": 2}).json()["warnings"] == []
    (warning,) = yard.http.put(f"{PROJECTS}/b", json={"guarantee": 2}).json()["warnings"]
    assert warning == "guarantees add up to 4 GPUs, and the fleet has 3: not all can be kept at once"
    assert yard.http.get(PROJECTS).json()["warnings"] == [warning]


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ({"guarantee": -1}, "guarantee"),
        ({"guarantee": 2.5}, "guarantee"),
        ({"guarantee": "8"}, "guarantee"),
        ({"weight": 0}, "weight"),
        ({"weight": -2}, "weight"),
        ({"weight": None}, "weight"),
        ({"borrows": "yes"}, "borrows"),
        ({"guarante": 8}, "guarante"),
        ([], "body"),
    ],
)
def test_bad_terms_are_named_and_nothing_is_stored(yard, terms, named):
    answer = yard.http.put(f"{PROJECTS}/ours", json=terms)
    assert answer.status_code == 422 and named in answer.json()["error"]["message"]
    assert yard.http.get(PROJECTS).json()["projects"] == []


@pytest.mark.parametrize("name", ["-x", "a b", "n" * 101])
def test_bad_names_are_refused(yard, name):
    answer = yard.http.put(f"{PROJECTS}/{name}", json={"weight": 2})
    assert answer.status_code == 422 and "is no name" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PUT", "/ours"), ("DELETE", "/ours")])
def test_without_the_token_nothing_is_told_or_changed(yard, method, path):
    answer = yard.http.request(method, PROJECTS + path, headers={"Authorization": ""})
    assert answer.status_code == 401
    assert yard.http.get(PROJECTS).json()["projects"] == []
