"""tuneyard rehearse: what is wrong is told before anything is traced or run, and without the CUDA double."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran
from tests.workers.builders import TINY, make_tokenizer


@pytest.fixture
def job(tmp_path: Path) -> Path:
    make_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "data.jsonl").write_text('{"text": "a b c"}\n' * 8)
    made = {
        "model": {"config": TINY, "tokenizer": "tokenizer"},
        "data": "data.jsonl",
        "training": {"sequence_length": 128, "global_batch": 4, "steps": 10},
    }
    (tmp_path / "job.yaml").write_text(json.dumps(made))
    return tmp_path / "job.yaml"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--card", "rtx4091"], "card 'rtx4091' is not in the catalogue; did you mean rtx4090"),
        (["--card", "cpu:2GiB"], "card 'cpu:2GiB' has no CUDA"),
        (["--card", "rtx4090:900GiB"], "has more memory than there is on a GeForce RTX 4090"),
        (["--steps", "0"], "'--steps': 0 is not in the range"),
        (["--timeout", "nan"], "--timeout nan is no number of seconds"),
        (["other.yaml"], "rehearse takes one job file"),
    ],
    ids=str,
)
def test_what_is_wrong_with_the_flags(
    bare: Callable[..., Ran], job: Path, args: list[str], said: str
) -> None:
    ran = bare("rehearse", "job.yaml", *args)
    assert (ran.code, ran.out) == (2, "") and said in ran.err, ran.err


def test_without_the_double_it_says_what_to_run(bare: Callable[..., Ran], job: Path, tmp_path: Path) -> None:
    ran = bare("rehearse", "job.yaml", "--card", "rtx4090", TUNEYARD_CUDA_VENV=str(tmp_path / "none"))
    assert ran.code == 2 and "run make cuda-double" in ran.err
    ran = bare("rehearse", "job.yaml", "--card", "rtx4090", "--json", TUNEYARD_CUDA_VENV=str(tmp_path))
    assert ran.code == 2 and "make cuda-double" in ran.json["error"]["message"]


@pytest.fixture
def double(tmp_path: Path) -> dict[str, str]:
    """An environment that looks as if it were there: nothing of it may be run."""
    found = tmp_path / "venv"
    packages = found / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages" / "torch" / "lib"
    packages.mkdir(parents=True)
    (packages / "libtorch_cuda.so").touch()
    (found / "double" / "lib").mkdir(parents=True)
    (found / "double" / "lib" / "built-from").touch()
    return {"TUNEYARD_CUDA_VENV": str(found)}


def test_what_is_wrong_with_the_job(
    bare: Callable[..., Ran], job: Path, double: dict[str, str], tmp_path: Path
) -> None:
    ran = bare("rehearse", "job.yaml", "--data", "missing.jsonl", **double)
    assert ran.code == 2 and "data.path: does not exist" in ran.err
    ran = bare("rehearse", "job.yaml", "--gpus", "2", **double)
    assert ran.code == 2 and "this job takes 2; --gpus 1 --global-batch 2 rehearses one of them" in ran.err
    ran = bare("rehearse", "job.yaml", "--set", "training.sequence_lenght=3", **double)
    assert ran.code == 2 and "sequence_lenght" in ran.err
    ran = bare("rehearse", "nothing.yaml", **double)
    assert ran.code == 2 and "there is no file nothing.yaml" in ran.err
