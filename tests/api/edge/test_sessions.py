"""Signing in to the page: cookies, links that sign in once, and who may not ask with them."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from orchestrator.api.browsers.sessions import FAILURES_S, LIFE_S, MOST_FAILURES, TICKET_S, Sessions
from tests.api.conftest import TOKEN

SESSION = "/api/v1/session"
OURS = {"Origin": "http://localhost:7420", "Host": "localhost:7420"}


@pytest.fixture
def browser(yard):
    """A client without the token, as a browser asks from our page."""
    with TestClient(yard.http.app, base_url="http://localhost:7420") as made:
        made.headers.update({"Sec-Fetch-Site": "same-origin"})
        yield made


def sign_in(browser, **body):
    return browser.post(SESSION, json=body or {"token": TOKEN, "user": "ada"})


def test_nothing_is_readable_before_and_everything_after(yard, browser):
    assert browser.get("/api/v1/jobs").status_code == 401
    assert browser.get("/api/v1/stream").status_code == 401
    assert browser.get(SESSION).json() == {"user": None, "until": None}
    answer = sign_in(browser)
    assert answer.json() == {"user": "ada", "until": yard.now + LIFE_S}
    said = answer.headers["Set-Cookie"].lower()
    for word in ("httponly", "samesite=strict", "path=/", "max-age=604800"):
        assert word in said
    assert TOKEN not in said
    assert browser.get("/api/v1/jobs").status_code == 200
    assert browser.get(SESSION).json()["user"] == "ada"


def test_what_is_done_is_noted_under_the_name_that_signed_in(yard, browser):
    sign_in(browser)
    made = browser.post(
        "/api/v1/jobs", json={"jobs": [yard.job(name="a")]}, headers={"X-Tuneyard-User": "somebody%20else"}
    )
    assert made.json()["jobs"][0]["user"] == "ada"
    assert browser.post("/api/v1/jobs/1/hold", headers={"X-Tuneyard-User": "eve"}).status_code == 200
    assert yard.http.get("/api/v1/audit").json()["actions"][0]["by"] == "ada"


def test_signing_out_ends_the_session_though_the_cookie_was_kept(browser):
    sign_in(browser)
    kept = dict(browser.cookies)
    assert browser.delete(SESSION).status_code == 204
    assert not browser.cookies
    browser.cookies.update(kept)
    assert browser.get("/api/v1/jobs").status_code == 401


def test_a_session_ends_after_a_week(yard, browser):
    sign_in(browser)
    yard.now += LIFE_S - 1
    assert browser.get("/api/v1/jobs").status_code == 200
    yard.now += 2
    assert browser.get("/api/v1/jobs").status_code == 401


@pytest.mark.parametrize("place", [0, 5, -1])
def test_a_cookie_that_was_changed_is_none(yard, browser, place):
    sign_in(browser)
    ((name, value),) = browser.cookies.items()
    other = "A" if value[place] != "A" else "B"
    changed = value[:place] + other + (value[place + 1 :] if place != -1 else "")
    browser.cookies.clear()
    # The last letter of a digest has two bits that mean nothing; all others must tell.
    answer = browser.get("/api/v1/jobs", headers={"Cookie": f"{name}={changed}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("value", ["", ".", "x", "é", "a.b.c", "W10.", "." * 5000])
def test_what_is_no_cookie_of_ours_is_refused(browser, value):
    headers = [(b"cookie", f"tuneyard_7420={value}".encode())]
    assert browser.get("/api/v1/jobs", headers=headers).status_code == 401


def test_servers_of_one_token_take_each_others_cookies_and_others_do_not():
    first, second = Sessions("one token", lambda: 0.0), Sessions("one token", lambda: 0.0)
    other = Sessions("another token", lambda: 0.0)
    cookie = first.cookie_of(first.with_token("one token", "ada", "here"))
    assert second.of_cookie(cookie).user == "ada"
    assert other.of_cookie(cookie) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another port of this machine
        {"Sec-Fetch-Site": "", "Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "", "Origin": "null"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": ""},
    ],
)
def test_another_page_changes_nothing_with_our_cookie(browser, headers):
    sign_in(browser)
    answer = browser.post("/api/v1/jobs", json={"jobs": []}, headers=headers)
    assert answer.status_code == 401, answer.text
    assert "page" in answer.text


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_page_reads_nothing_with_our_cookie(browser, site):
    sign_in(browser)
    assert browser.get("/api/v1/jobs", headers={"Sec-Fetch-Site": site}).status_code == 401


def test_a_browser_that_says_its_origin_alone_is_served(browser):
    sign_in(browser)
    headers = {"Sec-Fetch-Site": "", "Origin": "http://localhost:7420"}
    assert browser.post("/api/v1/jobs", json={"jobs": []}, headers=headers).status_code == 422


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7420", "", "127.0.0.1.evil.example"])
def test_a_name_that_is_not_ours_gets_neither_page_nor_data(browser, host):
    sign_in(browser)
    ((name, value),) = browser.cookies.items()
    headers = {"Host": host, "Cookie": f"{name}={value}"}
    assert browser.get("/", headers=headers).status_code == 421
    assert browser.get("/api/v1/jobs", headers=headers).status_code == 401
    assert browser.post(SESSION, json={"token": TOKEN}, headers=headers).status_code == 401


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:7420", "[::1]:7420", "10.1.2.3", "x.localhost"])
def test_addresses_and_localhost_are_ours(browser, host):
    assert browser.get("/", headers={"Host": host}).status_code == 200


def test_a_program_with_the_token_may_use_any_name(yard):
    assert yard.http.get("/api/v1/jobs", headers={"Host": "evil.example"}).status_code == 200


def test_who_guesses_has_to_wait(yard, browser):
    for _ in range(MOST_FAILURES):
        assert sign_in(browser, token="wrong").status_code == 401
    answer = sign_in(browser)
    assert (answer.status_code, int(answer.headers["Retry-After"])) == (429, FAILURES_S)
    yard.now += FAILURES_S + 1
    assert sign_in(browser).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"token": 5}', b'{"token": null, "user": {}}'])
def test_what_is_no_sign_in_is_refused_in_our_shape(browser, body):
    answer = browser.post(SESSION, content=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["faults"]


def test_a_link_signs_in_once(yard, browser):
    made = yard.http.post(f"{SESSION}/ticket", headers={"X-Tuneyard-User": "bo"}).json()
    assert made["url"] == f"http://127.0.0.1:7420/#ticket={made['ticket']}"
    assert sign_in(browser, ticket=made["ticket"]).json()["user"] == "bo"
    answer = sign_in(browser, ticket=made["ticket"])
    assert answer.status_code == 401
    assert "tuneyard web" in answer.text


def test_a_link_is_for_ten_minutes(yard, browser):
    made = yard.http.post(f"{SESSION}/ticket").json()
    yard.now += TICKET_S
    assert sign_in(browser, ticket=made["ticket"]).status_code == 401


def test_a_session_makes_no_links(browser):
    sign_in(browser)
    assert browser.post(f"{SESSION}/ticket").status_code == 401
