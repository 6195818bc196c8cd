"""Routes of notifications: a target's URL and key are told to nobody once it is added."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.api.app import PREFIX

URL = "https://hooks.example.org/services/T0/very-secret"


def test_a_target_is_added_listed_tested_and_removed(yard, tmp_path):
    made = yard.http.post(f"{PREFIX}/notify", json={"url": URL, "project": "ours", "on": ["failed"]}).json()
    assert made["id"] == 1 and len(made["key"]) > 40
    (one,) = yard.http.post(f"{PREFIX}/notify/1/test", json={}).json()["targets"]
    assert one == {
        "id": 1, "kind": "webhook", "host": "hooks.example.org", "project": "ours", "on": ["failed"], "waiting": 1,
    }  # fmt: skip
    for path in ("notify", "events", "audit"):
        text = yard.http.get(f"{PREFIX}/{path}").text
        assert "very-secret" not in text and made["key"] not in text
    assert b"very-secret" not in (tmp_path / "test.db").read_bytes()
    assert yard.http.delete(f"{PREFIX}/notify/1").json() == {"targets": []}
    assert yard.http.delete(f"{PREFIX}/notify/1").status_code == 404
    assert yard.http.post(f"{PREFIX}/notify/1/test", json={}).status_code == 404


@pytest.mark.parametrize(
    "given",
    [
        {"url": "ftp://x"},
        {"url": URL, "on": ["birthday"]},
        {"url": URL, "project": "a b"},
        {"url": URL, "kind": "fax"},
        {"url": "mailto:ada@example.org", "kind": "email"},  # this server sends no e-mail
    ],
)
def test_what_is_no_target_is_refused(yard, given):
    assert yard.http.post(f"{PREFIX}/notify", json=given).status_code == 422
    assert yard.http.get(f"{PREFIX}/notify").json() == {"targets": []}


def test_a_mailbox_is_a_target_where_the_server_sends_mail(yard):
    yard.services.settings = dataclasses.replace(yard.services.settings, smtp_url="smtp://mail.example.org")
    given = {"url": "mailto:ada@example.org", "kind": "email", "on": ["waiting"]}
    assert yard.http.post(f"{PREFIX}/notify", json=given).status_code == 200
    (one,) = yard.http.post(f"{PREFIX}/notify/1/test", json={}).json()["targets"]
    assert (one["kind"], one["host"], one["waiting"]) == ("email", "ada@example.org", 1)
    for wrong in (
        "ada@example.org",
        "mailto:ada",
        "mailto:a@b.org,c@d.org",
        "mailto:a@b.org?cc=c@d.org",
        URL,
    ):
        answer = yard.http.post(f"{PREFIX}/notify", json={"url": wrong, "kind": "email"})
        assert answer.status_code == 422 and "url: " in answer.text, answer.text
