"""Every route: what it refuses, it says; what its document says, it does. (conftest holds the rest against it.)"""

from __future__ import annotations

import re

import pytest

from tests.api.scheduling.test_scheduling import HOST, FakeHost, card
from tests.documented import DOCUMENT

OPERATIONS = [
    (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
EACH = [pytest.param(*one, id=one[2]["operationId"]) for one in OPERATIONS]
WITH_BODY = [
    pytest.param(*one, id=one[2]["operationId"])
    for one in OPERATIONS
    if "application/json" in one[2].get("requestBody", {}).get("content", {})
]
BODIES = {
    "forget": {"job": "7"},
    "join_host": {**HOST, "name": "vm", "gpus": []},
    "report_host": {"boot": "b", "sent": 1, "gpus": [], "attempts": []},
    "drain_host": {"drained": True},
    "fail_transfer": {"kind": "conflict", "message": "it is gone"},
    "set_job": {"overrides": {"name": "x"}},
    "set_project": {"weight": 2},
    "add_target": {"url": "https://example.org/hook"},
    "set_secret": {"value": "0123456789"},
}


def ask(yard, method, path, *, named="1", **given):
    return yard.http.request(method, re.sub(r"{\w+}", named, path), **given)


def known(operation):
    return {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}


@pytest.mark.parametrize(("method", "path", "operation"), EACH)
def test_a_parameter_that_a_route_does_not_take_is_refused_by_name(yard, method, path, operation):
    answer = ask(yard, method, f"{path}?limmit=1&x=&x=2", json=BODIES.get(operation["operationId"]))
    assert answer.status_code == 422, answer.text
    faults = answer.json()["error"]["faults"]
    assert [fault["path"] for fault in faults] == ["limmit", "x"]
    said = answer.json()["error"]["message"]
    for name in known(operation):
        assert name in said
    assert ("did you mean limit?" in said) == ("limit" in known(operation))
    assert ("it takes none" in said) == (not known(operation))
    assert yard.http.get("/api/v1/jobs").json()["total"] == 0


@pytest.mark.parametrize(("method", "path", "operation"), [one for one in EACH if known(one.values[2])])
def test_a_parameter_is_given_once(yard, method, path, operation):
    name = sorted(known(operation))[0]
    answer = ask(yard, method, f"{path}?{name}=1&{name}=2")
    assert answer.status_code == 422
    assert answer.json()["error"]["faults"][0]["path"] == name
    assert "more than once" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path", "operation"), WITH_BODY)
def test_a_body_that_is_no_json_is_refused_with_the_place(yard, method, path, operation):
    cases = {
        b'{"a": nul}': ("not JSON", "line 1, column 7", "nul}"),
        b'{\n"a"': ("not JSON", "line 2, column 4"),
        b'{"a": "\xff"}': ("not UTF-8", "byte 8"),
        b"[" * 200_000: ("nested too deeply",),
        b'{"a": ' + b"9" * 5000 + b"}": ("4300 digits",),
    }
    for body, words in cases.items():
        answer = ask(yard, method, path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, (body[:20], answer.text)
        (fault,) = answer.json()["error"]["faults"]
        assert fault["path"] == "body"
        for word in words:
            assert word in str(fault), (word, fault)


FROM_HOSTS = ("join_host", "report_host", "fail_transfer")  # one of a newer version may tell more


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [one for one in WITH_BODY if one.values[2]["operationId"] not in FROM_HOSTS],
)
def test_a_key_that_a_body_does_not_have_is_refused_by_name(yard, method, path, operation):
    name = operation["operationId"]
    answer = ask(yard, method, path, json={**BODIES.get(name, {}), "colour": "red"})
    assert answer.status_code == 422, answer.text
    assert "colour" in [fault["path"] for fault in answer.json()["error"]["faults"]]


def test_a_body_of_another_kind_is_told_what_to_send(yard):
    answer = yard.http.post("/api/v1/plan", content=b"job: {}", headers={"Content-Type": "text/yaml"})
    (fault,) = answer.json()["error"]["faults"]
    assert (answer.status_code, fault["path"]) == (422, "body")
    assert "application/json" in fault["fix"]


@pytest.mark.parametrize("given", ["yes", "", "2", "True "])
def test_dry_run_is_true_or_false_and_nothing_is_stored_in_doubt(yard, given):
    answer = yard.http.post("/api/v1/jobs", params={"dry_run": given}, json={"jobs": [yard.job()]})
    assert answer.status_code == 422
    assert answer.json()["error"]["faults"][0]["path"] == "dry_run"
    assert yard.http.get("/api/v1/jobs").json()["total"] == 0


@pytest.mark.parametrize(("method", "path", "operation"), EACH)
def test_what_stands_in_front_of_every_route_answers_as_documented(yard, method, path, operation):
    documented = set(operation["responses"])
    refused = ask(yard, method, path, headers={"Authorization": "Bearer wrong"})
    assert (refused.status_code == 401) == ("401" in documented)
    large = ask(yard, method, path, headers={"Content-Length": str(2**40)}, content=b"{}")
    assert large.status_code == 413 and "413" in documented


@pytest.mark.parametrize(
    ("method", "path", "operation"), [one for one in EACH if "404" in one.values[2]["responses"]]
)
def test_what_may_be_missing_is_a_404(yard, method, path, operation):
    name = operation["operationId"]
    where = path + {"list_jobs": "?group=7", "events": "?job=7"}.get(name, "")
    queries = {
        "job_result_files": {"manifest": "x"},
        "send_piece": {"offset": 0, "total": 1},
        "series": {"kind": "job", "of": "7"},
    }
    query = queries.get(name)
    answer = ask(yard, method, where, named="7", json=BODIES.get(name), params=query)
    assert answer.status_code == 404, answer.text


def test_what_is_in_the_wrong_state_is_a_409(yard):
    """All routes that document one, but those of transfers, which tests/transfer has."""
    yard.submit(name="queued")
    yard.http.post(f"/api/v1/jobs/{yard.submit(name='ended')['id']}/cancel")
    FakeHost(yard, card(0, 2))
    other = {**HOST, "name": "h1", "gpus": [], "machine_id": "another"}
    yard.services.settings.vault.path.write_text("no key of secrets")
    cases = {
        "cancel_job": ("ended", None, None),
        "hold_job": ("ended", None, None),
        "release_job": ("queued", None, None),
        "requeue_job": ("queued", None, None),
        "set_job": ("ended", BODIES["set_job"], None),
        "job_result": ("queued", None, None),
        "job_result_files": ("queued", None, {"manifest": "x"}),
        "join_host": ("", other, None),
        "add_target": ("", BODIES["add_target"], None),
        "set_secret": ("TOKEN", BODIES["set_secret"], None),
    }
    # Every GET answers so where what is stored can't be read (tests/api/edge/test_unreadable.py).
    reads = {one[2]["operationId"] for one in OPERATIONS if one[0] == "get"} - cases.keys()
    documented = {one[2]["operationId"] for one in OPERATIONS if "409" in one[2]["responses"]}
    assert documented - reads == {*cases, "send_piece"} and reads <= documented
    for method, path, operation in OPERATIONS:
        if (name := operation["operationId"]) in cases:
            named, body, query = cases[name]
            answer = ask(yard, method, path, named=named, json=body, params=query)
            assert answer.status_code == 409, (name, answer.text)
