"""Cards on which segments of torch's CUDA allocator can't expand: found by trainers, told by the agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workers.agents import Host
from tests.workers.fake_server import FakeServer
from workers.expandable_segments import asked_for, asks, note_found, refused, without


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, True),
        ({"PYTORCH_CUDA_ALLOC_CONF": ""}, False),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, False),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128, expandable_segments: True"}, True),
        ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"}, False),
        ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, True),
        ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True,backend:native"}, True),
        ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True,backend:cudaMallocAsync"}, False),
        (
            {
                "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False",
                "PYTORCH_ALLOC_CONF": "expandable_segments:True",
            },
            False,
        ),
    ],
)
def test_what_the_environment_asks_for(environment: dict[str, str], asked: bool) -> None:
    assert asked_for(environment) is asked


def test_settings_keep_what_else_they_say() -> None:
    kept = without("max_split_size_mb:128,expandable_segments:True,garbage_collection_threshold:0.8")
    assert kept == "max_split_size_mb:128,expandable_segments:False,garbage_collection_threshold:0.8"
    assert not asks(kept) and without(kept) == kept


def test_the_agent_tells_of_cards_on_which_a_trainer_was_refused(server: FakeServer, host: Host) -> None:
    def told() -> list[bool]:
        return [gpu.expandable for gpu in server.reports[-1].gpus] if server.reports else []

    host.tick_until(lambda: told() == [True, True])
    note_found(host.root, "cpu-alpha-1", False)
    host.tick_until(lambda: told() == [True, False])
    note_found(host.root, "cpu-alpha-1", True)
    host.tick_until(lambda: told() == [True, True])


def test_a_disk_that_takes_nothing_is_no_reason_to_give_up(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    note_found(tmp_path / "file", "GPU-0", False)
    assert not refused(tmp_path / "file", "GPU-0")
