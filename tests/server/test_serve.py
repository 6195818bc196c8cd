"""`tuneyard serve` as a process: what it refuses, what it leaves, what survives it."""

from __future__ import annotations

import signal
import socket
import sqlite3

import psutil
import pytest

from orchestrator.store import upgrade
from tests.server.servers import SOON_S, job


def test_acknowledged_jobs_survive_a_kill_and_a_restart(home):
    first = home.serve("--port", "0")
    with home.client() as http:
        made = [http.post("/jobs", json=job(home)).json()["jobs"][0]["id"] for _ in range(5)]
        http.post(f"/jobs/{made[0]}/cancel")
        first.kill()
        first.wait()
    home.serve()
    with home.client() as http:
        page = http.get("/jobs").json()
        assert [row["id"] for row in page["jobs"]] == made[::-1]
        assert page["jobs"][-1]["state"] == "cancelled"


def test_sigterm_ends_it_cleanly(home):
    child = home.serve("--port", "0")
    home.client().close()
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=SOON_S)
    assert child.returncode == 0
    assert not (home.path / "run" / "server.json").exists()


def test_a_second_server_for_the_same_home_is_refused(home):
    home.serve("--port", "0")
    home.client().close()
    code, errors = home.refused("--port", "0")
    assert code == 1
    assert "already runs" in errors and "tuneyard down" in errors


def test_a_port_in_use_is_named_and_nothing_is_left_behind(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = home.refused("--port", str(port))
    assert code == 1
    assert f"127.0.0.1:{port}" in errors and "--port" in errors
    assert "Traceback" not in errors
    assert not (home.path / "config.json").exists()


def test_a_database_from_a_newer_version_is_refused(home):
    path = home.path / "tuneyard.db"
    upgrade(f"sqlite:///{path}")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    code, errors = home.refused("--port", "0")
    assert code == 1
    assert "newer" in errors and "Traceback" not in errors


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--policy", "lottery"), "'lottery' is not one of 'fair', 'fifo', 'shortest', 'attained'"),
        (("--min-run", "5"), "--min-run '5' is not a duration: write a number and a unit"),
        (("--patience", "soon"), "--patience 'soon' is not a duration"),
        (("--preempt-grace", "-1s"), "--preempt-grace '-1s' is not a duration"),
        (("--share-slowdown", "0.5"), "--share-slowdown '0.5' is not a factor: write a number from 1 to 100"),
        (("--share-slowdown", "nan"), "--share-slowdown 'nan' is not a factor"),
        (("--carry-rate", "fast"), "--carry-rate 'fast' is not a size: write a number and a unit"),
        (("--carry-rate", "0MiB"), "--carry-rate '0MiB' is no rate: write a size a second, such as 1GiB"),
        (("--keep-checkpoints", "never"), "--keep-checkpoints 'never' is not a duration"),
    ],
)
def test_settings_of_the_scheduler_that_can_not_be_are_refused(home, flags, said):
    code, errors = home.refused("--port", "0", *flags)
    assert code == 2 and said in errors and "Traceback" not in errors


def test_the_environment_sets_the_scheduler_and_is_named_where_it_is_wrong(home, monkeypatch):
    given = home.environment()
    monkeypatch.setattr(home, "environment", lambda: {**given, "TUNEYARD_MIN_RUN": "5 minutes"})
    code, errors = home.refused("--port", "0")
    assert code == 2 and "TUNEYARD_MIN_RUN '5 minutes' is not a duration" in errors


@pytest.mark.parametrize("policy", ["fair", "fifo", "shortest", "attained"])
def test_every_policy_is_served(home, policy):
    home.serve("--port", "0", "--policy", policy, "--no-preempt", "--min-run", "0s", "--patience", "1h30m")
    with home.client() as http:
        assert http.post("/jobs", json=job(home)).status_code == 201


def test_a_token_that_can_be_guessed_is_refused_at_the_start(home):
    code, errors = home.refused("--port", "0", "--token", "change-me")
    assert code == 2 and "well-known placeholder" in errors and "openssl rand -hex 32" in errors
    assert "Traceback" not in errors and not (home.path / "config.json").exists()


def test_plain_http_beyond_loopback_is_warned_of_at_every_start(home):
    address = next((a for a in addresses() if not a.startswith("127.")), None)
    if address is None:
        pytest.skip("this machine has no address but loopback")
    for _ in range(2):
        child = home.serve("--port", "0", "--host", address)
        with home.client() as http:
            assert http.get("/health").json()["exposed"] is True
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=SOON_S)
        (line,) = [line for line in said.splitlines() if "plain HTTP" in line]
        assert " WARNING " in line and f"{address}:" in line and "TLS" in line


def addresses() -> list[str]:
    """This machine's own, of IPv4."""
    found = psutil.net_if_addrs().values()
    return [one.address for group in found for one in group if one.family is socket.AF_INET]


def test_it_listens_on_loopback_only(home):
    child = home.serve("--port", "0")
    with home.client() as http:
        port = http.base_url.port
        assert http.get("/health").json()["exposed"] is False
    listening = [
        c.laddr for c in psutil.Process(child.pid).net_connections() if c.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", port)]


def test_what_it_writes_is_its_users_alone(home):
    child = home.serve("--port", "0")
    with home.client() as http:
        assert http.post("/jobs", json=job(home)).status_code == 201
        files = {path for path in home.path.rglob("*") if path.is_file() and path.name != "data.jsonl"}
    names = {path.name for path in files}
    assert names >= {"config.json", "tuneyard.db", "tuneyard.db-wal", "server.lock", "server.json"}
    assert {path.name for path in files if path.exists() and path.stat().st_mode & 0o077} == set()
    child.send_signal(signal.SIGTERM)
    child.wait(20)
