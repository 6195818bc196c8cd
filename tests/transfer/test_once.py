"""A submission whose answer is lost: the command line and the Python client ask again, and it is one job."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jobs.errors import Busy, Unanswered, Unavailable
from orchestrator.client.client import Client
from orchestrator.client.idempotent import PATIENCE_S, TRIES, once
from tests.cli.conftest import Tuneyard
from tests.cut_line import cut_line
from tests.transfer.conftest import TOKEN, Depot

JOB = "name: only\nmodel: org/model\ndata: org/pairs\n"


def port(depot: Depot) -> int:
    return urlsplit(depot.url).port or 0


def test_the_command_line_asks_again(depot: Depot, bare: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    with cut_line(port(depot), 1) as line:
        ran = bare("submit", "job.yaml", TUNEYARD_URL=line.url, TUNEYARD_TOKEN=TOKEN)
        assert line.lost == 1
    assert ran.code == 0, ran.err
    assert "it may have been taken: asking again, which makes no second job" in ran.err
    assert "an earlier request with this key was taken" in ran.err
    assert depot.services.store.count_jobs() == 1


def test_what_no_answer_comes_to_can_be_asked_again_by_its_key(
    depot: Depot, bare: Tuneyard, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    with cut_line(port(depot), 99) as line:
        ran = bare("submit", "job.yaml", TUNEYARD_URL=line.url, TUNEYARD_TOKEN=TOKEN)
        assert line.lost == TRIES
    assert ran.code == 1 and "It may have been taken: see `tuneyard list`" in ran.err
    key = ran.err.rpartition("--key ")[2].split()[0]
    ran = bare("submit", "job.yaml", "--key", key, "--json", TUNEYARD_URL=depot.url, TUNEYARD_TOKEN=TOKEN)
    assert [job["name"] for job in ran.json["jobs"]] == ["only"] and ran.json["again"]
    assert depot.services.store.count_jobs() == 1


def test_the_python_client_asks_again_and_requeues_once(depot: Depot) -> None:
    with cut_line(port(depot), 1) as line, Client(line.url, TOKEN) as client:
        job = client.submit(JOB)
    depot.services.store.request_cancel(job["id"], 1.0)
    with cut_line(port(depot), 1) as line, Client(line.url, TOKEN) as client:
        assert client.requeue(job["id"])["id"] == job["id"] + 1
    assert depot.services.store.count_jobs() == 2


def test_what_was_never_sent_is_not_asked_again() -> None:
    asked = []

    def away() -> None:
        asked.append(1)
        raise Unavailable("no tuneyard server")

    with pytest.raises(Unavailable, match="no tuneyard server"):
        once("k", away)
    assert len(asked) == 1


def test_a_server_that_went_away_meanwhile_is_asked_again() -> None:
    answers = [Unanswered("it broke off"), Unavailable("it restarts"), 7]
    said: list[str] = []

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert once("k", ask, said.append, lambda pause: None) == 7
    assert [text.partition(";")[0] for text in said] == ["it broke off", "it restarts"]


def test_a_busy_server_is_waited_for_as_long_as_it_asks() -> None:
    waits: list[float] = []

    def ask() -> None:
        raise Busy("too much", 50.0)

    with pytest.raises(Busy):
        once("k", ask, sleep=waits.append)
    assert waits == [50.0, 50.0] and sum(waits) <= PATIENCE_S
