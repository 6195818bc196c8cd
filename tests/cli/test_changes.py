"""set, hold, release and audit."""

from __future__ import annotations

import time

from orchestrator.cli.render import words
from orchestrator.client.client import Client
from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import TOKEN, FakeServer


def test_set_sends_each_key_and_the_folder_that_paths_are_read_from(
    tuneyard: Tuneyard, server: FakeServer, tmp_path
) -> None:
    scenes.waiting(server)
    ran = tuneyard("set", "1", "priority=75", "method.targets=[q_proj, v_proj]", "data=new.jsonl")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("job 1 (too-big) has priority=75, ")
    method, path, body = server.requests[-1]
    assert (method, path) == ("PATCH", "/api/v1/jobs/1")
    assert body == {
        "overrides": {"priority": 75, "method.targets": ["q_proj", "v_proj"], "data": "new.jsonl"},
        "base_dir": str(tmp_path),
    }
    assert tuneyard("set", "1", "priority=high", "--json").json["priority"] == "high"


def test_set_without_a_value_or_with_two_is_refused_before_the_server_is_asked(
    tuneyard: Tuneyard, server: FakeServer
) -> None:
    scenes.waiting(server)
    for given, said in (("priority", "write KEY=VALUE"), ("=5", "write KEY=VALUE")):
        ran = tuneyard("set", "1", given)
        assert (ran.code, said in ran.err, "--set" in ran.err) == (2, True, False)
    assert "set twice" in tuneyard("set", "1", "priority=1", "priority=2").err
    assert tuneyard("set", "1").code == 2
    assert not server.requests


def test_hold_and_release(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.waiting(server)
    scenes.running(server)
    ran = tuneyard("hold", "1", "2")
    assert (ran.code, ran.out) == (1, "job 1 (too-big) is held\n")
    assert "a hold keeps a queued job from starting" in ran.err
    assert "held by ada since" in tuneyard("list").out
    assert "held by ada since" in tuneyard("why", "1").out
    assert tuneyard("release", "1").out == "job 1 (too-big) is released\n"
    assert tuneyard("hold", "1", "--json").json["jobs"][0]["reason"]["code"] == "held"


def test_hold_and_release_a_whole_sweep(tuneyard: Tuneyard, server: FakeServer) -> None:
    for state in ("queued", "queued", "running"):
        server.add(name=f"lr-{len(server.jobs) + 1}", group=1, state=state)
    ran = tuneyard("hold", "--group", "lr")
    assert (ran.code, ran.out) == (0, "job 1 (lr-1) is held\njob 2 (lr-2) is held\n")
    ran = tuneyard("hold", "--group", "1")
    assert (ran.code, ran.out, ran.err) == (0, "", "no job of group 1 was queued and not held\n")
    assert len(tuneyard("release", "--group", "lr", "--json").json["jobs"]) == 2
    assert tuneyard("release", "--group", "lr").err == "no job of group lr was held\n"
    with Client(server.url, TOKEN) as client:
        assert [job["id"] for job in client.hold_group("lr")] == [1, 2]
        assert [job["id"] for job in client.release_group(1)] == [1, 2]
    for verb in ("hold", "release"):
        for given in ((), ("1", "--group", "lr")):
            ran = tuneyard(verb, *given)
            assert (ran.code, f"give jobs to {verb} or --group G" in ran.err) == (2, True)


def test_a_hold_says_since_when_and_what_ends_it() -> None:
    now = time.mktime((2026, 3, 4, 14, 5, 0, 0, 0, -1))
    text = "held by an: na: `tuneyard release 12` lets it start"
    reason = {"code": "held", "text": text, "figures": {"by": "an: na", "since": now}}
    said = "held by an: na since 14:05: `tuneyard release 12` lets it start"
    assert words.why(reason, now + 3600) == said
    assert "since Wed 14:05" in words.why(reason, now + 86_400)
    assert "since 4 Mar 14:05" in words.why(reason, now + 30 * 86_400)
    nobody = {**reason, "text": "held: `x`", "figures": {"by": "", "since": now}}
    assert words.why(nobody, now) == "held since 14:05: `x`"


def test_a_submission_may_be_held(tuneyard: Tuneyard, server: FakeServer) -> None:
    assert tuneyard("submit", "--model", "org/m", "--data", "d.jsonl", "--hold").code == 0
    assert server.requests[-1][2]["hold"] is True
    ran = tuneyard("submit", "--model", "org/m", "--data", "d.jsonl", "--hold", "--wait")
    assert (ran.code, "a held job does not start" in ran.err) == (2, True)


def test_audit_says_who_and_from_where(tuneyard: Tuneyard, server: FakeServer) -> None:
    assert tuneyard("audit").err == "nobody asked for anything yet\n"
    action = {"id": 7, "ts": time.time() - 120, "kind": "held", "text": "held", "job": 1}
    action |= {"subject": "job 1 (a)", "by": "anna", "address": "10.0.0.7"}
    server.audit = {"actions": [action, {**action, "by": "", "address": ""}], "more": True}
    ran = tuneyard("audit", "-n", "2")
    first, second = ran.out.splitlines()[1:]
    assert first.split() == ["2m", "ago", "anna", "10.0.0.7", "job", "1", "(a)", "held", "held"]
    assert second.split()[2:4] == ["-", "-"]
    assert ran.err == "older ones: tuneyard audit --before 7\n"
    assert server.requests[-1][1] == "/api/v1/audit?limit=2"


def test_show_says_who_asked(tuneyard: Tuneyard, server: FakeServer) -> None:
    job = scenes.waiting(server)
    job["events"] = [
        {"ts": 1.0, "kind": "held", "text": "held", "attempt": None, "by": "anna", "address": "::1"},
        {"ts": 2.0, "kind": "started", "text": "opened", "attempt": 1, "by": None, "address": None},
    ]
    shown = tuneyard("show", "1").out
    assert "held, by anna from ::1\n" in shown and "opened\n" in shown


def test_every_request_says_who_asks(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.waiting(server)
    tuneyard("cancel", "1", LOGNAME="anna b", USER="anna b")
    assert server.users[-1] == "anna%20b"


def test_the_client_does_the_same(server: FakeServer) -> None:
    scenes.waiting(server)
    with Client(server.url, TOKEN) as client:
        assert client.hold(1)["reason"]["code"] == "held"
        assert client.release(1)["reason"]["code"] == "new"
        assert client.change(1, {"priority": 75})["priority"] == 75
        assert client.audit()["actions"] == []
        assert client.submit({"model": "org/m", "data": "d.jsonl"}, hold=True)["state"] == "queued"
    assert server.requests[-1][2]["hold"] is True and all(server.users)
