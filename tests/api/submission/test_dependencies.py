"""Groups and chains of jobs through the API."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.api.app import PREFIX
from orchestrator.store.requests import NewJob
from tests.api.submission.test_jobs import faults

JOBS = f"{PREFIX}/jobs"
SEEDS = {"training.seed": [1, 2, 3]}


def submit(yard, *files, dry_run=False):
    body = {"jobs": [{**yard.job(**sections), "source": f"{n}.yaml"} for n, sections in enumerate(files)]}
    return yard.http.post(f"{JOBS}?dry_run=true" if dry_run else JOBS, json=body)


def test_a_file_with_a_matrix_makes_a_group(yard):
    yard.submit()
    answer = submit(yard, {"name": "lr", "matrix": SEEDS, "project": "ours"}, {"name": "alone"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert [(job["name"], job["group"], job["project"]) for job in made["jobs"]] == [
        *((f"lr-{number}", 2, "ours") for number in (1, 2, 3)),
        ("alone", None, "default"),
    ]
    values = [{"training.seed": seed} for seed in (1, 2, 3)]
    assert made["groups"] == [{"id": 2, "name": "lr", "jobs": [2, 3, 4], "values": values}]
    shown = yard.http.get(f"{JOBS}/3").json()
    assert (shown["spec"]["training"]["seed"], shown["group"]) == (2, 2)
    assert "matrix" not in shown["spec"]
    page = yard.http.get(f"{JOBS}?group=2&limit=2").json()
    assert ([job["id"] for job in page["jobs"]], page["more"], page["total"]) == ([4, 3], True, 3)
    assert yard.http.get(f"{JOBS}?project=ours").json()["total"] == 3
    assert yard.http.get(f"{JOBS}?project=nobodys").json()["total"] == 0
    assert yard.http.get(f"{JOBS}?group=lr").json()["total"] == 3
    for group in ("-1", "1", "x"):
        assert yard.http.get(f"{JOBS}?group={group}").status_code == 404


def test_two_groups_of_one_request_are_two(yard):
    made = submit(yard, {"matrix": SEEDS}, {"matrix": SEEDS, "name": "b"}).json()
    assert [group["id"] for group in made["groups"]] == [1, 4]
    assert [group["name"] for group in made["groups"]] == ["", "b"]


def test_a_dry_run_of_a_group_has_all_its_jobs(yard):
    answer = submit(yard, {"matrix": SEEDS}, dry_run=True)
    assert [spec["training"]["seed"] for spec in answer.json()["valid"]] == [1, 2, 3]
    assert yard.http.get(JOBS).json()["total"] == 0


def test_faults_of_a_matrix_have_their_place_and_nothing_is_stored(yard):
    matrix = {"data": [str(yard.data), "/nowhere/rows.jsonl"], "training.seed": [1, -1]}
    found = faults(submit(yard, {"matrix": matrix}, {}))
    assert set(found) == {"0.yaml: matrix.training.seed.1", "0.yaml: matrix.data.1.path"}
    assert yard.http.get(JOBS).json()["total"] == 0


def test_too_many_jobs_of_all_groups_together_are_refused(yard):
    files = [{"matrix": {"training.seed": list(range(1000))}}] * 10
    assert "10,001 jobs" in submit(yard, *files, {}).json()["error"]["message"]


def test_plan_is_of_one_job(yard):
    answer = yard.http.post(f"{PREFIX}/plan", json={"job": yard.job(matrix=SEEDS)})
    assert "matrix=null" in faults(answer)["matrix"]
    laid = {**yard.job(matrix=SEEDS), "overrides": {"matrix": None}}
    assert yard.http.post(f"{PREFIX}/plan", json={"job": laid}).status_code == 200


def test_after_names_jobs_of_the_database_and_of_the_request(yard):
    yard.submit(name="old")
    answer = submit(
        yard,
        {"name": "train", "after": ["prepare", {"job": 1, "on": "any"}]},
        {"name": "prepare", "matrix": SEEDS},
        {"name": "report", "after": "prepare-2"},
    )
    made = {job["id"]: job["after"] for job in answer.json()["jobs"]}
    one, *others = made[2]
    assert one == {"job": 1, "on": "any", "state": "queued"}
    assert others == [{"job": job, "on": "success", "state": "queued"} for job in (3, 4, 5)]
    assert made[6] == [{"job": 4, "on": "success", "state": "queued"}]
    shown = yard.http.get(f"{JOBS}/2").json()
    assert shown["after"] == made[2] and "after" not in shown["spec"]
    listed = {job["id"]: job["after"] for job in yard.http.get(JOBS).json()["jobs"]}
    assert listed == made | {1: []}


@pytest.mark.parametrize(
    ("files", "path", "words"),
    [
        ([{"after": 99}], "after", "there is no such job"),
        ([{"after": [1, 99]}], "after.1", "there is no such job"),
        ([{"after": {"job": 2}}], "after", "job 2 was cancelled, so this one could never start"),
        ([{"after": "nobody"}], "after", "no job of this submission"),
        ([{"name": "me", "after": "me"}], "after", "waits for itself"),
        ([{"name": "me", "after": "me-2", "matrix": SEEDS}], "after", "waits for itself"),
        (
            [{"name": "a", "after": "c"}, {"name": "b", "after": "a"}, {"name": "c", "after": ["b"]}],
            "after",
            "goes in a circle",
        ),
        (
            [{"name": "x"}, {"name": "x"}, {"after": "x"}],
            "2.yaml: after",
            "several files (0.yaml and 1.yaml)",
        ),
        ([{"name": "x", "matrix": SEEDS}, {"after": ["x", "x-1"]}], "1.yaml: after.1", "waited for already"),
    ],
)
def test_what_after_can_not_mean_is_refused_by_its_path(yard, files, path, words):
    yard.submit()
    yard.submit()
    yard.http.post(f"{JOBS}/2/cancel")
    found = faults(submit(yard, *files))
    ((at, said),) = found.items()
    assert at.endswith(path) and words in said
    assert yard.http.get(JOBS).json()["total"] == 2


def test_a_circle_is_shown(yard):
    files = [
        {"name": "a", "after": "c"},
        {"name": "b", "after": "a"},
        {"name": "c", "after": "b"},
        {"name": "d"},
    ]
    (fault,) = submit(yard, *files).json()["error"]["faults"]
    shown = fault["given"].split(" -> ")
    assert shown[0] == shown[-1] and sorted(shown[:-1]) == ["a", "b", "c"]
    waits = {"a": "c", "b": "a", "c": "b"}
    assert all(waits[one] == other for one, other in itertools.pairwise(shown))


def test_what_failed_may_be_waited_for_with_on_failure(yard):
    yard.submit()
    yard.http.post(f"{JOBS}/1/cancel")
    answer = submit(yard, {"after": {"job": 1, "on": "failure"}}, {"after": {"job": 1, "on": "any"}})
    assert answer.status_code == 201


def test_links_have_their_bound(yard):
    many = {"matrix": {"training.seed": list(range(200))}}
    found = faults(submit(yard, {"name": "first", **many}, {"after": "first", **many}))
    assert "too many links" in found["1.yaml: after"]


def test_a_group_is_cancelled_whole(yard):
    submit(yard, {"matrix": SEEDS}, {})
    yard.http.post(f"{JOBS}/2/cancel")
    answer = yard.http.post(f"{PREFIX}/groups/1/cancel")
    assert [(job["id"], job["state"]) for job in answer.json()["jobs"]] == [
        (1, "cancelled"),
        (3, "cancelled"),
    ]
    assert yard.http.get(f"{JOBS}/4").json()["state"] == "queued"
    assert yard.http.post(f"{PREFIX}/groups/1/cancel").json() == {"jobs": []}
    for missing, status in (("4", 404), ("99", 404), (str(2**70), 404), ("x", 404)):
        assert yard.http.post(f"{PREFIX}/groups/{missing}/cancel").status_code == status


def test_a_copy_is_in_no_group_and_keeps_its_project(yard):
    submit(yard, {"matrix": SEEDS, "project": "ours"})
    yard.http.post(f"{JOBS}/2/cancel")
    again = yard.http.post(f"{JOBS}/2/requeue").json()
    assert (again["id"], again["group"], again["project"]) == (4, None, "ours")


def test_jobs_of_an_older_version_are_shown(yard):
    spec = {"model": {"path": "org/model"}, "data": {"path": "rows"}}
    yard.services.store.submit([NewJob("old", "ada", spec)], yard.now)
    shown = yard.http.get(f"{JOBS}/1").json()
    assert (shown["project"], shown["group"], shown["after"]) == ("default", None, [])


@pytest.mark.parametrize("path", [JOBS, f"{JOBS}?group=1", f"{PREFIX}/groups/1/cancel"])
def test_without_the_token_nothing_is_told(yard, path):
    method = "POST" if path.endswith("cancel") else "GET"
    answer = yard.http.request(method, path, headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401 and answer.json()["error"]["kind"] == "unauthorized"


def test_the_success_of_a_sweep_that_stops_its_worst_is_never_waited_for(yard):
    lr = {
        "name": "lr",
        "matrix": SEEDS,
        "training": {"steps": 9},
        "sweep": {"early_stop": {"after_steps": 3}},
    }
    (fault,) = submit(yard, lr, {"after": "lr"}).json()["error"]["faults"]
    assert (fault["path"], fault["given"]) == ("1.yaml: after", "lr, on success")
    assert "stops its worst jobs early" in fault["problem"] and "on: any" in fault["fix"]
    assert submit(yard, lr, {"after": {"job": "lr", "on": "any"}}).status_code == 201
    assert submit(yard, lr, {"after": "lr-1"}).status_code == 201, "one of them may well succeed"


def test_a_name_of_another_submission_is_answered_with_its_id(yard):
    for _ in range(2):
        yard.submit(name="prepare")
    (fault,) = submit(yard, {"after": "prepare"}, {}).json()["error"]["faults"]
    assert fault["fix"].endswith("or write 2, the newest job of that name")
    (fault,) = submit(yard, {"after": "nobody"}, {}).json()["error"]["faults"]
    assert fault["fix"].endswith("or write the id of a job")
    assert submit(yard, {"after": 2}).status_code == 201
