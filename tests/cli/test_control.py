"""logs, cancel, requeue, host drain."""

from __future__ import annotations

import threading
import time

from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import FakeServer

LOG = "".join(f"step {i} of the log, with ünïcode\n" for i in range(30))


def test_the_whole_log_is_printed(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.logs[1, 1] = "x" * 120
    scenes.running(server)
    assert tuneyard("logs", "1").out == "x" * 120 + "\n"
    whole = {"attempt": 1, "text": "x" * 120 + "\n", "ended": False, "left_out_bytes": 0}
    assert tuneyard("logs", "1", "--json").json == whole


def test_the_log_of_one_attempt(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.logs = {(1, 1): "first\n", (1, 2): "second\n"}
    scenes.running(server, attempts=2)
    assert tuneyard("logs", "1").out == "second\n"
    assert tuneyard("logs", "1", "--attempt", "1").out == "first\n"
    ran = tuneyard("logs", "1", "--attempt", "3")
    assert (ran.code, ran.err) == (
        2,
        "error: job 1 (docs-lora) has 2 attempts; --attempt 3 is not one\n",
    )


def test_a_log_that_is_not_there_yet(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.waiting(server)
    ran = tuneyard("logs", "1")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == (
        "job 1 (too-big) has not started: needs 91.20 GiB at least; the largest card has 39.56 GiB\n"
    )
    assert tuneyard("logs", "1", "--json").json == {"attempt": None, "text": "", "ended": False}


def test_follow_goes_on_to_the_end(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.logs[1, 1] = LOG.encode().decode("ascii", "ignore")
    job = scenes.running(server)

    def more() -> None:
        while not any("/logs" in path for _, path, _ in server.requests):  # it has been seen to run by then
            time.sleep(0.02)
        server.logs[1, 1] += "the last line\n"
        server.end(job, "succeeded", text="100 steps")

    thread = threading.Thread(target=more)
    thread.start()
    ran = tuneyard("logs", "-f", "1")
    thread.join()
    assert ran.code == 0
    assert ran.out == server.logs[1, 1]
    assert ran.err.splitlines() == [
        "job 1 (docs-lora) is running on box-1 (A100-40GB)",
        "job 1 (docs-lora) succeeded: 100 steps",
    ]
    ran = tuneyard("logs", "-f", "1", "--json")
    assert ran.json["text"] == server.logs[1, 1]


def test_follow_of_one_attempt_ends_with_it(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.logs = {(1, 1): "first\n", (1, 2): "second\n"}
    details = [scenes.attempt(1), scenes.attempt(2)]
    scenes.running(server, attempts=2, attempts_detail=details)
    assert tuneyard("logs", "-f", "1", "--attempt", "1").out == "first\n"


def test_cancel(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.running(server)
    scenes.waiting(server)
    ran = tuneyard("cancel", "docs-lora", "2")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "job 1 (docs-lora) is asked to stop\njob 2 (too-big) is cancelled\n"


def test_one_that_can_not_be_cancelled_does_not_keep_the_others(
    tuneyard: Tuneyard, server: FakeServer
) -> None:
    server.end(scenes.waiting(server), "failed")
    scenes.running(server)
    ran = tuneyard("cancel", "1", "2", "99")
    assert ran.code == 1
    assert ran.out == "job 2 (docs-lora) is asked to stop\n"
    assert ran.err.splitlines() == [
        "error: job 1 has ended (failed); there is nothing to cancel",
        "error: there is no job 99",
    ]
    ran = tuneyard("cancel", "1", "2", "--json")
    assert ran.code == 1
    assert ran.json["error"]["kind"] == "conflict"
    assert [job["id"] for job in ran.json["jobs"]] == [2]


def test_requeue(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.end(scenes.waiting(server), "failed")
    said = tuneyard("requeue", "1").out
    assert said == "job 1 is queued again as job 2 (too-big); it goes on from step 600 of job 1\n"
    assert tuneyard("requeue", "1", "--json").json["jobs"][0]["id"] == 3


def test_requeue_sends_what_is_to_change(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.end(scenes.waiting(server), "failed")
    asked = ("--set", "time_limit=8h", "--set", "method.rank=8", "--from-start")
    assert tuneyard("requeue", "1", *asked).code == 0
    (body,) = [body for _, path, body in server.requests if path.endswith("/requeue")]
    assert (body["overrides"], body["from_start"]) == ({"time_limit": "8h", "method.rank": 8}, True)
    for wrong in (["--set", "time_limit"], ["--set", "a=1", "--set", "a=2"]):
        ran = tuneyard("requeue", "1", *wrong)
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)


def test_drain(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.hosts = [scenes.host("box-1")]
    assert tuneyard("host", "drain", "box-1").out == "box-1 gets no new jobs\n"
    assert tuneyard("host", "undrain", "box-1").out == "box-1 gets jobs again\n"
    sent = [(path, body) for _, path, body in server.requests if path.endswith("/drain")]
    assert sent == [
        ("/api/v1/hosts/box-1/drain", {"drained": True}),
        ("/api/v1/hosts/box-1/drain", {"drained": False}),
    ]
