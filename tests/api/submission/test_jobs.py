"""Routes of jobs: good and bad."""

from __future__ import annotations

import threading

import pytest

from orchestrator.api.app import PREFIX

JOBS = f"{PREFIX}/jobs"


def faults(answer) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {
        fault["path"]: fault["problem"] + "; " + fault["fix"] for fault in answer.json()["error"]["faults"]
    }


def test_a_job_is_stored_with_a_reason_and_can_be_found_by_id_and_name(yard):
    made = yard.submit(name="first", priority="high")
    assert (made["id"], made["state"], made["priority"], made["user"]) == (1, "queued", 75, "ada")
    assert made["reason"]["code"] == "new"
    assert yard.http.get(f"{JOBS}/1").json() == yard.http.get(f"{JOBS}/first").json()
    shown = yard.http.get(f"{JOBS}/1").json()
    assert shown["spec"]["name"] == "first"
    assert [event["kind"] for event in shown["events"]] == ["submitted"]


def test_text_with_overrides_and_relative_paths(yard):
    (yard.data.parent / "tok").mkdir()
    (yard.data.parent / "tok" / "tokenizer.json").write_text("{}")
    text = "model: {config: {model_type: llama}, tokenizer: ./tok}\ndata: ./data.jsonl\n"
    job = {
        "text": text,
        "overrides": {"training.steps": 7},
        "base_dir": str(yard.data.parent),
        "source": "a.yaml",
    }
    answer = yard.http.post(JOBS, json={"jobs": [job]})
    assert answer.status_code == 201, answer.text
    spec = yard.http.get(f"{JOBS}/1").json()["spec"]
    assert spec["data"]["path"] == str(yard.data)
    assert spec["training"]["steps"] == 7


def test_every_fault_is_reported_and_nothing_is_stored(yard):
    bad = {"text": "modle: x\ndata: y\npriority: urgent\ntraining: {steps: -1}", "source": "bad.yaml"}
    answer = yard.http.post(JOBS, json={"jobs": [yard.job(), bad]})
    assert set(faults(answer)) == {
        f"bad.yaml: {path}" for path in ("model", "modle", "priority", "training.steps")
    }
    assert yard.http.get(JOBS).json() == {"jobs": [], "more": False, "total": 0}


def test_dry_run_checks_and_stores_nothing(yard):
    answer = yard.http.post(f"{JOBS}?dry_run=true", json={"jobs": [yard.job(name="x")]})
    assert answer.status_code == 200
    assert answer.json()["valid"][0]["training"]["global_batch"] == 8
    assert yard.http.get(JOBS).json()["total"] == 0


@pytest.mark.parametrize("dry_run", ["true", "false"])
@pytest.mark.parametrize("matrix", [{}, {"matrix": {"training.seed": [1, 2, 3]}}])
def test_what_rounds_its_updates_away_is_warned_of_once(yard, dry_run, matrix):
    small = yard.job(method="full", model={"path": "a/b", "dtype": "bfloat16"}, **matrix)
    small["spec"].setdefault("training", {})["learning_rate"] = 2e-5
    answer = yard.http.post(f"{JOBS}?dry_run={dry_run}", json={"jobs": [small]}).json()
    (warning,) = answer["warnings"]
    assert "lose most updates to rounding" in warning


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b'{"jobs": []}', "jobs"),
        (b'{"jobs": [{"txt": ""}]}', "jobs.0.txt"),
        (b'{"jobs": [{"text": "a: b", "spec": {}}]}', "exactly one"),
        (b"\xff", "not readable"),
    ],
)
def test_unreadable_bodies_are_named(yard, body, words):
    answer = yard.http.post(JOBS, content=body)
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]


def test_data_files_are_checked_where_the_server_sees_them(yard, tmp_path):
    cases = {
        "missing.jsonl": None,
        "empty.jsonl": "",
        "broken.jsonl": '{"text": "a"}\n{"text": \n',
        "columns.jsonl": '{"question": "a", "answer": "b"}\n',
    }
    for name, text in cases.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    words = {
        "missing.jsonl": "no",
        "empty.jsonl": "empty",
        "broken.jsonl": "line 2",
        "columns.jsonl": "question",
    }
    for name in cases:
        problem = faults(yard.http.post(JOBS, json={"jobs": [yard.job(data=str(tmp_path / name))]}))[
            "data.path"
        ]
        assert words[name] in problem, (name, problem)
    assert yard.http.get(JOBS).json()["total"] == 0


def test_a_model_folder_without_config_is_refused(yard, tmp_path):
    (tmp_path / "model").mkdir()
    found = faults(yard.http.post(JOBS, json={"jobs": [yard.job(model=str(tmp_path / "model"))]}))
    assert "config.json" in found["model.path"]


def test_remote_code_needs_the_operator(yard):
    job = {"spec": {"model": {"path": "org/odd", "trust_remote_code": True}, "data": str(yard.data)}}
    assert "operator" in faults(yard.http.post(JOBS, json={"jobs": [job]}))["model.trust_remote_code"]


def test_lists_are_paged_and_filtered(yard):
    for number in range(5):
        yard.submit(name=f"job-{number}")
    yard.http.post(f"{JOBS}/1/cancel")
    page = yard.http.get(f"{JOBS}?limit=2").json()
    assert ([job["id"] for job in page["jobs"]], page["more"], page["total"]) == ([5, 4], True, 5)
    page = yard.http.get(f"{JOBS}?limit=3&before=4").json()
    assert ([job["id"] for job in page["jobs"]], page["more"]) == ([3, 2, 1], False)
    assert [job["id"] for job in yard.http.get(f"{JOBS}?state=cancelled").json()["jobs"]] == [1]
    for query in ("limit=0", "limit=9999", "state=sleeping", "before=x"):
        assert yard.http.get(f"{JOBS}?{query}").status_code == 422, query


def test_cancel_and_requeue(yard):
    yard.submit(name="a")
    assert yard.http.post(f"{JOBS}/1/requeue").status_code == 409
    assert yard.http.post(f"{JOBS}/1/cancel").json()["state"] == "cancelled"
    assert yard.http.post(f"{JOBS}/1/cancel").status_code == 409
    again = yard.http.post(f"{JOBS}/1/requeue")
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (201, 2, "queued")


@pytest.mark.parametrize("job", ["99", "nobody"])
def test_what_is_not_there_is_a_404(yard, job):
    for method, path in (
        ("GET", ""),
        ("GET", "/why"),
        ("GET", "/logs"),
        ("POST", "/cancel"),
        ("POST", "/requeue"),
    ):
        answer = yard.http.request(method, f"{JOBS}/{job}{path}")
        assert answer.status_code == 404, path
        assert job in answer.json()["error"]["message"]


def test_logs_of_a_job_that_never_ran_are_empty(yard):
    yard.submit()
    assert yard.http.get(f"{JOBS}/1/logs").json()["text"] == ""
    assert yard.http.get(f"{JOBS}/1/logs?attempt=1").status_code == 404
    assert yard.http.get(f"{JOBS}/1/logs?offset=-1").status_code == 422


def test_clients_at_once_each_get_their_own_jobs(yard):
    answers: dict[int, list[int]] = {}

    def client(number: int) -> None:
        body = {"jobs": [yard.job(name=f"c{number}") for _ in range(number + 1)]}
        answers[number] = [job["id"] for job in yard.http.post(JOBS, json=body).json()["jobs"]]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(ids) for ids in answers.values()) == list(range(1, 9))
    assert sorted(job for ids in answers.values() for job in ids) == list(range(1, 37))


def test_the_schema_describes_every_section(yard):
    made = yard.http.get(f"{PREFIX}/schema").json()
    assert {"model", "data", "memory", "resources"} <= set(made["properties"])
