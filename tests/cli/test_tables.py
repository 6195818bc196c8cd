"""list, hosts, gpus, top, show, why: what people and programs get in a pipe."""

from __future__ import annotations

import getpass
import re
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from jobs.memory.calibration.observations import INCOMPARABLE
from orchestrator.cli.render import words
from orchestrator.client.client import Client
from orchestrator.schemas import Leader
from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import TOKEN, FakeServer


def test_list(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.running(server, submitted_at=time.time() - 7300)
    scenes.waiting(server)
    failed = server.add(name="", method="full")
    server.end(failed, "failed", "oom", "out of memory at step 3")
    ran = tuneyard("list")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "ID  NAME       USER  STATE    PRIORITY  GPUS  PROGRESS   LOSS    ETA  HOST   CARD       CHECKPOINTING   "
        "  PROJECTED  MEASURED  SUBMITTED  REASON",
        " 3  -          ada   failed         50     1                                                            "
        "                          1m ago  out of memory at step 3",
        " 2  too-big    ada   queued         50     1                                                            "
        "                          1m ago  needs 91.20 GiB at least; the largest card has 39.56 GiB",
        " 1  docs-lora  ada   running        50     1       41%  1.234  7m01s  box-1  A100-40GB  every layer, 2×4"
        "   7.00 GiB  6.90 GiB     2h ago",
    ]


def test_list_has_the_columns_that_are_asked_for(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.running(server)
    server.add(name="waits", user="eve")
    ran = tuneyard("list", "--columns", "loss,Name,eval-loss,user", COLUMNS="40")
    assert ran.out.splitlines() == [
        " LOSS  NAME       EVAL_LOSS  USER",
        "    -  waits              -  eve",
        "1.234  docs-lora          -  ada",
    ]
    for given in ("loss,lost", ",", ""):
        ran = tuneyard("list", "--columns", given)
        assert ran.code == 2 and "; use id, name, group, user" in ran.err, given
    assert len(server.requests) == 1, "a fault of the flags is told before the server is asked"


def test_what_could_not_be_shown_is_refused_before_the_server_is_asked(
    tuneyard: Tuneyard, server: FakeServer
) -> None:
    twice = tuneyard("list", "--columns", "id,name,id")
    assert (twice.code, twice.out) == (2, "") and "--columns names id twice" in twice.err
    nobody = tuneyard("list", "--user", "")
    assert (nobody.code, nobody.out) == (2, "") and "--user is empty; write a name" in nobody.err
    both = tuneyard("list", "--columns", "id", "--json")
    assert both.code == 2 and "--columns is for the table" in both.json["error"]["message"]
    assert server.requests == []


def test_a_loss_that_is_no_number_is_not_hidden(tuneyard: Tuneyard, server: FakeServer) -> None:
    job = scenes.running(server)
    job["progress"]["loss"] = None
    assert tuneyard("list", "--columns", "loss").out.split() == ["LOSS", "nan"]


def test_list_asks_the_server_for_what_is_wanted(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.add(name="one", user="eve")
    server.add(name="other", user=getpass.getuser())
    asked = tuneyard("list", "--user", "eve", "--name", "o*", "--sort", "-Loss", "--since", "2h", "--json")
    assert [job["name"] for job in asked.json["jobs"]] == ["one"]
    query = parse_qs(urlsplit(server.requests[-1][1]).query)
    since = float(query.pop("since")[0])
    assert query == {"user": ["eve"], "name": ["o*"], "sort": ["-loss"], "limit": ["50"]}
    assert abs(time.time() - 7200 - since) < 60
    assert [job["name"] for job in tuneyard("list", "--mine", "--json").json["jobs"]] == ["other"]
    tuneyard("list", "--since", "2026-11-01", TZ="Asia/Tokyo")
    query = parse_qs(urlsplit(server.requests[-1][1]).query)
    assert float(query["since"][0]) == 1793458800.0, "a day begins by this machine's clock"
    told = tuneyard("list", "--mine", "--since", "1h", "--name", "x").err
    assert told == "" or told.startswith("no jobs of user ")


def test_sorted_pages_are_one_list(tuneyard: Tuneyard, server: FakeServer) -> None:
    for _ in range(1203):
        server.add()
    found = tuneyard("list", "--all", "--sort", "name", "--json").json["jobs"]
    assert [job["id"] for job in found] == list(range(1203, 0, -1))
    asked = [parse_qs(urlsplit(path).query).get("offset") for _, path, _ in server.requests]
    assert asked == [None, ["500"], ["1000"]]
    with Client(server.url, TOKEN) as client:
        assert [job["id"] for job in client.all_jobs(sort="name")] == [job["id"] for job in found]


def test_list_narrows_and_pages(tuneyard: Tuneyard, server: FakeServer) -> None:
    for number in range(1203):
        server.add(name=f"job-{number}", state="running" if number % 2 else "queued")
    ran = tuneyard("list", "--limit", "2", "--json")
    assert ([job["id"] for job in ran.json["jobs"]], ran.json["total"]) == ([1203, 1202], 1203)
    ran = tuneyard("list", "--limit", "2")
    assert ran.out.count("\n") == 3
    assert ran.err == "2 of 1,203 jobs; --limit N or --all shows more\n"
    ran = tuneyard("list", "--all", "--state", "queued,running", "--json")
    assert [job["id"] for job in ran.json["jobs"]] == list(range(1203, 0, -1))
    assert len(tuneyard("list", "--all", "--state", "queued", "--json").json["jobs"]) == 602


def test_list_of_nothing(tuneyard: Tuneyard) -> None:
    ran = tuneyard("list")
    assert (ran.code, ran.out, ran.err) == (0, "", "no jobs; `tuneyard submit` makes the first\n")
    assert tuneyard("list", "--state", "failed").err == "no jobs that are failed\n"
    assert tuneyard("list", "--json").json == {"jobs": [], "more": False, "total": 0}


@pytest.mark.parametrize(
    "args",
    [
        ("--state", "zzz"),
        ("--limit", "0"),
        ("--limit", "x"),
        ("--sort", "colour"),
        ("--sort", "--id"),
        ("--since", "yesterday"),
        ("--since", "2999-01-01"),
        ("--since", "0000-00-00"),
        ("--columns", "colour"),
        ("--columns", "id,name,ID"),
        ("--user", ""),
        ("--name", " "),
        ("--project", ""),
        ("--group", ""),
        ("--state", ","),
    ],
    ids=str,
)
def test_list_usage(tuneyard: Tuneyard, args: tuple[str, str]) -> None:
    assert tuneyard("list", *args).code == 2
    ran = tuneyard("list", *args, "--json")
    assert (ran.code, ran.err) == (2, "")
    assert ran.json["error"]["kind"] == "usage"


def test_a_cancel_on_its_way_is_marked(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.running(server, cancel_requested=True)
    assert " running* " in tuneyard("list").out


def test_what_others_named_can_not_drive_the_terminal(tuneyard: Tuneyard, server: FakeServer) -> None:
    reason = {"code": "failed", "text": "\x1b[2Jgone\x07\nnew line", "figures": {}}
    scenes.running(server, state="failed", reason=reason)
    for args in (("list",), ("show", "1"), ("why", "1")):
        out = tuneyard(*args).out
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "[2Jgone  new line" in out


def test_hosts(tuneyard: Tuneyard, server: FakeServer) -> None:
    assert "no host has joined" in tuneyard("hosts").err
    away = scenes.host("b", state="away", ray_ready=False, last_seen=time.time() - 500, labels={}, free=2)
    stopped = scenes.host("c", state="stopped", drained=True, free=0)
    draining = scenes.host("d", state="draining", drained=True, free=0)
    server.hosts = [scenes.host("box-1", last_seen=time.time() - 150), away, stopped, draining]
    assert tuneyard("hosts").out.splitlines() == [
        "NAME   STATE             RAY      CARDS  FREE  LAST SEEN  LABELS   TORCH   VERSION",
        "box-1  online            ready        2     1     2m ago  rack=b4  2.13.0  0.1.0",
        "b      away              not yet      2     2     8m ago           2.13.0  0.1.0",
        "c      stopped, drained  ready        2     0        now  rack=b4  2.13.0  0.1.0",
        "d      draining          ready        2     0        now  rack=b4  2.13.0  0.1.0",
    ]
    assert tuneyard("hosts", "--json").json == {"hosts": server.hosts}


def test_a_server_that_stands_by_says_who_leads() -> None:
    lead: Leader = {"leads": False, "url": "http://10.0.0.1:7420", "host": "ctrl-a", "since": 1.0, "epoch": 3}
    said = words.leader(lead, 2.0)
    assert said is not None and said.startswith(
        "this server stands by; http://10.0.0.1:7420 on ctrl-a leads, since "
    )
    assert words.leader({**lead, "url": None}, 2.0) == "no server leads just now: nothing starts"
    assert words.leader({**lead, "leads": True}, 2.0) is words.leader(None, 2.0) is None


def test_hosts_that_cannot_start_a_trainer_say_why(tuneyard: Tuneyard, server: FakeServer) -> None:
    fault = "the trainer's libraries can't be loaded: ImportError: libfoo.so.6 is missing"
    ill = scenes.host("b", state="faulty", fault=fault, tried_again_at=time.time() + 39.5)
    server.hosts = [scenes.host("a"), ill]
    told = tuneyard("hosts")
    assert told.out.splitlines()[2].split()[:2] == ["b", "faulty"]
    assert told.err == f"b can't start a trainer: {fault}; tried again in 39s\n"
    checks = {check["name"]: check for check in tuneyard("doctor", "--json").json["checks"]}
    assert (
        checks["hosts"]["status"] == "fail"
        and f"b can't start a trainer: {fault}" in checks["hosts"]["found"]
    )
    assert tuneyard("doctor").code == 1


def test_what_hosts_set_aside_is_told_by_doctor(tuneyard: Tuneyard, server: FakeServer) -> None:
    aside = "the folder of another job that had the id 7 (uuid 0a1b), in aside/job-7-0a1b2c3d"
    server.hosts = [scenes.host("a"), scenes.host("b", aside=[aside])]
    checks = {check["name"]: check for check in tuneyard("doctor", "--json").json["checks"]}
    assert (checks["set aside"]["status"], checks["set aside"]["found"]) == ("warn", f"b: {aside}")


def test_gpus(tuneyard: Tuneyard, server: FakeServer) -> None:
    assert "no cards" in tuneyard("gpus").err
    server.gpus = [
        scenes.gpu(1, job=12, attempt=7),
        scenes.gpu(
            2, name="cpu", memory_bytes=700 * 2**20, sample={"memory_used_bytes": 0, "utilization": 0.0}
        ),
        scenes.gpu(3, fault="NVML: GPU is lost", sample=None),
        scenes.gpu(4, host_state="away", job=13),
        scenes.gpu(5, host_state="draining"),
    ]
    assert tuneyard("gpus").out.splitlines() == [
        "HOST   #  CARD          MEMORY     IN USE  BUSY  POWER   TEMP  JOB  NOTE",
        "box-1  0  A100-40GB  40.00 GiB  30.00 GiB   98%  310 W  61 °C   12",
        "box-1  1  cpu          700 MiB      0 MiB    0%      -      -",
        "box-1  2  A100-40GB  40.00 GiB          -     -      -      -       NVML: GPU is lost",
        "box-1  3  A100-40GB  40.00 GiB          -     -      -      -   13  host is away",
        "box-1  4  A100-40GB  40.00 GiB  30.00 GiB   98%  310 W  61 °C       host is draining",
    ]


def test_top_in_a_pipe_prints_once(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.running(server)
    scenes.waiting(server)
    server.gpus = [scenes.gpu(1, job=1), scenes.gpu(2, sample=None)]
    ran = tuneyard("top")
    assert ran.out == tuneyard("top", "--once").out
    assert ran.out.splitlines() == [
        "2 cards, 1 busy, 1 free, 1 running, 1 queued, 310 W, 30.00 GiB of 80.00 GiB, 1 host",
        "",
        "HOST   #  CARD       MEMORY                            USE              POWER   TEMP     JOB"
        "          PROGRESS  TOKENS/S    ETA",
        "box-1  0  A100-40GB  ████████░░ 30.00 GiB / 40.00 GiB  ██████████  98%  310 W  61 °C  ●  1 docs-lora"
        "       41%     5,123  7m01s",
        "box-1  1  A100-40GB  ░░░░░░░░░░ - / 40.00 GiB          -                    -      -  ○  free",
        "",
        "ID  NAME     USER  SUBMITTED  REASON",
        " 2  too-big  ada      1m ago  needs 91.20 GiB at least; the largest card has 39.56 GiB",
    ]  # fmt: skip
    told = tuneyard("top", "--json").json
    assert told["cards"]["job"] == [1, None] and told["totals"]["waiting"] == 1
    asked = [path for _, path, _ in server.requests if "/fleet" in path]
    assert all("limit=500" in path for path in asked)


def test_top_without_a_host_says_how_one_joins(tuneyard: Tuneyard, server: FakeServer) -> None:
    ran = tuneyard("top")
    assert ran.out == "0 cards, 0 busy, 0 running, 0 queued, 0 hosts\n"
    assert ran.err.startswith("no host has joined; `tuneyard host run")


def test_top_in_a_pipe_has_every_host_page_by_page(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.gpus = [scenes.gpu(number, host=f"box-{number:04d}") for number in range(1, 1102)]
    lines = tuneyard("top").out.splitlines()
    assert [line.split()[0] for line in lines[3:]] == [f"box-{number:04d}" for number in range(1, 1102)]
    assert len(tuneyard("top", "--json").json["cards"]["id"]) == 1101


def test_top_counts_no_card_of_a_host_that_is_not_there(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.running(server)
    server.gpus = [
        scenes.gpu(1, job=1, host_state="away"),
        scenes.gpu(2, host="b"),
        scenes.gpu(3, host="c", host_state="drained"),
    ]
    out = tuneyard("top").out
    assert out.startswith("3 cards, 0 busy, 1 free, 1 away, 1 closed, 1 running, 0 queued, 621 W, ")
    online, away, drained = out.splitlines()[3:6]  # by name
    assert "30.00 GiB / 40.00 GiB" not in away  # what it was before
    assert away.endswith("?  host is away, had 1 docs-lora"), "and no pace of a job that nobody sees"
    assert online.endswith("○  free")
    assert drained.endswith("–  host is drained")


def test_show(tuneyard: Tuneyard, server: FakeServer) -> None:
    ended = scenes.attempt(
        outcome="failed", message="no such row", ended_at=time.time() - 100, steps=3, last_checkpoint=None
    )
    scenes.running(server, attempts=2, attempts_detail=[ended, scenes.attempt(2)], user="ada")
    out = tuneyard("show", "docs-lora").out
    for line in (
        "job 1 (docs-lora)",
        "  state      running",
        "  progress   step 41 of 100 (41%), loss 1.234, 5,123 tokens/s, 7m01s to go",
        "  where      box-1: A100-40GB",
        "  submitted  1m ago by ada",
        "attempt 1 on box-1: A100-40GB",
        "  outcome        failed 1m ago",
        "  steps          3 of 100",
        "  peak on card     7.00 GiB  6.90 GiB  -1.4%",
        "  step time          500 ms    520 ms  +4.0%",
        "  tokens/s, mean                5,123",
    ):
        assert line in out.splitlines(), line
    assert re.search(r"^  \d+[sm]\d* ago +1  started  on box-1$", out, re.MULTILINE)
    assert tuneyard("show", "1", "--json").json["attempts_detail"][0]["outcome"] == "failed"


def test_show_says_what_is_not_comparable_and_what_ran_out(tuneyard: Tuneyard, server: FakeServer) -> None:
    unsaid = {**scenes.ERRORS, **dict.fromkeys(("allocated_bytes", "reserved_bytes", "device_bytes"))}
    tried = [
        scenes.attempt(1, not_comparable="roomy_card", errors=unsaid),
        scenes.attempt(2, outcome="oom", errors={**scenes.ERRORS, "device_bytes": 4.714}),
    ]
    scenes.running(server, attempts_detail=tried)
    first, _, second = tuneyard("show", "1").out.partition("attempt 2")
    assert "  peak on card     7.00 GiB  6.90 GiB  not comparable\n" in first
    assert "  step time          500 ms    520 ms           +4.0%\n" in first
    assert (
        "  not comparable: it had a CPU card with room to spare, where malloc keeps what is freed\n" in first
    )
    assert "  peak on card     7.00 GiB  over 40.00 GiB  ≥ +471.4%\n" in second
    assert "not comparable" not in second


def test_every_reason_not_to_compare_has_words() -> None:
    assert tuple(words.INCOMPARABLE) == INCOMPARABLE


def test_show_of_what_is_not_measured(tuneyard: Tuneyard, server: FakeServer) -> None:
    bare_attempt = scenes.attempt(
        measured=None, errors=None, projection=None, rung=None, first_loss=None, last_loss=None
    )
    scenes.running(server, progress=None, attempts_detail=[bare_attempt], events=[])
    out = tuneyard("show", "1").out
    assert "PROJECTED" not in out
    assert "events" not in out


def test_show_cuts_old_events(tuneyard: Tuneyard, server: FakeServer) -> None:
    events = [{"ts": time.time(), "kind": "note", "text": f"event {i}", "attempt": None} for i in range(40)]
    scenes.running(server, events=events)
    out = tuneyard("show", "1").out
    assert "event 9\n" not in out
    assert "event 10\n" in out
    assert "10 earlier events; --events shows all of them" in out
    assert "event 0\n" in tuneyard("show", "1", "--events").out


@pytest.mark.parametrize("verb", ["show", "why", "logs", "cancel", "requeue"])
def test_a_job_that_is_not_there(tuneyard: Tuneyard, verb: str) -> None:
    ran = tuneyard(verb, "no/such job")
    assert (ran.code, ran.err) == (1, "error: there is no job no/such job\n")
    assert tuneyard(verb, "7", "--json").json["error"]["kind"] == "not_found"


def test_why(tuneyard: Tuneyard, server: FakeServer) -> None:
    scenes.waiting(server)
    server.why = {
        "hosts": [
            {"host": "box-1", "verdict": "needs 91.20 GiB; its cards have 39.56 GiB", "code": "memory"},
            {"host": "b", "verdict": "has been away for 8m20s", "code": "no_host"},
        ],
        "advice": ["a smaller model would fit"],
    }
    assert tuneyard("why", "too-big").out.splitlines() == [
        "job 1 (too-big) is queued: needs 91.20 GiB at least; the largest card has 39.56 GiB",
        "",
        "  HOST   CODE     FIRST THING THAT DOES NOT FIT",
        "  box-1  memory   needs 91.20 GiB; its cards have 39.56 GiB",
        "  b      no_host  has been away for 8m20s",
        "",
        "what would help",
        "  - a smaller model would fit",
    ]
    assert tuneyard("why", "1", "--json").json["advice"] == ["a smaller model would fit"]
