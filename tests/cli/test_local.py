"""init, schema, db, doctor, up's flags, the reference: what needs no server."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from jobs.spec import parse_spec, parse_yaml
from orchestrator.cli.reference import TARGET, reference
from tests.cli import scenes
from tests.cli.conftest import Tuneyard
from tests.cli.fake_server import FakeServer


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
        "error: there is no example 'zzz'; there are from-config, full, lora, qlora, sweep\n",
    )


def test_init_lists_its_examples(bare: Tuneyard) -> None:
    about = bare("init", "--list", "--json").json["examples"]
    assert list(about) == ["from-config", "full", "lora", "qlora", "sweep"]
    assert all(len(text) > 20 for text in about.values())
    assert bare("init", "--list").out.startswith("EXAMPLE      WHAT\nfrom-config  A model that starts")


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
    server.hosts = [scenes.host("a"), scenes.host("b", state="away")]
    found = checks()
    assert (found["token"][0], found["ray"], found["hosts"]) == (
        "ok",
        ("ok", "ready"),
        ("ok", "1 of 2 online with 2 cards"),
    )
    assert checks(TUNEYARD_TOKEN="wrong")["token"][0] == "fail"
    assert tuneyard("doctor", TUNEYARD_TOKEN="wrong").code == 1
    assert checks(TUNEYARD_URL="http://127.0.0.1:9")["server"][0] == "fail"


def test_doctor_sees_a_token_that_others_can_read(bare: Tuneyard, environment: dict[str, str]) -> None:
    home = Path(environment["TUNEYARD_HOME"])
    home.mkdir()
    config = home / "config.json"
    config.write_text('{"url": "http://127.0.0.1:9", "token": "t"}')
    config.chmod(0o644)
    checks = {check["name"]: check for check in bare("doctor", "--json").json["checks"]}
    assert checks["home"]["status"] == "warn"
    assert checks["home"]["fix"] == f"chmod 600 {config}"
