"""Ranks of one attempt on several hosts, as processes that share nothing but the network."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.messages.reports import Assignment
from jobs.state import Outcome
from jobs.units import GiB, MiB
from tests.workers.builders import make_assignment
from tests.workers.trainer.test_entrypoint import WIDE, start
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints.folders import latest_good, listed
from workers.trainer.ranks.rank_watch import environment
from workers.trainer.ranks.rendezvous import NobodyCame, join

ADDRESS = "127.0.0.1"
WIRE = ("10.213.7.1", "10.213.7.2")
pytestmark = pytest.mark.timeout(400)  # two trainers at once, whose imports take long where cores are busy


def span(rows: Path, tokenizer: Path, attempt_id: int = 1, **sections: Any) -> tuple[Assignment, Assignment]:
    """Rank 0 on host a, rank 1 on host b."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port = probe.getsockname()[1]
    given = {"attempt_id": attempt_id, "world_size": 2, "master_port": port, **sections}
    made = [make_assignment(rows, tokenizer, rank=rank, **given) for rank in (0, 1)]
    names = ["a", "b"]
    first, second = (
        one.model_copy(update={"hosts": names, "host": name, "address": ADDRESS})
        for one, name in zip(made, names, strict=True)
    )
    return first, second


def homes(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path / "a", tmp_path / "b"


def said(home: Path, attempt_id: int = 1) -> Any:
    folder = AttemptFolder(home, attempt_id)
    ended = folder.ended()
    assert ended is not None, folder.read_log().decode()
    return ended


def test_a_host_knows_its_own_ranks_and_cards(tmp_path: Path) -> None:
    hosts = ["a", "a", "b"]
    whole = make_assignment(tmp_path / "d", tmp_path, world_size=3, training={"global_batch": 6})
    cards = [
        card.model_copy(update={"kind": "cuda", "uuid": f"GPU-{rank}"})
        for rank, card in enumerate(whole.gpus)
    ]
    whole = whole.model_copy(
        update={"hosts": hosts, "gpus": cards, "master_addr": "10.0.0.1", "address": ADDRESS}
    )
    second = whole.model_copy(update={"rank": 1, "host": "a"})
    third = whole.model_copy(update={"rank": 2, "host": "b"})
    assert (second.local_rank, second.ranks_here, second.at_lead, second.spans) == (1, [0, 1], True, True)
    assert (third.local_rank, third.ranks_here, third.at_lead, third.card.uuid) == (0, [2], False, "GPU-2")
    names = environment(third)
    assert (names["RANK"], names["LOCAL_RANK"], names["WORLD_SIZE"], names["LOCAL_WORLD_SIZE"]) == (
        *("2", "0"),
        *("3", "1"),
    )
    assert (names["CUDA_VISIBLE_DEVICES"], names["MASTER_ADDR"]) == ("GPU-2", "10.0.0.1")
    assert (names["GLOO_SOCKET_IFNAME"], names["NCCL_SOCKET_IFNAME"]) == ("lo", "=lo")
    assert environment(second)["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1"


def test_who_set_an_interface_for_nccl_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    first, _ = span(tmp_path / "d", tmp_path)
    assert "NCCL_SOCKET_IFNAME" not in environment(first)
    assert environment(first)["GLOO_SOCKET_IFNAME"] == "lo"
    away = first.model_copy(update={"address": "203.0.113.9"})
    assert "GLOO_SOCKET_IFNAME" not in environment(away), "no interface of this machine carries it"


def test_they_train_as_one_and_resume_from_the_leads_checkpoint(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    home_a, home_b = homes(tmp_path)
    training = {"steps": 5, "checkpoint_steps": 2}
    pair = span(rows, tokenizer, training=training)
    trainers = [start(one, home) for one, home in zip(pair, (home_a, home_b), strict=True)]
    codes = [trainer.wait(timeout=180) for trainer in trainers]
    assert codes == [0, 0], AttemptFolder(home_a, 1).read_log() + AttemptFolder(home_b, 1).read_log()
    first, second = said(home_a), said(home_b)
    assert first.first_loss == second.first_loss, "not averaged over the ranks"
    assert first.result and not second.result and not (home_b / "out").exists()
    assert first.last_checkpoint and second.last_checkpoint is None
    assert (first.rank, second.rank) == (0, 1)
    assert not AttemptFolder(home_b, 1).progress_path.exists()
    found = latest_good(checkpoints_root(home_a, 1))
    assert found and found[1] == 5
    assert {path.name for path in found[0].glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert listed(checkpoints_root(home_b, 1)) == [], "checkpoints are where rank 0 is"
    states = [(found[0] / f"rng_state_{rank}.pth").stat().st_size for rank in (0, 1)]
    assert min(states) > 1000

    shutil.rmtree(home_a / "out")
    again = span(rows, tokenizer, attempt_id=2, training={**training, "steps": 8})
    trainers = [start(one, home) for one, home in zip(again, (home_a, home_b), strict=True)]
    codes = [trainer.wait(timeout=180) for trainer in trainers]
    assert codes == [0, 0], AttemptFolder(home_a, 2).read_log() + AttemptFolder(home_b, 2).read_log()
    assert AttemptFolder(home_a, 2).progress()[0].step == 6
    assert b"resuming after step 5" in AttemptFolder(home_b, 2).read_log()
    copy = latest_good(checkpoints_root(home_b, 1))
    assert copy and copy[1] == 5
    assert not list(checkpoints_root(home_b, 1).glob(".*")), "leftovers"


def test_hosts_whose_data_is_not_the_same_train_on_none_of_it(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    """As many rows, one of them another: nothing else would ever tell."""
    other = tmp_path / "rows.jsonl"
    lines = rows.read_text().splitlines()
    other.write_text("\n".join([*lines[:-1], lines[0]]))
    first, second = span(rows, tokenizer)
    data = second.spec.data.model_copy(update={"path": str(other)})
    second = second.model_copy(update={"spec": second.spec.model_copy(update={"data": data})})
    trainers = [start(one, home) for one, home in zip((first, second), homes(tmp_path), strict=True)]
    assert [trainer.wait(timeout=180) for trainer in trainers] == [1, 1]
    for home in homes(tmp_path):
        ended, many = said(home), f"{len(lines):,} rows, SHA-256 "
        assert ended.bad_input and "data.path: is not the same on all hosts: " in ended.message
        assert f"{many}" in ended.message and " on a; " in ended.message and " on b" in ended.message
        assert not AttemptFolder(home, 1).progress()


def test_the_host_of_a_rank_that_fails_says_why_and_the_other_that_it_only_followed(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    home_a, home_b = homes(tmp_path)
    whole, starved = span(rows, tokenizer, model={"config": WIDE}, memory_bytes=4 * GiB)
    cards = [card.model_copy(update={"memory_bytes": 400 * MiB}) for card in starved.gpus]
    starved = starved.model_copy(update={"gpus": cards})
    trainers = [start(whole, home_a), start(starved, home_b)]
    assert [trainer.wait(timeout=180) for trainer in trainers] == [1, 1]
    why = said(home_b)
    assert (why.outcome, why.echo, why.rank) == (Outcome.OOM, False, 1), why.message
    echo = said(home_a)
    assert (echo.outcome, echo.echo) == (Outcome.FAILED, True), echo.message


def test_a_rank_that_is_killed_ends_the_others_at_once(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    home_a, home_b = homes(tmp_path)
    pair = span(rows, tokenizer, training={"steps": 100_000})
    trainers = [start(one, home) for one, home in zip(pair, (home_a, home_b), strict=True)]
    wait_for_a_step(home_a)
    psutil.Process(trainers[1].pid).kill()
    assert trainers[0].wait(timeout=30) == 1
    trainers[1].wait()
    assert said(home_a).echo


def test_a_stop_on_any_host_stops_all_at_one_step(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    home_a, home_b = homes(tmp_path)
    pair = span(rows, tokenizer, training={"steps": 100_000})
    trainers = [start(one, home) for one, home in zip(pair, (home_a, home_b), strict=True)]
    wait_for_a_step(home_a)
    AttemptFolder(home_b, 1).request_stop("preempted")
    assert [trainer.wait(timeout=120) for trainer in trainers] == [1, 1]
    first, second = said(home_a), said(home_b)
    assert (first.outcome, second.outcome) == (Outcome.PREEMPTED, Outcome.PREEMPTED)
    assert first.steps == second.steps and not first.echo
    found = latest_good(checkpoints_root(home_a, 1))
    assert found and found[1] == first.steps and first.last_checkpoint == str(found[0])


def test_who_meets_nobody_says_so_in_time(tmp_path: Path) -> None:
    first, second = span(tmp_path / "d", tmp_path)
    for alone in (first, second):
        with pytest.raises(NobodyCame, match=r"rank \d on \w did not meet the 1 others at 127.0.0.1:\d+"):
            join(alone, tmp_path, print, meet_s=1)


@pytest.fixture
def two_networks() -> Iterator[tuple[str, str]]:
    """Two hosts as far as the network goes: namespaces with an address each, joined by a wire."""
    if os.getuid() or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")
    names = (f"ty{os.getpid()}a", f"ty{os.getpid()}b")
    made = [ip("netns", "add", name) for name in names]
    try:
        if not all(made):
            pytest.skip("this machine makes no network namespaces")
        ends = [("name", f"{name}w", "netns", name) for name in names]
        assert ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for name, address in zip(names, WIRE, strict=True):
            assert ip("-n", name, "addr", "add", f"{address}/24", "dev", f"{name}w")
            assert ip("-n", name, "link", "set", f"{name}w", "up") and ip(
                "-n", name, "link", "set", "lo", "up"
            )
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


def ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0


def test_they_reach_each_other_over_the_interfaces_of_their_addresses(
    tmp_path: Path, tokenizer: Path, rows: Path, two_networks: tuple[str, str]
) -> None:
    """In a namespace of its own 127.0.0.1 is each host itself, and the machine's name stands for it."""
    pair = [
        one.model_copy(update={"master_addr": WIRE[0], "address": address})
        for one, address in zip(span(rows, tokenizer), WIRE, strict=True)
    ]
    started = [
        start(one, home, ("ip", "netns", "exec", name))
        for one, home, name in zip(pair, homes(tmp_path), two_networks, strict=True)
    ]
    codes = [trainer.wait(timeout=180) for trainer in started]
    home_a, home_b = homes(tmp_path)
    assert codes == [0, 0], AttemptFolder(home_a, 1).read_log() + AttemptFolder(home_b, 1).read_log()
    assert said(home_a).first_loss == said(home_b).first_loss


def wait_for_a_step(home: Path) -> None:
    deadline = time.monotonic() + 150
    while not AttemptFolder(home, 1).progress():
        assert time.monotonic() < deadline, AttemptFolder(home, 1).read_log().decode()
        time.sleep(0.1)
