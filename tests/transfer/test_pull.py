"""tuneyard pull, end to end: whole and as the manifest says, or not at all."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from jobs.errors import Conflict, NotFound, TuneyardError, Unavailable, UsageError
from orchestrator.client.client import Client, _Results
from orchestrator.transfer import receive, relay
from orchestrator.transfer.receive import pull
from tests.builders import a_job
from tests.cli.conftest import Tuneyard
from tests.transfer.conftest import FILES, TOKEN, Depot, content
from workers.agent.result_upload import PIECE_BYTES


def until(true: Callable[[], bool], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_result_is_copied_whole_and_only_once(depot: Depot, tuneyard: Tuneyard, tmp_path: Path) -> None:
    job, result = depot.job()
    ran = tuneyard("pull", "tune")
    assert (ran.code, ran.err) == (0, "")
    target = tmp_path / f"job-{job}-tune"
    assert ran.out == f"{target}: 4 files, 3 MiB, all as the manifest says\n"
    assert content(target) == FILES
    assert (target / "manifest.json").read_bytes() == (result / "manifest.json").read_bytes()
    assert not list(tmp_path.glob(".*tune*")), "nothing is left beside it"
    assert "was there already" in tuneyard("pull", str(job)).out
    assert tuneyard("pull", str(job), "new/place", "--json").json["fetched_bytes"] == sum(
        map(len, FILES.values())
    )
    with depot.client() as client:
        assert content(client.pull(job, tmp_path / "third")) == FILES


def test_nothing_that_is_there_is_written_over(depot: Depot, tuneyard: Tuneyard, tmp_path: Path) -> None:
    job, _ = depot.job()
    (tmp_path / "empty").mkdir()
    assert tuneyard("pull", str(job), "empty").code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken in ("mine", "file", "link"):
        ran = tuneyard("pull", str(job), taken)
        assert ran.code == 2 and "exists and is not this result" in ran.err, taken
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["notes"]
    (tmp_path / "empty" / "empty").write_text("changed")
    ran = tuneyard("pull", str(job), "empty")
    assert ran.code == 2 and "empty/empty is not what the result has" in ran.err


def test_a_damaged_file_is_refused_and_the_rest_need_not_come_again(
    depot: Depot, tuneyard: Tuneyard, tmp_path: Path
) -> None:
    job, result = depot.job()
    good = FILES["tokenizer.json"]
    (result / "tokenizer.json").write_bytes(good[:-1] + b"?")
    ran = tuneyard("pull", str(job), "here")
    assert (ran.code, ran.out) == (1, "")
    assert "tokenizer.json does not match its checksum: on host alpha" in ran.err
    assert not (tmp_path / "here").exists()
    (kept,) = tmp_path.glob(".here.pull-*")
    assert f"kept in {kept} for the next pull" in ran.err
    (result / "tokenizer.json").write_bytes(good)
    ran = tuneyard("pull", str(job), "here", "--json")
    assert ran.json["fetched_bytes"] == len(good) and content(tmp_path / "here") == FILES


def shorter(result: Path) -> None:
    (result / "tokenizer.json").write_bytes(b"short")


def gone(result: Path) -> None:
    (result / "deep/er/tokens.json").unlink()


def a_link(result: Path) -> None:
    secret = result.parent / "secret"
    secret.write_bytes(FILES["tokenizer.json"])
    (result / "tokenizer.json").unlink()
    (result / "tokenizer.json").symlink_to(secret)


def a_linked_folder(result: Path) -> None:
    (result / "deep").rename(result.parent / "elsewhere")
    (result / "deep").symlink_to(result.parent / "elsewhere")


def a_pipe(result: Path) -> None:
    (result / "empty").unlink()
    (result / "tokenizer.json").unlink()
    os.mkfifo(result / "tokenizer.json")


def listed(name: str) -> Callable[[Path], None]:
    """A manifest that lists a file outside of the folder."""

    def change(result: Path) -> None:
        (result.parent / "secret").write_bytes(b"secret")
        manifest = json.loads((result / "manifest.json").read_bytes())
        manifest["files"][name] = {"size": 6, "sha256": "0" * 64}
        (result / "manifest.json").write_text(json.dumps(manifest))

    return change


def anothers(result: Path) -> None:
    manifest = json.loads((result / "manifest.json").read_bytes())
    (result / "manifest.json").write_text(json.dumps({**manifest, "job_id": 99}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shorter, "tokenizer.json is not what its manifest says"),
        (gone, "tokens.json is gone from the result"),
        (a_link, "tokenizer.json can't be sent"),
        (a_linked_folder, "tokens.json can't be sent"),
        (a_pipe, "can't be sent|is gone|not what its manifest says"),
        (listed("../secret"), "no file of a checkpoint"),
        (listed("/etc/hostname"), "no file of a checkpoint"),
        (anothers, "holds was made by another job or attempt"),
        (lambda result: (result / "manifest.json").write_text("{"), "damaged"),
        (lambda result: (result / "manifest.json").unlink(), "manifest.json is gone from the result"),
        (lambda result: result.rename(result.with_name("moved")), "is gone: .*No such file"),
    ],
)
def test_what_is_no_plain_file_of_this_result_is_not_sent(
    depot: Depot, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    job, result = depot.job()
    change(result)
    with depot.client() as client, pytest.raises((Conflict, NotFound), match=said) as caught:
        client.pull(job, tmp_path / "here")
    assert "host alpha" in str(caught.value) and not list(tmp_path.glob("*here*"))
    until(lambda: not depot.services.relay.orders(depot.host_id))


def test_a_result_that_changes_while_it_is_copied_is_refused_with_that_reason_alone(
    depot: Depot, tmp_path: Path
) -> None:
    job, result = depot.job(files={"a": os.urandom(40 * PIECE_BYTES), "b": b"last"})
    said: list[str] = []

    def tell(have: int, total: int) -> None:
        if have:
            (result / "b").write_bytes(b"another")

    with depot.client() as client, pytest.raises(Conflict, match="b is not what its manifest says"):
        pull(_Results(client, job), tmp_path / "here", tell, said.append, sleep=lambda pause: None)
    assert said == [], "it did not say first that the server had broken off"
    assert list(tmp_path.glob("*here*")) == [], "what came of it is of no use to anybody"


def test_two_jobs_of_one_name_go_to_two_folders_and_small_ones_have_a_size(
    depot: Depot, tuneyard: Tuneyard, tmp_path: Path
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "job.yaml").write_text("the example's own")
    for size, text in ((900_000, "879 KiB"), (700, "700 bytes")):
        job, _ = depot.job("tiny", {"a": bytes(size)})
        ran = tuneyard("pull", "tiny")
        assert ran.out == f"{tmp_path}/job-{job}-tiny: 1 file, {text}, all as the manifest says\n"


def test_a_result_that_was_replaced_meanwhile_is_refused(depot: Depot) -> None:
    job, _ = depot.job()
    with depot.client() as client, pytest.raises(Conflict, match="replaced by another result"):
        list(_files(client, job, "0" * 64))


def _files(client: Client, job: int, sha256: str, offset: int = 0) -> Iterator[bytes]:
    return _Results(client, job).files(sha256, offset)


def test_jobs_without_a_result_say_why(depot: Depot, tuneyard: Tuneyard) -> None:
    store = depot.services.store
    waits, stopped = (row.id for row in store.submit([a_job("waits"), a_job("stopped")], time.time()))
    store.request_cancel(stopped, time.time())
    ran = tuneyard("pull", "waits")
    assert ran.code == 1 and f"job {waits} (waits) is queued, so there is no result" in ran.err
    ran = tuneyard("pull", "stopped")
    assert ran.code == 1 and "was cancelled, so there is no result; `tuneyard show" in ran.err
    assert tuneyard("pull", "nobody").code == 1


def test_a_host_that_is_away_is_named(depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, _ = depot.job()
    depot.away()
    monkeypatch.setattr(relay, "BEGIN_S", 0.2)
    monkeypatch.setattr(receive, "PATIENCE_S", 1.0)
    with depot.client() as client, pytest.raises(Unavailable, match="alpha did not begin to send"):
        client.pull(job, tmp_path / "here")
    depot.services.controller.hearing.awake_s = lambda: time.monotonic() + 3600  # since it was last looked at
    with depot.client() as client, pytest.raises(Unavailable, match="host alpha, which has the result"):
        client.pull(job, tmp_path / "here")


def test_only_who_has_the_token_reads_or_sends(depot: Depot) -> None:
    job, _ = depot.job()
    for method, path in (
        ("GET", f"jobs/{job}/result"),
        ("GET", f"jobs/{job}/result/files?manifest=0"),
        ("PUT", "transfers/x?offset=0&total=0"),
        ("POST", "transfers/x/failure"),
    ):
        assert httpx.request(method, f"{depot.url}/api/v1/{path}").status_code == 401


def test_a_slow_reader_holds_up_the_host_and_no_one_else(depot: Depot) -> None:
    """The server takes no more than a few pieces ahead, goes on answering, and forgets a reader that is gone."""
    job, _ = depot.job(files={"big": bytes(64 * PIECE_BYTES)})
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with depot.client() as client:
        found = client._get(f"/jobs/{job}/result")
        query = f"manifest={found['manifest_sha256']}&offset=0"
        with httpx.stream(
            "GET", f"{depot.url}/api/v1/jobs/{job}/result/files?{query}", headers=headers
        ) as answer:
            reading = answer.iter_raw(100)  # held: the connection ends with it
            next(reading)
            (transfer,) = depot.services.relay._open.values()
            until(lambda: len(transfer._pieces) == relay.AHEAD)
            taken = transfer.next
            for _ in range(20):
                assert client.health()["status"] == "ok"
            assert transfer.next == taken < 32 * PIECE_BYTES, "what sockets hold, and two pieces"
        until(lambda: not depot.services.relay._open)
    assert depot.services.relay.orders(depot.host_id) == []


def test_an_agent_that_starts_anew_goes_on(depot: Depot, tmp_path: Path) -> None:
    """Its server still has the order, and says from where."""
    job, _ = depot.job(files={"big": os.urandom(40 * PIECE_BYTES)})
    came: list[int] = []

    def tell(have: int, total: int) -> None:
        came.append(have)
        if len(came) == 3:
            depot.restart_agent()

    with depot.client() as client:
        pulled = pull(_Results(client, job), tmp_path / "here", tell)
    assert pulled.came == pulled.bytes and len(content(tmp_path / "here")["big"]) == pulled.bytes


def test_bad_queries_are_refused(depot: Depot) -> None:
    job, _ = depot.job(files={"one": b"abc"})
    with depot.client() as client:
        found = client._get(f"/jobs/{job}/result")
        for offset, refused, said in (
            (-1, UsageError, r"offset: is not usable \(given: -1\); write a whole number from 0"),
            (4, Conflict, "4 is beyond the 3 bytes"),
        ):
            with pytest.raises(refused, match=said):
                list(_files(client, job, found["manifest_sha256"], offset))
        assert list(_files(client, job, found["manifest_sha256"], 3)) in ([], [b""])
        with pytest.raises(TuneyardError):
            client._ask("PUT", "/transfers/unknown", params={"offset": 0, "total": 1}, content=b"x")
