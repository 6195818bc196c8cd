"""GET /history: ended jobs for a simulation."""

from __future__ import annotations

from tests.api.conftest import Yard


def test_an_empty_history(yard: Yard) -> None:
    yard.submit()
    assert yard.http.get("/api/v1/history").json() == {"jobs": []}


def test_limits(yard: Yard) -> None:
    answer = yard.http.get("/api/v1/history?limit=0")
    assert answer.status_code == 422 and "limit" in answer.json()["error"]["message"]


def test_it_asks_for_the_token(yard: Yard) -> None:
    assert yard.http.get("/api/v1/history", headers={"Authorization": "Bearer wrong"}).status_code == 401
