"""tuneyard submit: files, flags, faults, waiting and exit codes."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import TOKEN, FakeServer

GOOD = "model: org/name\ndata: pairs.jsonl\nname: first\n"


def submitted(server: FakeServer) -> Any:
    """Body of the last submission."""
    return [
        body for method, path, body in server.requests if (method, path[:12]) == ("POST", "/api/v1/jobs")
    ][-1]


def test_a_file_goes_to_the_server_as_text(tuneyard: Tuneyard, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("# mine\n" + GOOD)
    ran = tuneyard("submit", "job.yaml")
    assert ran.code == 0
    assert ran.out.startswith("submitted job 1 (first): lora of org/name\n")
    assert "tuneyard logs -f 1" in ran.out
    assert submitted(server)["jobs"] == [
        {
            "text": "# mine\n" + GOOD,
            "spec": None,
            "overrides": {},
            "base_dir": str(tmp_path),
            "source": "job.yaml",
        }
    ]


def test_flags_alone_make_a_job(tuneyard: Tuneyard, server: FakeServer) -> None:
    ran = tuneyard(
        *(
            "submit",
            "--model",
            "m",
            "--data",
            "d",
            "--method",
            "qlora",
            "--steps",
            "5",
            "--sequence-length",
            "64",
        ),
        *("--global-batch", "4", "--learning-rate", "1e-3", "--gpus", "2", "--card", "A100", "--name", "n"),
        *(
            "--priority",
            "7",
            "--output",
            "o",
            "--set",
            "memory.checkpointing=off",
            "--set",
            "retries=2",
            "--json",
        ),
        *("--set", "method.targets=[q_proj, v_proj]", "--set", "resources.labels={rack: b4}"),
    )
    assert ran.code == 0, ran.err
    assert ran.json["jobs"][0]["method"] == "qlora"
    job = submitted(server)["jobs"][0]
    assert (job["text"], job["spec"]) == (None, {})
    assert job["overrides"] == {
        "model.path": "m",
        "data.path": "d",
        "method.kind": "qlora",
        "training.steps": 5,
        "training.sequence_length": 64,
        "training.global_batch": 4,
        "training.learning_rate": 0.001,
        "resources.gpus": 2,
        "resources.card": "A100",
        "name": "n",
        "priority": 7,
        "output": "o",
        "memory.checkpointing": "off",
        "retries": 2,
        "method.targets": ["q_proj", "v_proj"],
        "resources.labels": {"rack": "b4"},
    }


def test_a_gang_may_be_let_span_hosts_by_a_flag(tuneyard: Tuneyard, server: FakeServer) -> None:
    given = ("submit", "--model", "m", "--data", "d", "--gpus", "8")
    for flags, wanted in (((), {}), (("--across-hosts",), {"resources.across_hosts": True})):
        assert tuneyard(*given, *flags).code == 0
        overrides = submitted(server)["jobs"][0]["overrides"]
        assert {key: value for key, value in overrides.items() if "across" in key} == wanted


def test_flags_are_laid_over_each_file(tuneyard: Tuneyard, server: FakeServer, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(GOOD.replace("first", name))
    ran = tuneyard("submit", "a.yaml", "b.yaml", "--steps", "3", "--priority", "high")
    assert ran.out.splitlines() == [
        "submitted job 1 (a): lora of org/name",
        "submitted job 2 (b): lora of org/name",
    ]
    assert [job["overrides"] for job in submitted(server)["jobs"]] == [
        {"training.steps": 3, "priority": "high"}
    ] * 2


def test_standard_input(tuneyard: Tuneyard, server: FakeServer) -> None:
    assert tuneyard("submit", "-", stdin=GOOD).code == 0
    assert submitted(server)["jobs"][0]["text"] == GOOD


def test_faults_stand_one_a_line(tuneyard: Tuneyard, server: FakeServer) -> None:
    ran = tuneyard("submit", "-", stdin="modle: a\ndata: b\ntraining: {steps: 0}\n")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        "error: standard input: 3 faults",
        "  model: is required; expected: hub id, local folder, or an architecture config with random weights",
        "  training.steps: must be at least 1 (given: 0); write a whole number of at least 1",
        "  modle: unknown key (given: a); did you mean model?",
    ]
    assert server.jobs == {}


def test_faults_as_json(tuneyard: Tuneyard) -> None:
    ran = tuneyard("submit", "-", "--json", stdin="model: a\ndata: b\nretries: -1\n")
    assert (ran.code, ran.err) == (2, "")
    assert ran.json["error"]["kind"] == "spec"
    assert [fault["path"] for fault in ran.json["error"]["faults"]] == ["retries"]


def test_one_bad_file_and_nothing_is_submitted(
    tuneyard: Tuneyard, server: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text("model: a\n")
    ran = tuneyard("submit", "good.yaml", "bad.yaml")
    assert ran.code == 2
    assert "bad.yaml: 1 fault" in ran.err
    assert server.jobs == {}


def test_files_that_can_not_be_read(bare: Tuneyard, tuneyard: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    (tmp_path / "huge.yaml").write_text("#" * (256 * 1024 + 1))
    for name, said in {
        "none.yaml": "there is no file none.yaml; `tuneyard init none.yaml` writes one to begin from",
        "folder": "folder is a folder; name a job file in it, such as folder/job.yaml",
        "latin.yaml": "latin.yaml is not UTF-8 text (byte 9); is it a job file?",
        "huge.yaml": "huge.yaml is too large for a job file; one has at most 256 KiB",
    }.items():
        ran = tuneyard("submit", name)
        assert (ran.code, ran.out, ran.err) == (2, "", f"error: {said}\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "give a job file, or at least --model and --data"),
        (("--set", "steps"), "--set 'steps' has no value; write PATH=VALUE"),
        (("--set", "=3"), "--set '=3' has no value; write PATH=VALUE"),
        (("--set", "method.targets=[q_proj"), "--set 'method.targets=[q_proj': not readable as YAML"),
        (("--steps", "many"), "'many' is not a valid integer"),
        (("--method", "qlra"), "'qlra' is not one of"),
        (("--model", "m", "--dry-run", "--wait"), "--dry-run stores nothing"),
        (("a.yaml", "b.yaml", "--follow"), "--follow prints one log; use --wait with several files"),
    ],
    ids=str,
)
def test_usage(tuneyard: Tuneyard, tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(GOOD)
    ran = tuneyard("submit", *args)
    assert ran.code == 2
    assert said in ran.err


def test_a_dry_run_stores_nothing(tuneyard: Tuneyard, server: FakeServer) -> None:
    ran = tuneyard("submit", "-", "--dry-run", stdin=GOOD)
    assert (ran.code, ran.out) == (0, "valid: 1 job; nothing was submitted\n")
    assert tuneyard("submit", "-", "--dry-run", "--json", stdin=GOOD).json["valid"][0]["name"] == "first"
    assert tuneyard("submit", "-", "--dry-run", stdin="model: a").code == 2
    rounds = (
        "model: {path: a/b, dtype: bfloat16}\nmethod: full\ntraining: {learning_rate: 2e-5}\n"
        + GOOD.partition("\n")[2]
    )
    ran = tuneyard("submit", "-", "--dry-run", stdin=rounds)
    assert ran.code == 0 and "warning: bfloat16 weights at learning rate 2e-05" in ran.out, ran.out
    assert server.jobs == {}


ENDS = [
    ("succeeded", "succeeded", 0),
    ("failed", "failed", 1),
    ("failed", "bad_input", 1),
    ("cancelled", "cancelled", 3),
    ("failed", "oom", 4),
    ("failed", "timeout", 5),
    ("failed", "lost", 6),
    ("failed", "not_started", 6),
]


@pytest.mark.parametrize(("state", "code", "expected"), ENDS, ids=lambda value: str(value))
def test_the_exit_code_of_wait(
    tuneyard: Tuneyard, server: FakeServer, state: str, code: str, expected: int
) -> None:
    server.on_show = lambda job: server.end(job, state, code, "its reason")
    ran = tuneyard("submit", "-", "--wait", stdin=GOOD)
    assert ran.code == expected
    assert ran.err == f"job 1 (first) {'was cancelled' if state == 'cancelled' else state}: its reason\n"
    ran = tuneyard("submit", "-", "--wait", "--json", stdin=GOOD)
    assert (ran.code, ran.err) == (expected, "")
    assert [job["state"] for job in ran.json["jobs"]] == [state]


def test_several_jobs_give_the_highest_code(tuneyard: Tuneyard, server: FakeServer, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.yaml").write_text(GOOD.replace("first", name))
    ends = {"a": ("succeeded", "succeeded"), "b": ("failed", "oom"), "c": ("failed", "failed")}
    server.on_show = lambda job: server.end(job, *ends[job["name"]])
    assert tuneyard("submit", "a.yaml", "b.yaml", "c.yaml", "--wait").code == 4


def test_wait_tells_each_move_once(tuneyard: Tuneyard, server: FakeServer) -> None:
    seen: list[int] = []

    def move(job: dict[str, Any]) -> None:
        seen.append(1)
        if len(seen) == 2:
            job.update(state="running", host="box-1", hosts=["box-1"], cards=["A100"])
        if len(seen) == 4:
            server.end(job, "succeeded", text="100 steps")

    server.on_show = move
    ran = tuneyard("submit", "-", "--wait", stdin=GOOD)
    assert ran.err.splitlines() == [
        "job 1 (first) is queued: not yet looked at",
        "job 1 (first) is running on box-1 (A100)",
        "job 1 (first) succeeded: 100 steps",
    ]


def test_follow_prints_the_logs_of_every_attempt(tuneyard: Tuneyard, server: FakeServer) -> None:
    seen: list[int] = []
    first = "".join(f"first {i}\n" for i in range(20))

    def move(job: dict[str, Any]) -> None:
        seen.append(1)
        if len(seen) == 2:
            server.logs[1, 1] = first
            job.update(state="running", attempts=1, attempts_detail=[scenes.attempt()])
        if len(seen) == 3:  # the first attempt has ended by the time the client looks again
            server.logs[1, 2] = "second\n"
            job.update(
                attempts=2,
                attempts_detail=[scenes.attempt(), scenes.attempt(2, host="box-2", hosts=["box-1", "box-2"])],
            )
            threading.Timer(0.3, server.end, (job, "failed", "oom", "out of memory")).start()

    def finish_first() -> None:
        while len(seen) < 2:
            time.sleep(0.05)
        time.sleep(0.5)
        server.jobs[1]["attempts"] = 2

    server.on_show = move
    thread = threading.Thread(target=finish_first)
    thread.start()
    ran = tuneyard("submit", "-", "--follow", stdin=GOOD)
    thread.join()
    assert ran.code == 4
    assert ran.out == "submitted job 1 (first): lora of org/name\n" + first + "second\n"
    assert "--- attempt 2 on box-1, box-2 ---" in ran.err


def test_wait_outlives_a_server_that_restarts(bare: Tuneyard, server: FakeServer) -> None:
    seen: list[int] = []

    def move(job: dict[str, Any]) -> None:
        seen.append(1)
        if len(seen) == 1:
            error = {"error": {"kind": "unavailable", "message": "the database is away", "faults": []}}
            server.raw = (503, "application/json", json.dumps(error).encode())
            threading.Timer(0.8, setattr, (server, "raw", None)).start()
        else:
            server.end(job, "succeeded")

    server.on_show = move
    ran = bare("submit", "-", "--wait", stdin=GOOD, TUNEYARD_URL=server.url, TUNEYARD_TOKEN=TOKEN)
    assert ran.code == 0
    assert "the database is away (waiting for it)\nthe server is back\n" in ran.err


@pytest.mark.parametrize("verb", ["submit", "plan"])
def test_what_is_wrong_with_a_file_comes_before_a_server_that_is_not_there(
    bare: Tuneyard, tmp_path: Path, verb: str
) -> None:
    (tmp_path / "broken.yaml").write_text("model: [\n")
    (tmp_path / "unknown.yaml").write_text("model: org/a\ndata: rows.jsonl\nsteps: 3\n")
    (tmp_path / "good.yaml").write_text("model: org/a\ndata: rows.jsonl\n")
    for extra in ({}, {"TUNEYARD_URL": "http://127.0.0.1:9"}):
        ran = bare(verb, "missing.yaml", **extra)
        assert (ran.code, ran.err.startswith("error: there is no file missing.yaml;")) == (2, True)
        ran = bare(verb, "broken.yaml", **extra)
        assert (ran.code, "broken.yaml: 1 fault\n  line 2, column 1: not readable as YAML" in ran.err) == (
            2,
            True,
        )
        ran = bare(verb, "unknown.yaml", "--json", **extra)
        assert (ran.code, ran.json["error"]["faults"][0]["path"]) == (2, "steps")
        ran = bare(verb, "good.yaml", "--set", "training.steps=0", **extra)
        assert (ran.code, "training.steps" in ran.err) == (2, True)
        ran = bare(verb, "good.yaml", **extra)
        assert (ran.code, "no tuneyard server" in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--steps", "5", "--epochs", "1"), "--steps and --epochs exclude each other; give one of the two"),
        (
            ("--steps", "5", "--set", "training.steps=6"),
            "--steps 5 and --set training.steps=6 contradict each other; give one of the two",
        ),
        (
            ("--set", "name=a", "--set", "name=b"),
            "--set name=a and --set name=b contradict each other; give one of the two",
        ),
    ],
    ids=str,
)
def test_flags_that_contradict_each_other_are_refused(
    tuneyard: Tuneyard, server: FakeServer, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    (tmp_path / "job.yaml").write_text("model: org/a\ndata: rows.jsonl\n")
    ran = tuneyard("submit", "job.yaml", *args)
    assert (ran.code, ran.err) == (2, f"error: {said}\n")
    assert server.jobs == {}


def test_what_a_flag_replaces_is_told(tuneyard: Tuneyard, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("model: org/a\ndata: rows.jsonl\ntraining: {steps: 200}\n")
    ran = tuneyard("submit", "job.yaml", "--epochs", "2")
    assert ran.code == 0, ran.err
    assert ran.err.startswith("job.yaml: training.epochs 2.0 replaces training.steps 200\n")
    replaced = ["job.yaml: training.epochs 2.0 replaces training.steps 200"]
    assert tuneyard("submit", "job.yaml", "--epochs", "2", "--json").json["replaced"] == replaced
    assert tuneyard("submit", "job.yaml").err.count("replaces") == 0


def test_a_chat_template_beside_the_job_file_goes_with_it(
    tuneyard: Tuneyard, server: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    (tmp_path / "job.yaml").write_text("model: {path: org/name, chat_template: chat.jinja}\ndata: org/rows\n")
    assert tuneyard("submit", "job.yaml").code == 0
    assert submitted(server)["jobs"][0]["overrides"] == {"model.chat_template": "{{ messages }}"}
    (tmp_path / "chat.jinja").unlink()
    ran = tuneyard("submit", "job.yaml")
    assert ran.code != 0 and "model.chat_template: is not there (given: chat.jinja)" in ran.err
