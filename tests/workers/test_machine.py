"""What a host says of itself, without importing the libraries it speaks of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import Conflict
from jobs.jobfile.trackers import TRACKERS
from tests.workers.agents import REPOSITORY
from tests.workers.fake_server import TOKEN, FakeServer
from workers import machine
from workers.agent.agent import run_host


def test_the_model_types_are_those_that_transformers_itself_names() -> None:
    program = """
import json
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
print(json.dumps(sorted(CONFIG_MAPPING_NAMES)))
"""
    named = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert machine.model_types() == json.loads(named.stdout.splitlines()[-1])


def test_an_agent_comes_up_without_torch_transformers_or_ray() -> None:
    program = """
import sys
import workers.agent.agent
from tests.workers.fake_server import FakeServer
from workers import machine
machine.model_types(), machine.stack()
print([name for name in ("torch", "transformers", "ray", "sqlalchemy") if name in sys.modules])
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stack_names_what_a_profile_depends_on() -> None:
    trackers = {package for packages in TRACKERS.values() for package in packages}
    only_some_hosts_have = {"bitsandbytes", "unsloth", *trackers}
    assert set(machine.stack()) - only_some_hosts_have == {
        "python",
        "torch",
        "transformers",
        "trl",
        "peft",
        "accelerate",
    }


def test_the_machine_has_one_identity(tmp_path: Path) -> None:
    system = tmp_path / "machine-id"
    made = machine.machine_id(tmp_path / "home", system)
    assert made == machine.machine_id(tmp_path / "home", system) and len(made) == 32
    system.write_text("abc\n")
    assert machine.machine_id(tmp_path / "home", system) == "abc"


def run_agent(server: FakeServer, token: str, home: Path) -> subprocess.CompletedProcess[str]:
    program = f"""
import sys
from workers.agent.agent import run_host
sys.exit(run_host({server.url!r}, {token!r}, {str(home)!r}, "alpha", [2**30]))
"""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)


def test_a_refused_token_is_exit_code_1_with_a_message(tmp_path: Path) -> None:
    server = FakeServer().up()
    done = run_agent(server, "wrong", tmp_path)
    server.down()
    assert done.returncode == 1
    assert f"the server at {server.url} refuses this token" in done.stderr


def test_a_name_that_is_taken_is_exit_code_1_with_the_servers_words(tmp_path: Path) -> None:
    server = FakeServer().up()
    server.namesake = "name: alpha is another host; choose another with --name"
    done = run_agent(server, TOKEN, tmp_path)
    server.down()
    assert done.returncode == 1
    assert server.namesake in done.stderr and "Traceback" not in done.stderr


def test_two_agents_on_one_home_are_refused(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True);"
            "sys.stdin.read()",
            str(tmp_path / "agent.lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        with pytest.raises(Conflict, match="another host agent runs on"):
            run_host("http://127.0.0.1:9", "t", tmp_path, "alpha", [1])
    finally:
        holder.communicate()
