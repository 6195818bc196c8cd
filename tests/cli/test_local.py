"""init, schema, db, doctor, up's flags, the reference: what needs no server."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

from jobs.jobfile.loader import parse_yaml
from jobs.jobfile.spec import parse_spec
from jobs.units import GiB, MiB
from orchestrator.cli.commands.fleet.services import parse_cards
from orchestrator.cli.reference import TARGET, reference
from orchestrator.server import local_cluster
from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import TOKEN, FakeServer
from tests.workers.disks import mounted


def test_init_writes_a_job_that_is_valid(bare: Tuneyard, tmp_path: Path) -> None:
    ran = bare("init")
    assert ran.code == 0
    assert ran.out == (
        "wrote job.yaml; edit model and data, then: tuneyard plan job.yaml, tuneyard submit job.yaml\n"
    )
    assert parse_spec(parse_yaml((tmp_path / "job.yaml").read_text())).name == "my-first-adapter"


def test_init_does_not_write_over_a_file(bare: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("mine")
    ran = bare("init")
    assert (ran.code, ran.err) == (
        2,
        "error: job.yaml is there already; name another, or write over it with --force\n",
    )
    assert (tmp_path / "job.yaml").read_text() == "mine"
    assert bare("init", "--force", "--json").json == {"path": "job.yaml", "example": "lora"}
    assert (tmp_path / "job.yaml").read_text().startswith("# LoRA")


def test_init_elsewhere(bare: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert bare("init", "folder", "--example", "full").code == 0
    assert "method: full" in (tmp_path / "folder" / "job.yaml").read_text()
    assert bare("init", "-", "--example", "qlora").out.startswith("# A larger model")
    assert (
        bare("init", "none/job.yaml").err
        == "error: none/job.yaml can't be written: No such file or directory\n"
    )
    ran = bare("init", "--example", "zzz")
    assert (ran.code, ran.err) == (
        2,
        "error: there is no example 'zzz'; there are dpo, from-config, full, kto, lora, qlora, reward, sweep, tiny\n",
    )


def test_init_tiny_writes_a_folder_that_needs_nothing_else(bare: Tuneyard, tmp_path: Path) -> None:
    ran = bare("init", "--example", "tiny")
    assert (ran.code, "tuneyard submit tiny/job.yaml --follow" in ran.out) == (0, True)
    made = {str(path.relative_to(tmp_path / "tiny")) for path in (tmp_path / "tiny").rglob("*.*")}
    assert made == {
        *("job.yaml", "data.jsonl", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"),
    }
    assert sum(path.stat().st_size for path in (tmp_path / "tiny").rglob("*.*")) < 2**17
    spec = parse_spec(parse_yaml((tmp_path / "tiny" / "job.yaml").read_text()))
    vocabulary = json.loads((tmp_path / "tiny" / "tokenizer" / "tokenizer.json").read_text())["model"][
        "vocab"
    ]
    assert spec.model.config is not None and spec.model.config["vocab_size"] == len(vocabulary)
    elsewhere = bare("init", "a/b", "--example", "tiny", "--json").json
    assert (elsewhere["path"], len(elsewhere["files"])) == ("a/b/job.yaml", 4)


def test_init_tiny_never_writes_over_a_file_and_then_writes_none(bare: Tuneyard, tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("mine")
    ran = bare("init", ".", "--example", "tiny")
    assert (ran.code, "tokenizer/tokenizer.json is there already" in ran.err) == (2, True)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["tokenizer.json"]
    assert bare("init", ".", "--example", "tiny", "--force").code == 0
    assert (tmp_path / "tokenizer" / "tokenizer.json").read_text() != "mine"


def test_init_lists_its_examples(bare: Tuneyard) -> None:
    about = bare("init", "--list", "--json").json["examples"]
    assert list(about) == ["dpo", "from-config", "full", "kto", "lora", "qlora", "reward", "sweep", "tiny"]
    assert all(len(text) > 20 for text in about.values())
    assert bare("init", "--list").out.startswith("EXAMPLE      WHAT\ndpo          Preferences")


def test_schema(bare: Tuneyard) -> None:
    ran = bare("schema")
    assert (ran.code, ran.json) == (0, bare("schema", "--json").json)
    jsonschema.Draft202012Validator.check_schema(ran.json)


def test_the_reference_is_up_to_date() -> None:
    text = reference()
    assert TARGET.read_text(encoding="utf-8") == text, "run python -m orchestrator.cli.reference"
    assert "| `learning_rate` | number above 0 to 10 | `0.0002` | Peak learning rate. |" in text


def test_the_database(bare: Tuneyard, environment: dict[str, str], tmp_path: Path) -> None:
    Path(environment["TUNEYARD_HOME"]).mkdir()
    ran = bare("db", "check")
    assert ran.code == 1
    assert ran.err.startswith("error: there is no database ")
    revision = bare("db", "upgrade", "--json").json["revision"]
    assert bare("db", "upgrade").out == f"the database is at revision {revision}\n"
    assert bare("db", "check").out == f"revision {revision}, the one that this version wants\nno faults\n"
    assert bare("db", "check", "--json").json == {"revision": revision, "head": revision, "faults": []}
    copied = bare("db", "backup", "copy.db", "--json").json
    assert copied == {"path": "copy.db", "bytes": (tmp_path / "copy.db").stat().st_size}
    assert bare("db", "check", "--database", f"sqlite:///{tmp_path / 'copy.db'}").code == 0
    ran = bare("db", "backup", "copy.db")
    assert (ran.code, ran.err) == (2, "error: copy.db is there already; name another file\n")


def test_a_database_that_is_no_url(bare: Tuneyard) -> None:
    ran = bare("db", "check", "--database", "mysql://x")
    assert ran.code == 2
    assert "'mysql://x' is not usable" in ran.err


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ("700", "--cpu-cards '700' is not a size: write a number and a unit, such as 24GiB or 700MiB"),
        ("1GiB,", "--cpu-cards '' is not a size"),
        ("0MiB", "--cpu-cards '0MiB' has a card without memory"),
    ],
)
def test_cpu_cards_that_are_none(bare: Tuneyard, sizes: str, said: str) -> None:
    for verb in (("up",), ("host", "run", "--server", "http://127.0.0.1:9")):
        ran = bare(*verb, "--cpu-cards", sizes)
        assert ran.code == 2
        assert said in ran.err


def test_labels_that_are_none(bare: Tuneyard) -> None:
    ran = bare("host", "run", "--label", "rack")
    assert (ran.code, ran.err) == (
        2,
        "error: --label 'rack' is no label; write KEY=VALUE, such as --label rack=b4\n",
    )


@pytest.fixture
def up_already(environment: dict[str, str], server: FakeServer) -> Path:
    """A home whose server (the fake one) and host agent run: this process plays both."""
    home = Path(environment["TUNEYARD_HOME"])
    (home / "run").mkdir(parents=True)
    port = int(server.url.rpartition(":")[2])
    config = home / "config.json"
    config.write_text(json.dumps({"url": server.url, "port": port, "token": TOKEN}))
    config.chmod(0o600)
    process = {"pid": os.getpid(), "create_time": psutil.Process().create_time()}
    (home / "run" / "server.json").write_text(json.dumps(process))
    given = {"cpu_cards": [2**30], "warm": 1}
    (home / "run" / "host.json").write_text(json.dumps({**process, "given": given}))
    server.hosts = [scenes.host("another"), scenes.host(socket.gethostname())]
    server.gpus = [
        scenes.gpu(1, host="another"),
        scenes.gpu(2, host=socket.gethostname(), name="cpu", memory_bytes=2**30),
    ]
    return home


def test_up_names_its_own_host_and_cards(bare: Tuneyard, up_already: Path) -> None:
    ran = bare("up", "--cpu-cards", "1GiB", "--warm", "1")  # as it runs
    assert ran.code == 0, ran.err
    assert f"host: {socket.gethostname()} (process {os.getpid()}) with cpu 1.00 GiB\n" in ran.err
    assert ran.out.startswith("tuneyard was already up at http")
    found = bare("up", "--json").json
    assert (found["host"], [gpu["id"] for gpu in found["gpus"]]) == (socket.gethostname(), [2])


def test_up_takes_the_options_of_the_last_up(tmp_path: Path) -> None:
    """Of a home whose agent has ended, also one that an older version began."""
    assert local_cluster.kept_options(tmp_path) == {}
    record = {"pid": 2**22 + 1, "create_time": 1.0, "given": {"cpu_cards": [700 * MiB, GiB], "warm": None}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "host.json").write_text(json.dumps(record))
    options = local_cluster.kept_options(tmp_path)
    assert local_cluster.flags_of(options) == "--cpu-cards 700MiB,1GiB"
    assert parse_cards(None, None, "700MiB,1GiB") == options["cpu_cards"]  # type: ignore[arg-type]
    (tmp_path / local_cluster.OPTIONS).write_text('{"warm": 2}')
    assert local_cluster.flags_of(local_cluster.kept_options(tmp_path)) == "--warm 2"
    assert parse_cards(None, None, "none") == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--cpu-cards", "none"), "the host agent runs already, with the CPU cards 1.00 GiB"),
        (("--cpu-cards", "1GiB,700MiB"), "the host agent runs already, with the CPU cards 1.00 GiB"),
        (("--port", "1"), "the server runs already, on port "),
        (("--warm", "4"), "the host agent runs already, with 1"),
    ],
    ids=str,
)
def test_up_refuses_what_it_would_ignore(
    bare: Tuneyard, up_already: Path, flags: tuple[str, str], said: str
) -> None:
    ran = bare("up", *flags)
    assert ran.code == 2
    assert ran.err.startswith(f"error: {flags[0]} ")
    assert said in ran.err
    assert "`tuneyard down` first" in ran.err


def test_up_does_not_leave_the_agent_at_another_port(bare: Tuneyard, up_already: Path) -> None:
    (up_already / "run" / "server.json").unlink()  # it has crashed; the agent goes on
    ran = bare("up", "--port", "1")
    assert ran.code == 2
    assert ran.err.startswith("error: --port 1: the host agent runs already, and asks the server on port ")


def test_doctor_without_a_server(bare: Tuneyard) -> None:
    ran = bare("doctor", "--json")
    checks = {check["name"]: check for check in ran.json["checks"]}
    assert {"python", "training stack", "GPUs", "home", "disk space", "database", "server"} <= set(checks)
    assert (checks["python"]["status"], checks["server"]["status"]) == ("ok", "warn")
    assert checks["server"]["fix"].startswith("start one with `tuneyard up`")
    assert ran.code == int(any(check["status"] == "fail" for check in checks.values()))
    assert bare("doctor").out.startswith("CHECK")


def test_doctor_with_a_server(tuneyard: Tuneyard, server: FakeServer) -> None:
    def checks(**extra: str) -> dict[str, tuple[str, str]]:
        found = tuneyard("doctor", "--json", **extra).json["checks"]
        return {check["name"]: (check["status"], check["found"]) for check in found}

    assert checks()["hosts"] == ("warn", "0 of 0 online")
    server.hosts = [scenes.host("a"), scenes.host("b")]
    found = checks()
    assert (found["token"][0], found["ray"], found["hosts"]) == (
        "ok",
        ("ok", "ready"),
        ("ok", "2 of 2 online with 4 cards"),
    )
    assert checks(TUNEYARD_TOKEN="wrong")["token"][0] == "fail"
    assert tuneyard("doctor", TUNEYARD_TOKEN="wrong").code == 1
    assert checks(TUNEYARD_URL="http://127.0.0.1:9")["server"][0] == "fail"


@pytest.mark.parametrize(
    ("name", "status", "health"),
    [
        ("ray", "fail", {"ray": "down", "dispatcher": "it has said nothing for 16 s"}),
        ("ray", "warn", {"ray": "starting", "dispatcher": "starting"}),
        ("database", "fail", {"database": "the database x is not available: disk full"}),
        ("scheduler", "fail", {"scheduler": "its last good round was 189 s ago: ValueError: odd"}),
    ],
)
def test_doctor_names_the_part_of_the_server_that_is_not_well(
    tuneyard: Tuneyard, server: FakeServer, name: str, status: str, health: dict[str, str]
) -> None:
    server.health = health
    checks = {each["name"]: each for each in tuneyard("doctor", "--json").json["checks"] if each["found"]}
    found = checks[name]
    assert found["status"] == status and found["fix"]
    assert str(list(health.values())[-1]) in found["found"]


def test_doctor_warns_of_plain_http_beyond_the_machine(tuneyard: Tuneyard, server: FakeServer) -> None:
    def transport() -> list[dict[str, str]]:
        found = tuneyard("doctor", "--json").json["checks"]
        return [check for check in found if check["name"] == "transport"]

    assert transport() == []
    server.exposed = True
    (check,) = transport()
    assert (check["status"], "TLS" in check["fix"]) == ("warn", True)


def test_doctor_names_every_host_and_card_at_fault(tuneyard: Tuneyard, server: FakeServer) -> None:
    def fleet() -> tuple[int, dict[str, tuple[str, str, str]]]:
        ran = tuneyard("doctor", "--json")
        checks = {each["name"]: (each["status"], each["found"], each["fix"]) for each in ran.json["checks"]}
        return ran.code, {name: check for name, check in checks.items() if name in ("hosts", "cards")}

    def well() -> bool:
        return all(check[0] == "ok" for check in fleet()[1].values())

    server.hosts = [scenes.host("a"), scenes.host("b", state="draining", drained=True)]
    server.gpus = [scenes.gpu(1, host="a"), scenes.gpu(2, host="b")]
    assert well()
    for state in ("away", "stopped"):
        server.hosts[1] = scenes.host("b", state=state)
        code, found = fleet()
        assert code == 1
        assert found["hosts"][:2] == ("fail", f"1 of 2 online with 2 cards; b is {state}")
        assert "`tuneyard host drain b`" in found["hosts"][2]
        server.hosts[1]["drained"] = True  # it is meant to be out
        assert well()
    server.hosts[1] = scenes.host("b")
    server.gpus[1]["fault"] = "NVML: GPU is lost"
    code, found = fleet()
    assert (code, found["cards"][:2]) == (1, ("fail", "b #1: NVML: GPU is lost"))
    server.gpus[1]["fault"] = None
    assert well()
    server.hosts[0]["ray_ready"] = False
    assert fleet()[1]["hosts"][:2] == ("warn", "2 of 2 online with 4 cards; Ray is not ready on a")


def test_doctor_fails_where_no_host_takes_jobs(tuneyard: Tuneyard, server: FakeServer) -> None:
    def hosts() -> tuple[str, str, str]:
        checks = {each["name"]: each for each in tuneyard("doctor", "--json").json["checks"]}
        return checks["hosts"]["status"], checks["hosts"]["found"], checks["hosts"]["fix"]

    server.hosts = [
        scenes.host("a", state="draining", drained=True),
        scenes.host("b", state="drained", drained=True),
    ]
    assert hosts() == (
        "fail",
        "2 of 2 online with 4 cards; no job can start: a is draining, b is drained",
        "`tuneyard host undrain a` gives it jobs again",
    )
    server.hosts[1] = scenes.host("b")
    assert hosts()[0] == "ok"
    server.hosts[1] = scenes.host("b", state="stopped", drained=True)
    assert hosts()[:2] == ("fail", "1 of 2 online with 2 cards; no job can start: a is draining")


def test_doctor_names_each_kind_of_fault_of_hosts(tuneyard: Tuneyard, server: FakeServer) -> None:
    server.hosts = [
        *(scenes.host(f"a{i}", state="away") for i in range(7)),
        scenes.host("b", fault="no room on /"),
        scenes.host("c", ray_ready=False),
    ]
    found = [each for each in tuneyard("doctor", "--json").json["checks"] if each["name"] == "hosts"]
    there = "2 of 9 online with 4 cards; "
    assert [(each["status"], each["found"]) for each in found] == [
        ("fail", there + ", ".join(f"a{i} is away" for i in range(5)) + " and 2 more"),
        ("fail", there + "b can't start a trainer: no room on /"),
        ("warn", there + "Ray is not ready on c"),
    ]


def test_doctor_looks_at_the_disks_of_hosts(tuneyard: Tuneyard, server: FakeServer) -> None:
    def disk(holds: str, free: float, path: str) -> dict[str, Any]:
        return {"holds": holds, "path": path, "free_bytes": int(free * 2**30), "total_bytes": 2**40}

    def disks() -> list[tuple[str, str]]:
        found = tuneyard("doctor", "--json").json["checks"]
        return [(each["status"], each["found"]) for each in found if each["name"] == "hosts' disks"]

    server.hosts = [scenes.host("a")]
    assert disks() == []  # an older agent says nothing
    server.hosts[0]["disks"] = [disk("checkpoints", 50, "/home"), disk("results", 40, "/data")]
    assert disks() == [("ok", "40.00 GiB free for results on a (/data)")]
    server.hosts.append(scenes.host("b", disks=[disk("checkpoints and results", 3, "/")]))
    assert disks() == [("warn", "3.00 GiB free for checkpoints and results on b (/)")]
    server.hosts[0]["disks"][1] = disk("results", 0.01, "/data")
    ((status, found),) = disks()
    assert status == "fail" and found.startswith("10 MiB free for results on a (/data); 3.00 GiB free")
    assert tuneyard("doctor").code == 1
    for host in server.hosts:
        host["state"] = "away"
    assert disks() == []  # as they were, nobody knows how they are
    assert "DISK FREE" in tuneyard("hosts").out


def test_doctor_looks_at_the_folder_of_results_where_that_is_another_disk(
    bare: Tuneyard, environment: dict[str, str], tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", MiB) as full:
        output = Path(environment["TUNEYARD_HOME"]) / "host" / "output"
        output.parent.mkdir(parents=True)
        output.symlink_to(full.path)
        checks = {each["name"]: each for each in bare("doctor", "--json").json["checks"]}
    assert checks["disk space"]["status"] == "fail"
    assert str(output) in checks["disk space"]["found"]


def test_doctor_sees_a_token_that_others_can_read(bare: Tuneyard, environment: dict[str, str]) -> None:
    home = Path(environment["TUNEYARD_HOME"])
    home.mkdir()
    config = home / "config.json"
    config.write_text('{"url": "http://127.0.0.1:9", "token": "t"}')
    config.chmod(0o644)
    checks = {check["name"]: check for check in bare("doctor", "--json").json["checks"]}
    assert checks["home"]["status"] == "warn"
    assert checks["home"]["fix"] == f"chmod 600 {config}"
