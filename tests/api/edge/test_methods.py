"""Methods that a route does not take, HEAD, and numbers that no database holds."""

from __future__ import annotations

import re

import pytest

from tests.api.edge.test_answers import BODIES, EACH
from tests.api.scheduling.test_scheduling import FakeHost, card
from tests.documented import DOCUMENT

PATHS = sorted(DOCUMENT["paths"])
HUGE = (2**63, -(2**63) - 1, 2**200)
WITH_INTEGERS = [
    pytest.param(method, path, one["name"], one["in"], id=f"{operation['operationId']}-{one['name']}")
    for method, path, operation in (param.values for param in EACH)
    for one in operation.get("parameters", ())
    if one["in"] == "path" or "integer" in str(one["schema"])
]


@pytest.mark.parametrize("path", PATHS)
def test_a_method_that_it_does_not_take_is_told_those_that_it_does(yard, path):
    takes = {method.upper() for method in DOCUMENT["paths"][path]}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - takes:
        answer = yard.http.request(method, re.sub(r"{\w+}", "1", path))
        assert answer.status_code == 405, (method, path)
        allowed = takes | ({"HEAD"} if "GET" in takes else set())
        assert set(answer.headers["Allow"].split(", ")) == allowed
        assert answer.headers["Allow"] in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_its_body(yard, path):
    where = re.sub(r"{\w+}", "1", path)
    if "get" not in DOCUMENT["paths"][path] or path.endswith("/files"):
        assert yard.http.head(where).status_code == 405
        return
    head, get = yard.http.head(where), yard.http.get(where)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(("method", "path", "name", "place"), WITH_INTEGERS)
def test_a_number_that_no_database_holds_is_refused_or_is_nobodys(yard, method, path, name, place):
    yard.submit(name="a")
    operation = DOCUMENT["paths"][path][method]["operationId"]
    for number in HUGE:
        where = path.replace(f"{{{name}}}", str(number)) if place == "path" else path
        query = {"offset": 0, "total": 1} if operation == "send_piece" else {}
        query |= {"manifest": "x"} if operation == "job_result_files" else {}
        query |= {name: number} if place == "query" else {}
        where = re.sub(r"{\w+}", "1", where)
        answer = yard.http.request(method, where, params=query, json=BODIES.get(operation))
        assert answer.status_code in (200, 404, 409, 422), (number, answer.text)


def test_a_number_in_a_body_that_no_database_holds_is_refused(yard):
    host = FakeHost(yard, card(0, 2))
    sample = {"uuid": host.cards[0]["uuid"], "ts": 1.0, "memory_used_bytes": 2**63}
    attempt = {"attempt_id": 2**63, "number": 1}
    for news in ({"samples": [sample]}, {"attempts": [attempt]}, {"running": [2**63]}, {"kept": [2**63]}):
        body = {"boot": "b", "sent": 1.0, "gpus": host.cards, "ray_ready": True, **news}
        answer = yard.http.post(f"/api/v1/hosts/{host.id}/report", json=body)
        assert answer.status_code in (200, 422), (news, answer.text)
    gpu = {**host.cards[0], "memory_bytes": 2**63, "uuid": "another"}
    answer = yard.http.post(f"/api/v1/hosts/{host.id}/report", json={"boot": "b", "sent": 1.0, "gpus": [gpu]})
    assert answer.status_code == 422 and "whole numbers up to 9223372036854775807" in answer.text
    answer = yard.http.post("/api/v1/jobs", json={"jobs": [yard.job(after=[2**63])]})
    assert answer.status_code == 422
