"""A model of the hub in this host's cache: what is broken there is found before a card is assigned, offline."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import AutoConfig, AutoModelForCausalLM

from jobs.errors import ProfileError, SpecError
from jobs.jobfile.spec import JobSpec
from tests.workers.builders import TINY, make_assignment
from workers.checks.hub import reachable
from workers.model.host_checks import check_on_host
from workers.profiler.fake_model import load_config

REPO, REVISION = "org/tiny", "a" * 40


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "shards"
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**{**TINY, "num_hidden_layers": 2}))
    made.save_pretrained(folder, max_shard_size="50KB")
    return folder


@pytest.fixture
def cached(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model as the hub's client keeps it, with nothing else in the cache, on a host that is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    root = tmp_path / "models--org--tiny"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(REVISION)
    return shutil.copytree(saved, root / "snapshots" / REVISION)


@pytest.fixture
def spec(tokenizer: Path, rows: Path) -> JobSpec:
    return make_assignment(rows, tokenizer, model={"config": None, "path": REPO}).spec


def fault(spec: JobSpec) -> SpecError:
    with pytest.raises(SpecError) as raised:
        check_on_host(spec, [])
    return raised.value


def test_one_that_is_whole_passes_without_a_word(cached: Path, spec: JobSpec) -> None:
    assert check_on_host(spec, []) == []


def shard(folder: Path) -> Path:
    return sorted(folder.glob("*.safetensors"))[-1]


def test_a_pointer_and_a_file_that_is_cut_off_are_this_hosts_faults(cached: Path, spec: JobSpec) -> None:
    whole = shard(cached).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    for content, says in ((pointer, "is a Git LFS pointer"), (whole[:-9], "is cut off")):
        shard(cached).write_bytes(content)
        found = fault(spec)
        assert says in found.line and shard(cached).name in found.line
        assert "hf download org/tiny --force-download" in found.line
        assert found.missing, "the cache of another host may be well"
    shard(cached).write_bytes(whole)
    assert check_on_host(spec, []) == []


def test_weights_that_are_not_those_of_the_config_are_refused(cached: Path, spec: JobSpec) -> None:
    config = cached / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "intermediate_size": 128}))
    assert "does not fit config.json" in fault(spec).line


@pytest.mark.parametrize("lacks", ["a shard", "all weights", "all"])
def test_what_is_not_cached_is_told_or_offline_a_fault(
    lacks: str, cached: Path, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = shard(cached).name
    if lacks == "a shard":
        shard(cached).unlink()
    elif lacks == "all weights":
        for path in cached.glob("model*"):
            path.unlink()
    else:
        shutil.rmtree(cached)
    found = fault(spec)
    assert found.missing and ("cache" in found.line)
    assert (
        name in found.line if lacks == "a shard" else "lacks it" in found.line or "no weights" in found.line
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    (told,) = check_on_host(spec, [])
    assert told.startswith(
        f"org/tiny was not checked: this host's cache lacks {name if lacks == 'a shard' else 'it'}"
    )


def test_a_hub_that_does_not_answer_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own client tries for half a minute."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert reachable(f"http://127.0.0.1:{port}")
    assert not reachable(f"http://127.0.0.1:{port}")
    spec = JobSpec.model_validate({"model": "nope/nope", "data": "none"})
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(ProfileError, match="nope/nope is not in this host's Hugging Face cache"):
        load_config(spec, [])
