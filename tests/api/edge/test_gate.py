"""Without the token nothing answers but health; every error has one shape."""

from __future__ import annotations

import pytest

from orchestrator.api.app import PREFIX


def every_route(app):
    for path, methods in app.openapi()["paths"].items():
        yield from ((method.upper(), path) for method in methods)


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "test-token"}])
def test_every_route_and_method_needs_the_token(yard, header):
    routes = {(method, path) for method, path in every_route(yard.http.app.gate.app)}
    assert len(routes) >= 12
    yard.http.headers.pop("Authorization")
    tried = routes | {(method, f"{PREFIX}/jobs") for method in ("DELETE", "PUT", "PATCH", "OPTIONS", "HEAD")}
    tried |= {("GET", f"{PREFIX}/openapi.json"), ("POST", f"{PREFIX}/health"), ("GET", f"{PREFIX}/stream")}
    for method, path in tried - {("GET", f"{PREFIX}/health")}:
        answer = yard.http.request(
            method, path.replace("{job}", "1").replace("{host_id}", "1"), headers=header
        )
        assert answer.status_code == 401, (method, path)
        if method != "HEAD":
            assert answer.json()["error"]["kind"] == "unauthorized"
    assert yard.http.get(f"{PREFIX}/health").json()["status"] == "ok"


def test_an_unknown_route_is_a_404_in_our_shape(yard):
    answer = yard.http.get(f"{PREFIX}/nothing")
    assert answer.status_code == 404
    assert answer.json()["error"]["kind"] == "not_found"
    assert yard.http.delete(f"{PREFIX}/jobs").status_code == 405


def test_a_body_without_or_beyond_its_length_is_refused(yard):
    answer = yard.http.post(f"{PREFIX}/jobs", content=iter([b"{}"]))
    assert answer.status_code == 413
    answer = yard.http.post(f"{PREFIX}/jobs", headers={"Content-Length": str(2**40)}, content=b"{}")
    assert answer.status_code == 413
