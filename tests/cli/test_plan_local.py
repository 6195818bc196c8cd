"""tuneyard plan --local: a real trace on this machine, no server anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.units import MiB
from tests.cli.conftest import Ran
from tests.workers.builders import make_tokenizer

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 256,
}


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """Write a job file that runs as it stands; sections are laid over it."""
    make_tokenizer(tmp_path / "tokenizer")
    rows = [{"text": "a b c d " * (1 + i % 5)} for i in range(40)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write(**sections: Any) -> Path:
        made = {
            "model": {"config": CONFIG, "tokenizer": str(tmp_path / "tokenizer")},
            "data": "data.jsonl",
            "training": {"sequence_length": 128, "global_batch": 4, "steps": 10},
            **sections,
        }
        path = tmp_path / "job.yaml"
        path.write_text(json.dumps(made))
        return path

    return write


def test_cards_of_the_catalogue_without_any_server(
    bare: Callable[..., Ran], job: Callable[..., Path]
) -> None:
    job(resources={"policy": "cheapest"})
    asked = ("plan", "job.yaml", "--local", "--cards", "h100,rtx4090,cpu:700MiB", "--price", "h100=2.5")
    ran = bare(*asked, "--json")
    assert ran.code == 0, ran.err
    plan = ran.json
    assert [card["short"] for card in plan["cards"]] == ["", "rtx4090", "h100"]
    assert [card["pick"] for card in plan["cards"]] == [False, False, True]  # the only one with a price
    assert plan["data"]["longest"] < 128 and plan["length"] == plan["data"]["longest"]
    assert "no price for cpu, rtx4090" in " ".join(plan["notes"])
    for card in plan["cards"]:
        projection = card["projection"]
        assert card["fits"] and card["tokens_per_s"] > 0 and card["hours"] > 0
        assert sum(projection["parts"].values()) == projection["device_bytes"]
        assert (
            card["lower_bytes"]
            <= projection["device_bytes"]
            <= projection["upper_bytes"]
            <= card["memory_bytes"]
        )
        batches = {entry["rung"]["micro_batch"] * entry["rung"]["accumulation"] for entry in card["tried"]}
        assert batches == {4}
        assert any(entry["rung"]["offload"] for entry in card["tried"]) == (card["kind"] == "cuda")
    assert plan["cards"][2]["cost"] == pytest.approx(2.5 * plan["cards"][2]["hours"])

    again = bare(*asked)  # from what the first left behind: nothing is traced
    assert (again.code, again.err) == (0, "")
    assert "GeForce RTX 4090" in again.out

    # A card that the job misses by less than the projection may be wrong.
    least = min(plan["cards"][1]["tried"], key=lambda tried: tried["upper_bytes"])
    between = (least["device_bytes"] + least["upper_bytes"]) // 2 // MiB
    for has, said in ((between, True), (between // 2, False)):
        near = bare("plan", "job.yaml", "--local", "--cards", f"rtx4090:{has}MiB,cpu:90MiB", "--json")
        assert near.code == 1
        tries = f"`tuneyard rehearse job.yaml --card rtx4090:{has}MiB`"
        assert (tries in " ".join(near.json["advice"])) == said, near.json["advice"]

    none = bare("plan", "job.yaml", "--local", "--cards", "cpu:90MiB")
    assert none.code == 1
    assert "cpu: needs at least" in none.out
    assert "what would help" in none.out and "a CPU card of" in none.out


def test_a_config_is_enough_without_data_or_tokenizer(bare: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    asked = ("plan", "--local", "--sequence-length", "128", "--global-batch", "4", "--cards", "rtx4090")
    plan = bare(*asked, "--model", "config.json", "--json").json
    assert (plan["length"], plan["data"], plan["cards"][0]["fits"]) == (128, None, True)
    assert plan["cards"][0]["tokens_per_s"] > 0 and "no data was named" in plan["notes"][0]
    folder = bare(*asked, "--model", ".", "--method", "lora")
    assert (folder.code, "no data was named" in folder.out) == (0, True), folder.err


def test_faults_are_told_before_anything_is_traced(
    bare: Callable[..., Ran], job: Callable[..., Path]
) -> None:
    job()
    ran = bare("plan", "job.yaml", "--local", "--cards", "rtx4091")
    assert ran.code == 2
    assert ran.err.startswith("error: card 'rtx4091' is not in the catalogue; did you mean rtx4090")
    ran = bare("plan", "job.yaml", "--local", "--set", "training.sequence_length=512", "--cards", "h100")
    assert ran.code == 2
    assert "training.sequence_length: is longer than the model's 256 positions" in ran.err
    ran = bare("plan", "job.yaml", "--local", "--set", "resources.policy=quickest")
    assert ran.code == 2
    assert "resources.policy" in ran.err and "smallest_card" in ran.err
