"""The compose file, by Docker's own checker where it is installed, else by a parser of its specification."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
SET = {"TUNEYARD_ADDRESS": "10.0.0.5", "TUNEYARD_TOKEN": "t", "TUNEYARD_DB_PASSWORD": "p"}


def compose_command() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            asked = subprocess.run([*command, "version"], capture_output=True, check=False)
            if asked.returncode == 0:
                return command
    return None


def faults(text: str, folder: Path) -> str:
    """What the checker says is wrong with a compose file; "" when nothing is."""
    command = compose_command()
    if command is None:
        parser = pytest.importorskip(
            "compose_spec", reason="neither docker compose nor compose-spec is installed"
        )
        try:
            parser.PyCompose.from_yaml(text)
        except ValueError as error:
            return str(error)
        return ""
    path = folder / "compose.yaml"
    path.write_text(text)
    done = subprocess.run(
        [*command, "-f", path, "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | SET,
    )
    return done.stderr if done.returncode else ""


def test_the_compose_file_is_valid(tmp_path: Path) -> None:
    assert faults(COMPOSE.read_text(), tmp_path) == ""


def test_the_checker_would_object_to_a_misspelt_key(tmp_path: Path) -> None:
    assert "dependson" in faults(COMPOSE.read_text().replace("depends_on", "dependson"), tmp_path)


def test_postgresql_is_reachable_from_this_machine_only() -> None:
    database = yaml.safe_load(COMPOSE.read_text())["services"]["database"]
    assert [port.rsplit(":", 2)[0] for port in database["ports"]] == ["127.0.0.1"]
    assert database["image"] == "postgres:15"


def test_no_secret_has_a_default() -> None:
    text = COMPOSE.read_text()
    for name in ("TUNEYARD_TOKEN", "TUNEYARD_DB_PASSWORD"):
        assert f"${{{name}:?" in text
        assert f"${{{name}:-" not in text


def test_the_image_copies_every_package_and_no_more_than_is_there() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = {
        word for line in lines if line.startswith("COPY") for word in line.split()[1:-1] if "=" not in word
    }
    checkout = DEPLOY.parent
    assert {"jobs", "workers", "orchestrator", "migrations", "pyproject.toml", "constraints.txt"} <= copied
    assert [name for name in copied if not name.startswith("/") and not (checkout / name).exists()] == []
