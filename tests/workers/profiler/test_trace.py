"""workers/profiler/trace.py on real architectures: three traced layers project the whole model; bad input is named."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from jobs.cards import Card
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import LOSS, SEGMENTS, MemoryProfile, trace_key
from jobs.memory.project import Rung, project
from jobs.messages.reports import TraceRequest
from workers.agent.profile_child import trace_in_child
from workers.profiler.fake_model import build, load_config
from workers.profiler.step import trace_step
from workers.profiler.trace import answer, trace, whole_step

BARE = {kind: Card("bare", 1, 1e12, 1e12, 0, "live bytes alone", kind) for kind in ("cuda", "cpu")}
_COMMON = {"hidden_size": 192, "intermediate_size": 448, "num_attention_heads": 6, "num_key_value_heads": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {**_COMMON, "num_hidden_layers": 8, "vocab_size": 6007, "tie_word_embeddings": True},
    "mistral": {**_COMMON, "num_hidden_layers": 8, "vocab_size": 4001, "sliding_window": None},
    "qwen2": {**_COMMON, "num_hidden_layers": 8, "vocab_size": 40009},
    "qwen3": {**_COMMON, "num_hidden_layers": 8, "vocab_size": 9001, "head_dim": 48},
    "gemma3_text": {
        **_COMMON,
        "num_hidden_layers": 8,
        "vocab_size": 12007,
        "head_dim": 48,
        "sliding_window": 256,
    },
    "gpt2": {"n_embd": 192, "n_layer": 8, "n_head": 6, "vocab_size": 5003, "n_positions": 4096},
}


def _spec(kind: str = "llama", method: Any = "full", **sections: Any) -> JobSpec:
    model = {"config": {"model_type": kind, **SHAPES.get(kind, {})}, "tokenizer": "none"}
    model |= sections.pop("model", {})
    training = {"sequence_length": 256, **sections.pop("training", {})}
    return JobSpec.model_validate(
        {"model": model, "data": "none", "method": method, "training": training, **sections}
    )


LORA = {"kind": "lora", "rank": 8, "dropout": 0.05}
TRACED = [("llama", "full"), ("gemma3_text", "full"), ("gpt2", "full"), ("mistral", "full")]
TRACED_LORA = [("qwen2", LORA), ("qwen3", LORA)]
SAVED = {**LORA, "modules_to_save": ["embed_tokens", "lm_head"]}
OPTIONS = [
    ("qwen2", SAVED, {}),
    ("llama", {**SAVED, "ensure_weight_tying": True}, {}),
    ("qwen2", {**LORA, "rank_pattern": {"q_proj": 64}, "exclude": ["down_proj"]}, {}),
    ("llama", LORA, {"neftune_alpha": 5}),
    ("llama", "full", {"loss": "dft"}),
]


@pytest.mark.parametrize(("kind", "method"), TRACED + TRACED_LORA)
def test_three_layers_project_the_whole_model(kind: str, method: Any) -> None:
    """To 3 % of a trace of the full depth, at shapes that were not traced."""
    spec = _spec(kind, method)
    profile = trace(spec, [])
    mode = FakeTensorMode()
    whole = build(spec, load_config(spec, []), mode, copies=None)
    assert len(whole.layers) == profile.layers
    # Few tokens to a large depth make the layers bind; 4,200 tokens are more than one chunk of the loss.
    for card, every_n, rows, length in (("cuda", 0, 1, 384), ("cuda", 1, 7, 600), ("cpu", 5, 4, 128)):
        traced = whole_step(whole, spec, mode, every_n=every_n, kind=card, rows=rows, length=length)
        found = project(profile, Rung(every_n, rows), sequence_length=length, card=BARE[card])
        assert found.allocated_bytes == pytest.approx(traced, rel=0.03), (card, every_n, rows, length)


@pytest.mark.parametrize(("kind", "method", "training"), OPTIONS)
def test_options_that_cost_memory_are_traced(kind: str, method: Any, training: dict[str, Any]) -> None:
    spec, plain = _spec(kind, method, training=training), _spec(kind, "full" if method == "full" else LORA)
    assert trace_key(spec, {}, None) != trace_key(plain, {}, None)
    profile, mode = trace(spec, []), FakeTensorMode()
    whole = build(spec, load_config(spec, []), mode, copies=None)
    for card, every_n, rows, length in (("cuda", 0, 1, 384), ("cuda", 1, 7, 600)):
        traced = whole_step(whole, spec, mode, every_n=every_n, kind=card, rows=rows, length=length)
        found = project(profile, Rung(every_n, rows), sequence_length=length, card=BARE[card])
        assert found.allocated_bytes == pytest.approx(traced, rel=0.01), (card, every_n, rows, length)


def test_modules_to_save_are_part_of_the_adapter() -> None:
    """Twice on the card: frozen, and a copy that is trained. Its size is that of the files that come of it."""
    plain, saved = trace(_spec("qwen2", LORA), []), trace(_spec("qwen2", SAVED), [])
    copies = 2 * 2 * 40009 * 192
    assert saved.adapter_bytes - plain.adapter_bytes == pytest.approx(copies, abs=1024)
    assert saved.trained_bytes == saved.adapter_bytes and saved.weight_bytes == plain.weight_bytes


@pytest.fixture(scope="module")
def profiles() -> dict[str, MemoryProfile]:
    return {kind: trace(_spec("llama", kind), []) for kind in ("full", "lora")}


def test_weights_and_optimizer_are_counted_exactly(profiles: dict[str, MemoryProfile]) -> None:
    """Against a model of full depth on the meta device, with AdamW's two moments in the parameter's type."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model("llama", **SHAPES["llama"]), dtype=torch.bfloat16
        )
    sizes = [p.numel() for p in model.parameters()]
    full = profiles["full"]
    assert full.parameter_count == full.trained_count == sum(sizes)
    rounding = 512 * (len(sizes) + 4)
    assert 0 <= full.weight_bytes - 2 * sum(sizes) < rounding
    assert full.trained_bytes <= full.weight_bytes
    assert full.optimizer_bytes == 2 * full.trained_bytes + 512 * len(sizes)


def test_adapters_are_float32_beside_a_bfloat16_base(profiles: dict[str, MemoryProfile]) -> None:
    """PEFT's autocast_adapter_dtype, which TRL 1.16 leaves on. Rank 16 on the seven projections of 8 layers."""
    lora = profiles["lora"]
    hidden, inner, grouped = 192, 448, 64
    each = 16 * sum(
        a + b for a, b in [(hidden, hidden)] * 2 + [(hidden, grouped)] * 2 + [(hidden, inner)] * 3
    )
    assert lora.trained_count == 8 * each
    assert lora.adapter_bytes == lora.trained_bytes == 4 * 8 * each
    assert lora.weight_bytes == profiles["full"].weight_bytes


def test_gradients_of_the_segments_are_those_of_the_step(profiles: dict[str, MemoryProfile]) -> None:
    for profile in profiles.values():
        for name, found in profile.passes.items():
            if ".loss." in name:
                continue
            between = profile.layers - 3
            total = sum(found[segment].gradients for segment in SEGMENTS)
            assert total + between * found["layer_backward"].gradients == profile.trained_bytes, name


def test_checkpointing_computes_every_layer_once_more(profiles: dict[str, MemoryProfile]) -> None:
    """All but the last product: torch stops recomputing when all that was saved is there again (early stop)."""
    tokens, pairs = 4096, 4 * 1024**2
    off, every = (profiles["full"].body("cuda", True, flag) for flag in (False, True))
    again = every["layer_backward"].flops.at(tokens, pairs) - off["layer_backward"].flops.at(tokens, pairs)
    down_projection = 2 * tokens * 192 * 448
    assert again == pytest.approx(off["layer"].flops.at(tokens, pairs) - down_projection, rel=1e-6)


def test_the_loss_multiplies_by_the_head_forward_again_and_for_each_gradient(
    profiles: dict[str, MemoryProfile],
) -> None:
    """TRL's chunked loss makes the logits twice, then the hidden states' gradient, and a trained head's."""
    for method, products in (("full", 4), ("lora", 3)):
        loss = profiles[method].loss("cuda", 4096)
        worked = sum(loss[name].flops.at(4096, 4 * 1024**2) for name in LOSS)
        assert worked == products * 2 * 4096 * 192 * SHAPES["llama"]["vocab_size"], method


def test_a_paged_optimizer_is_traced_like_any_other() -> None:
    found = answer(TraceRequest(key="k", spec=_spec("llama", training={"optimizer": "paged_adamw_8bit"})))
    assert found.profile is not None, found.error
    assert MemoryProfile.from_dict(found.profile).paged_optimizer


def test_what_is_imported_in_a_step_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module may hold on to the frames that it is imported in, and so to what is in their variables."""
    lines = ["import sys", "def hold():", "    frame = sys._getframe().f_back", "    held = sys._getframe()"]
    (tmp_path / "holds_frames.py").write_text("\n".join([*lines, "hold()", ""]))
    monkeypatch.syspath_prepend(str(tmp_path))
    spec, mode = _spec("llama"), FakeTensorMode()
    fake = build(spec, load_config(spec, []), mode)
    shape: dict[str, Any] = {"kind": "cuda", "padded": False, "rows": 1, "length": 347}
    plain = trace_step(fake, spec, mode, **shape)

    def imports(module: Any, given: Any, out: torch.Tensor) -> None:
        kept = out + 1
        importlib.import_module("holds_frames")
        assert kept is not None

    handle = fake.layers[1].mlp.register_forward_hook(imports)
    try:
        assert trace_step(fake, spec, mode, **shape)["layer"].delta == plain["layer"].delta
    finally:
        handle.remove()
        sys.modules.pop("holds_frames", None)


def test_a_cards_loss_goes_by_valid_tokens_and_a_cpus_by_all(profiles: dict[str, MemoryProfile]) -> None:
    for profile in profiles.values():
        for size in ("short", "long"):
            of_card, of_cpu = (
                [line for name in LOSS for line in profile.passes[f"{kind}.loss.{size}"][name].peaks]
                for kind in ("cuda", "cpu")
            )
            assert any(line.valid for line in of_card) and not any(line.valid for line in of_cpu)
        layers = [profile.passes["cuda.padded.every"][name] for name in ("first", "layer", "layer_backward")]
        assert not any(line.valid for segment in layers for line in (segment.delta, *segment.peaks))
        rung = Rung(0, 4)
        few, half, whole = (
            project(profile, rung, sequence_length=512, card=BARE["cuda"], valid=count).phases["loss"]
            for count in (513, 1024, None)
        )
        assert few < half < whole


def test_the_loss_keeps_no_logits(profiles: dict[str, MemoryProfile]) -> None:
    """On CUDA what the loss takes at once stays under half of what the float32 logits alone would."""
    vocabulary, tokens = 6007, 65536
    found = profiles["full"].loss("cuda", tokens)
    assert found["loss"].peak(tokens, 0) < tokens * vocabulary * 4 / 2


SIZES = st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(16, 4096))


@settings(deadline=None, max_examples=60)
@given(SIZES, st.integers(0, 15), st.sampled_from(["cuda", "cpu"]), st.sampled_from(["full", "lora"]))
def test_more_tokens_never_take_less(
    profiles: dict[str, MemoryProfile], size: tuple[int, int], every_n: int, card: str, method: str
) -> None:
    rows, length = size

    def allocated(rows: int, length: int) -> int:
        return project(
            profiles[method], Rung(every_n, rows), sequence_length=length, card=BARE[card]
        ).allocated_bytes

    # 1 % for the seam at one chunk of the loss, where the two traces of it meet
    assert allocated(rows, length) <= 1.01 * allocated(rows * 2, length)
    assert allocated(rows, length) <= 1.01 * allocated(rows, length + 64)


def test_packing_makes_one_row_with_a_quadratic_mask() -> None:
    spec = _spec("llama", "lora", training={"packing": True})
    profile = trace(spec, [])
    assert profile.packed
    mode = FakeTensorMode()
    whole = build(spec, load_config(spec, []), mode, copies=None)
    traced = whole_step(whole, spec, mode, every_n=0, kind="cuda", rows=1, length=4 * 384)
    found = project(profile, Rung(0, 4), sequence_length=384, card=BARE["cuda"])
    assert found.allocated_bytes == pytest.approx(traced, rel=0.03)


@pytest.mark.parametrize("attention", ["eager", "flash_attention_2"])
def test_other_attention(attention: str) -> None:
    pairs = {}
    for name in ("sdpa", attention):
        spec = _spec("mistral", "full", model={"attention": name})
        pairs[name] = trace(spec, []).body("cuda", True, every=False)["layer"].delta.pair
    if attention == "eager":
        assert pairs["eager"] >= 6 * 2  # probabilities of six heads, in bfloat16 at least
    else:
        assert pairs["flash_attention_2"] == 0


def _answer(spec: JobSpec) -> tuple[bool, str]:
    found = answer(TraceRequest(key="k", spec=spec))
    assert found.profile is None
    assert found.error
    return found.bad_input, found.error


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (_spec("no_such_type"), "no_such_type"),
        (_spec("llama", {"kind": "lora", "targets": ["query"]}), "q_proj"),
        (_spec("llama", {"kind": "lora", "targets": ["q_proj", "lm_head"]}), "lm_head"),
        (
            _spec(
                "llama",
                model={"config": {"model_type": "llama", "num_attention_heads": 7, "hidden_size": 64}},
            ),
            "llama",
        ),
        (_spec("llama", model={"config": {"model_type": "gemma2", **_COMMON}}), "eager"),
    ],
)
def test_the_job_files_faults_are_named(spec: JobSpec, words: str) -> None:
    bad_input, error = _answer(spec)
    assert bad_input, error
    assert words in error


def test_a_folder_without_a_config_or_with_an_unknown_type(tmp_path: Path) -> None:
    spec = JobSpec.model_validate({"model": str(tmp_path), "data": "none"})
    assert _answer(spec) == (True, _answer(spec)[1])
    assert "config.json" in _answer(spec)[1]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "martian"}))
    assert "martian" in _answer(spec)[1]
    (tmp_path / "config.json").write_text("not json")
    assert _answer(spec)[0]


def test_qlora_is_traced_with_or_without_bitsandbytes() -> None:
    packed, plain = trace(_spec("llama", {"kind": "qlora"}), []), trace(_spec("llama", {"kind": "lora"}), [])
    assert (packed.quantised, plain.quantised) == ("nf4", "")
    assert packed.parameter_count == plain.parameter_count
    assert packed.weight_bytes < plain.weight_bytes
    assert packed.adapter_bytes < plain.adapter_bytes, "bfloat16 beside a 4-bit base"


def test_a_child_traces_and_reports_in_words() -> None:
    found = trace_in_child(TraceRequest(key="abc", spec=_spec("gpt2", "lora")))
    assert found.error is None
    assert found.key == "abc"
    assert MemoryProfile.from_dict(found.profile or {}).layers == 8


def test_a_child_that_runs_out_of_time_or_memory_is_an_error_in_words() -> None:
    request = TraceRequest(key="k", spec=_spec("llama", "full"))
    assert "did not end" in (trace_in_child(request, timeout_s=0.5).error or "")
    starved = trace_in_child(request, memory_bytes=64 * 2**20)
    assert starved.error
    assert not starved.bad_input
