"""Groups, chains and projects on the command line."""

from __future__ import annotations

import pytest

from jobs.errors import NotFound
from orchestrator.client.client import Client
from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import TOKEN, FakeServer

SWEEP = "name: lr\nmodel: org/tiny\ndata: rows.jsonl\nmatrix: {training.learning_rate: [1e-4, 2e-4], method: [lora]}\n"
OURS = {
    "name": "ours",
    "guarantee": 8,
    "weight": 2.0,
    "borrows": False,
    "own_terms": True,
    "queued": 3,
    "gpus": 4,
}


def test_a_group_is_told_with_its_jobs(tuneyard: Tuneyard, server: FakeServer) -> None:
    ran = tuneyard("submit", "-", "--project", "ours", "--after", "12", stdin=SWEEP)
    assert ran.code == 0, ran.err
    assert ran.out == (
        "submitted group 1 (lr): 2 jobs of org/tiny, waits for job 12\n"
        "  job 1 (lr-1): training.learning_rate=0.0001, method=lora\n"
        "  job 2 (lr-2): training.learning_rate=0.0002, method=lora\n"
    )
    overrides = server.requests[0][2]["jobs"][0]["overrides"]
    assert overrides == {"project": "ours", "after": 12}


def test_a_group_as_json_and_dry(tuneyard: Tuneyard) -> None:
    assert tuneyard("submit", "-", "--dry-run", stdin=SWEEP).out == "valid: 2 jobs; nothing was submitted\n"
    made = tuneyard("submit", "-", "--json", stdin=SWEEP).json
    assert [job["group"] for job in made["jobs"]] == [1, 1]
    assert made["groups"][0]["jobs"] == [1, 2]


def test_faults_of_a_matrix_exit_with_2(tuneyard: Tuneyard) -> None:
    ran = tuneyard("submit", "-", stdin=SWEEP.replace("lora", "lara"))
    assert ran.code == 2 and "matrix.method.0.kind: is not one of the choices" in ran.err


def test_following_a_group_waits_for_all_of_it(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.on_show = lambda job: server.end(job, "succeeded")
    ran = tuneyard("submit", "-", "--follow", stdin=SWEEP)
    assert ran.code == 0 and "waiting for all of them" in ran.err
    assert {job["state"] for job in server.jobs.values()} == {"succeeded"}


def test_lists_of_a_group_and_of_a_project(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.add(name="one", group=1, project="ours")
    server.add(name="other")
    table = tuneyard("list").out.splitlines()
    assert "GROUP" in table[0] and "PROJECT" in table[0]
    assert "ours" in table[2] and "default" not in table[1]
    for flags in (("--group", "1"), ("--project", "ours")):
        assert [job["name"] for job in tuneyard("list", "--json", *flags).json["jobs"]] == ["one"]
    none = tuneyard("list", "--group", "1", "--project", "theirs", "--user", "eve")
    assert (none.code, none.err) == (0, "no jobs of group 1 of project theirs of user eve\n")
    ran = tuneyard("list", "--group", "x")
    assert (ran.code, ran.out) == (1, "") and "there is no group x" in ran.err


def a_sweep(server: FakeServer) -> None:
    """A finished job, one whose loss is no number, and one that waits, as the server orders them."""
    for number, (state, loss) in enumerate((("succeeded", 1.25), ("running", None), ("queued", 0.0)), 1):
        progress = {"step": 4 * number, "total_steps": 10, "loss": loss, "tokens_per_s": 9.0, "eta_s": 3.0}
        server.add(
            name=f"lr-{number}",
            group=1,
            state=state,
            progress=None if state == "queued" else progress,
            spec={"training.learning_rate": number / 1000, "method.kind": "lora"},
        )


def test_a_sweep_is_a_table_of_what_differs(tuneyard: Tuneyard, server: FakeServer) -> None:
    a_sweep(server)
    ran = tuneyard("list", "lr")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "group 1 (lr): 3 jobs, 1 succeeded, 1 running, 1 queued",
        "ID  NAME  learning_rate  kind  STATE      PROGRESS   LOSS  ETA  REASON",
        " 1  lr-1          0.001  lora  succeeded       40%  1.250",
        " 2  lr-2          0.002  lora  running         80%    nan   3s  not yet looked at",
        " 3  lr-3          0.003  lora  queued                           not yet looked at",
    ]
    assert tuneyard("show", "lr").out == ran.out, "show knows it by its name, for its number is a job's"
    assert tuneyard("list", "1").out.splitlines()[1:] == ran.out.splitlines()[1:]
    shown = tuneyard("list", "lr", "--json").json
    assert (shown["keys"], len(shown["members"])) == (["training.learning_rate", "method.kind"], 3)
    with Client(server.url, TOKEN) as client:
        assert client.group("lr") == shown


def test_a_name_that_is_no_sweep_either(tuneyard: Tuneyard, server: FakeServer) -> None:
    a_sweep(server)
    ran = tuneyard("show", "nothing")
    assert ran.code == 1 and "there is no job nothing" in ran.err
    ran = tuneyard("list", "nothing")
    assert ran.code == 1 and "there is no group nothing" in ran.err
    ran = tuneyard("list", "lr", "--state", "failed")
    assert ran.code == 2 and "give --group lr" in ran.err


def test_a_sweep_is_cancelled_by_its_name(tuneyard: Tuneyard, server: FakeServer) -> None:
    a_sweep(server)
    ran = tuneyard("cancel", "--group", "lr")
    assert (ran.code, ran.out) == (0, "job 2 (lr-2) is asked to stop\njob 3 (lr-3) is cancelled\n")
    assert tuneyard("cancel", "lr").code == 1, "a bare name is a job's: nobody cancels a sweep by mistake"


def test_plain_lists_have_no_columns_for_what_nobody_uses(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.add(name="plain")
    heading = tuneyard("list").out.splitlines()[0]
    assert "GROUP" not in heading and "PROJECT" not in heading


def test_a_job_is_shown_with_what_it_waits_for(tuneyard: Tuneyard, server: FakeServer) -> None:
    after = [
        {"job": 3, "on": "success", "state": "running"},
        {"job": 4, "on": "failure", "state": "queued"},
        {"job": 5, "on": "any", "state": "failed"},
    ]
    server.add(name="last", project="ours", group=1, after=after)
    out = tuneyard("show", "last").out
    assert "job 3 (running), job 4 failing (queued), job 5 ending (failed)" in out
    assert "ours" in out


def test_a_group_is_cancelled(tuneyard: Tuneyard, server: FakeServer) -> None:
    for name in ("lr-1", "lr-2"):
        server.add(name=name, group=1)
    server.end(server.jobs[1], "succeeded")
    assert tuneyard("cancel", "--group", "1").out == "job 2 (lr-2) is cancelled\n"
    again = tuneyard("cancel", "--group", "1")
    assert (again.code, again.out, again.err) == (0, "", "every job of group 1 has ended already\n")
    assert tuneyard("cancel", "--group", "1", "--json").json == {"jobs": []}
    assert tuneyard("cancel", "--group", "5").code == 1
    for wrong in ((), ("lr-1", "--group", "1")):
        ran = tuneyard("cancel", *wrong)
        assert ran.code == 2 and "--group G" in ran.err


def test_projects_are_listed_with_a_warning(tuneyard: Tuneyard, server: FakeServer) -> None:
    assert "no project has terms" in tuneyard("project", "list").err
    server.projects = {"projects": [OURS, OURS | {"guarantee": None}], "gpus": 4, "warnings": ["too much"]}
    ran = tuneyard("project", "list")
    assert ran.out.splitlines()[1].split() == ["ours", "8", "2", "no", "4", "3"]
    assert ran.out.splitlines()[2].split() == ["ours", "-", "2", "no", "4", "3"]
    assert ran.err == "warning: too much\n"
    assert tuneyard("project", "list", "--json").json == server.projects


@pytest.mark.parametrize(
    ("flags", "terms"),
    [
        (
            ("--guarantee", "8", "--weight", "2", "--no-borrow"),
            {"guarantee": 8, "weight": 2.0, "borrows": False},
        ),
        (("--borrow",), {"borrows": True}),
        (("--no-guarantee",), {"guarantee": None}),
    ],
)
def test_a_project_is_set(
    tuneyard: Tuneyard, server: FakeServer, flags: tuple[str, ...], terms: object
) -> None:
    assert tuneyard("project", "set", "our s", *flags).code == 0
    assert server.requests[-1] == ("PUT", "/api/v1/projects/our%20s", terms)


def test_a_project_is_removed(tuneyard: Tuneyard, server: FakeServer) -> None:
    assert tuneyard("project", "remove", "ours").code == 0
    assert server.requests[-1][:2] == ("DELETE", "/api/v1/projects/ours")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "nothing to set"),
        (("--guarantee", "8", "--no-guarantee"), "give one of the two"),
        (("--guarantee", "-1"), "--guarantee"),
        (("--weight", "much"), "--weight"),
        (("--weight", "0"), "--weight"),
    ],
)
def test_bad_terms_exit_with_2(tuneyard: Tuneyard, flags: tuple[str, ...], words: str) -> None:
    ran = tuneyard("project", "set", "ours", *flags)
    assert ran.code == 2 and words in ran.err


def test_a_shared_card_shows_all_its_jobs(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.gpus = [scenes.gpu(1, job=3, jobs=[3, 5])]
    assert "3, 5" in tuneyard("gpus").out


def test_the_python_client_has_the_same(server: FakeServer) -> None:
    with Client(server.url, TOKEN) as client:
        made = client.submit_all([SWEEP, "model: a\ndata: b\nproject: ours\n"])
        assert [job["group"] for job in made] == [1, 1, None]
        assert [job["id"] for job in client.all_jobs(group=1)] == [2, 1]
        assert [job["id"] for job in client.jobs(project="ours")["jobs"]] == [3]
        assert [job["state"] for job in client.cancel_group(1)] == ["cancelled", "cancelled"]
        with pytest.raises(NotFound):
            client.cancel_group(9)
        assert client.projects() == client.set_project("our s", weight=2.0) == client.remove_project("ours")
    assert server.requests[-2] == ("PUT", "/api/v1/projects/our%20s", {"weight": 2.0})
