"""tuneyard rehearse: the very job on torch's real allocator, with its projection beside it, or who held what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.units import MiB
from tests.cli.conftest import COMMAND, ROOT, Ran
from tests.workers.builders import TINY, make_tokenizer
from workers.cuda_double.environment import Environment, find
from workers.cuda_double.host import environment_of_host
from workers.cuda_double.library import build

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_environment")]
# 23 million parameters.
SMALL = {
    **TINY,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 16384,
    "tie_word_embeddings": True,
}
LENGTHS = (8, 32, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home, where profiles are kept from one test to the next, a tokenizer and data."""
    made = tmp_path_factory.mktemp("rehearsal")
    make_tokenizer(made / "tokenizer")
    rows = [{"text": "a b c d " * (LENGTHS[i % 3] // 8)} for i in range(24)]
    (made / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def rehearsed(folder: Path, *args: str, **sections: Any) -> Ran:
    job = {
        "model": {"config": TINY, "tokenizer": "tokenizer"},
        "data": "data.jsonl",
        "training": {"sequence_length": 128, "global_batch": 8, "steps": 100},
        **sections,
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TUNEYARD_")}
    done = subprocess.run(
        [*COMMAND, "rehearse", "job.yaml", *args],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "TUNEYARD_HOME": str(folder / "home"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def test_a_job_that_fits_with_its_projection_beside_it(folder: Path) -> None:
    holdout = {"path": "data.jsonl", "holdout": 0.25}
    ran = rehearsed(folder, "--card", "rtx4090", "--json", data=holdout)
    assert ran.code == 0, ran.err + ran.out
    made = ran.json
    assert (made["outcome"], made["fits"], made["planned_to_fit"], made["steps"]) == ("fits", True, True, 2)
    assert made["card"] == "GeForce RTX 4090" and made["usable_bytes"] == 24210 * MiB
    assert made["rung"]["micro_batch"] * made["rung"]["accumulation"] == 8
    figures = made["figures"]
    assert 0 < figures["allocated"]["bytes"] <= figures["reserved"]["bytes"] < figures["device"]["bytes"]
    for figure in figures.values():
        low, high = figure["interval"]
        assert low <= figure["projected_bytes"] <= high
        assert figure["within"] == (low <= figure["bytes"] <= high)
    assert made["what_it_is"].startswith("real allocator, no GPU")


def test_memory_that_runs_out_says_who_held_it(folder: Path) -> None:
    model = {"config": SMALL, "tokenizer": "tokenizer", "dtype": "float32"}
    asked = {"model": model, "method": "full", "memory": {"checkpointing": "off", "micro_batch": 8}}
    ran = rehearsed(folder, "--card", "rtx4090:900MiB", "--json", **asked)
    assert ran.code == 3, ran.err + ran.out
    made = ran.json
    assert (made["outcome"], made["fits"], made["planned_to_fit"]) == ("out_of_memory", False, False)
    assert made["memory_bytes"] == 900 * MiB and "tried to allocate" in made["message"]
    assert made["where"].endswith(" pass of step 1") and made["steps"] == 0
    weights = 4 * (16384 * 512 + 4 * (4 * 512 * 512 + 3 * 512 * 1024 + 2 * 512) + 512)
    assert weights <= made["held"]["weights"] < weights * 1.05
    assert made["held"]["activations"] > 0
    assert sum(made["held"].values()) <= made["figures"]["allocated"]["bytes"]
    assert all(figure["within"] is None for figure in made["figures"].values())
    told = rehearsed(folder, "--card", "rtx4090:900MiB", **asked)
    assert told.code == 3 and "does not fit: memory ran out" in told.out and "held at that moment" in told.out
    assert "real allocator, no GPU" in told.out


def test_a_model_without_its_weights_is_built_from_its_config(folder: Path) -> None:
    make_tokenizer(folder / "model")
    (folder / "model" / "config.json").write_text(json.dumps({**TINY, "architectures": ["LlamaForCausalLM"]}))
    ran = rehearsed(folder, "--card", "a100-40gb", "--steps", "1", "--json", model={"path": "model"})
    assert ran.code == 0, ran.err + ran.out
    assert (
        ran.json["steps"] == 1 and "are not here: the model is built from its config" in ran.json["notes"][0]
    )


def test_torch_of_the_host_runs_in_front_of_the_double_though_nvidias_libraries_lie_beside_it(
    tmp_path: Path,
) -> None:
    """Their wheels are where torch's RPATH looks first. These can't be loaded: who finds them fails."""
    given = find()
    host = Environment(tmp_path / "host")
    host.packages.mkdir(parents=True)
    for name in ("torch", "triton"):
        subprocess.run(["cp", "-al", given.packages / name, host.packages / name], check=True)
    nvidia = host.packages / "nvidia" / "cu13"
    (nvidia / "lib").mkdir(parents=True)
    (nvidia / "include").symlink_to(given.headers)
    for name in given.libraries.glob("*.so*"):
        (nvidia / "lib" / name.name).write_text("not a library")
    made = environment_of_host(tmp_path / "home" / "cuda-double", host.packages / "torch")
    assert (made.packages / "torch" / "version.py").stat().st_ino == (
        host.packages / "torch" / "version.py"
    ).stat().st_ino
    assert not (made.packages / "nvidia").exists()
    code = "import torch, os; print(torch.cuda.get_device_name(), flush=True); os._exit(0)"

    def run(**also: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "workers.cuda_double",
                "--cards",
                "l4",
                "--",
                str(made.python),
                "-c",
                code,
            ],
            cwd=ROOT,
            env={**os.environ, "TUNEYARD_CUDA_VENV": str(made.folder), **also},
            capture_output=True,
            text=True,
        )

    assert run().stdout == "NVIDIA L4\n", run().stderr
    assert "nvidia/cu13/lib" in run(PYTHONPATH=str(host.packages)).stderr  # as it is there, it does not load
    again = environment_of_host(tmp_path / "home" / "cuda-double", host.packages / "torch")
    assert again == made
    assert not build(made.libraries, made.packages / "torch", made.headers, made.beside())  # nothing to do
