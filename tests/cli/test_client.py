"""The typed Python client against the same fake server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.errors import (
    Conflict,
    InputError,
    NotFound,
    SpecError,
    Unauthorized,
    Unavailable,
    UsageError,
)
from orchestrator.client.client import Client
from tests.cli import scenes
from tests.cli.fake_server import TOKEN, FakeServer


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.url, TOKEN) as made:
        yield made


def test_submit_in_three_ways(client: Client, server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("model: a\ndata: b\n")
    job = client.submit({"model": "a", "data": "b"}, {"training.steps": 3})
    assert (job["id"], job["state"]) == (1, "queued")
    assert [job["id"] for job in client.submit_all(["model: a\ndata: b", file])] == [2, 3]
    bodies = [job for _, path, body in server.requests if path == "/api/v1/jobs" for job in body["jobs"]]
    assert bodies[0]["overrides"] == {"training.steps": 3}
    assert bodies[2]["base_dir"] == str(tmp_path)
    with pytest.raises(SpecError) as caught:
        client.submit({"model": "a", "retries": -1})
    assert {fault.path for fault in caught.value.faults} == {"data", "retries"}


def test_read(client: Client, server: FakeServer) -> None:
    scenes.running(server)
    scenes.waiting(server)
    server.logs[1, 1] = "line\n" * 40
    server.gpus, server.hosts = [scenes.gpu(1)], [scenes.host("box-1")]
    server.plans = [(202, {"pending": "k", "text": "tracing"}), (200, scenes.plan())]
    assert client.health()["status"] == "ok"
    assert client.jobs(["queued"])["total"] == 1
    assert [job["id"] for job in client.all_jobs()] == [2, 1]
    assert client.job("docs-lora")["attempts_detail"][0]["host"] == "box-1"
    assert client.why(2)["job"]["reason"]["code"] == "memory"
    assert client.logs(1) == "line\n" * 40
    assert client.gpus()[0]["name"] == scenes.A100
    assert client.hosts()[0]["name"] == "box-1"
    assert client.plan({"model": "a", "data": "b"})["cards"][1]["pick"]
    client.drain("box-1")


def test_change(client: Client, server: FakeServer) -> None:
    scenes.waiting(server)
    assert client.cancel(1)["state"] == "cancelled"
    assert client.requeue(1)["id"] == 2
    with pytest.raises(Conflict):
        client.cancel(1)
    with pytest.raises(NotFound):
        client.job("none")


def test_wait(client: Client, server: FakeServer) -> None:
    scenes.running(server)
    with pytest.raises(TimeoutError, match="job 1 is running"):
        client.wait(1, timeout_s=0.05, poll_s=0.02)
    server.on_show = lambda job: server.end(job, "succeeded")
    assert client.wait(1)["state"] == "succeeded"


def test_failures(server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Unauthorized):
        Client(server.url, "wrong").jobs()
    with pytest.raises(Unavailable, match="no tuneyard server at http://127"):
        Client("http://127.0.0.1:9", "t").jobs()
    with pytest.raises(UsageError, match="is not a URL"):
        Client("127.0.0.1:9", "t")
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    monkeypatch.delenv("TUNEYARD_URL", raising=False)
    with pytest.raises(Unavailable, match="no tuneyard server is known"):
        Client()
    server.hang_s = 1
    with pytest.raises(Unavailable, match="did not answer"):
        Client(server.url, TOKEN, timeout_s=0.1).health()
    server.hang_s, server.raw = 0, (200, "text/html", b"<html>")
    with pytest.raises(Unavailable, match="is not a tuneyard server"):
        Client(server.url, TOKEN).health()


def test_a_path_is_a_job_file(
    client: Client, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    text = "name: tune\nmodel: org/m\ndata: pairs.jsonl\n"
    (folder / "job.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    for given in ("jobs/job.yaml", folder / "job.yaml", str(folder / "job.yaml")):
        assert client.submit(given)["name"] == "tune"
        (body,) = server.requests[-1][2]["jobs"]
        assert (body["text"], body["base_dir"], body["source"]) == (text, str(folder), str(given))
    for job in (text, "{model: org/m, data: pairs.jsonl}", {"model": "org/m", "data": "pairs.jsonl"}):
        client.submit(job)
        assert server.requests[-1][2]["jobs"][0]["base_dir"] == str(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("none.yaml", "there is no file none.yaml"),
        (Path("none.yaml"), "there is no file none.yaml"),
        (Path("."), "Is a directory"),
        ("binary.yaml", "not UTF-8"),
        ("broken.yaml", "not readable as YAML"),
        ("", "not a mapping"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_what_is_no_job_file_never_reaches_the_server(
    client: Client,
    server: FakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str | Path,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("binary.yaml").write_bytes(b"\xff\xfe")
    Path("broken.yaml").write_text("a: [\n")
    with pytest.raises(InputError, match=said):
        client.submit(given)
    assert not server.requests
