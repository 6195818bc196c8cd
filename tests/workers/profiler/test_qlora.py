"""QLoRA and DoRA: the trace's stand-in against bitsandbytes on the CPU, and training with it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import SFTTrainer
from trl.trainer.utils import add_fused_lm_head

from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.memory.project import Rung
from jobs.state import Outcome
from tests.workers.builders import TINY, claimed, make_assignment
from workers.checks.libraries import counted_whole
from workers.model.adapters import cast_adapters, lora_config
from workers.model.build import build_config, build_model
from workers.profiler.emulation.fake_four_bit import BLOCK, FourBitLinear, packed_note
from workers.profiler.fake_model import FakeModel, build, load_config
from workers.profiler.step import checkpoint, trace_step
from workers.profiler.trace import trace
from workers.trainer.train import build_trainer, run_attempt

bitsandbytes = pytest.importorskip("bitsandbytes")

SHAPE = {**TINY, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 3, "vocab_size": 1024}
METHODS: list[dict[str, Any]] = [
    {},
    {"dropout": 0.05},
    {"adapter_dtype": "float32"},
    {"dora": True, "rank": 4},
    {"rslora": True, "targets": ["q_proj", "down_proj"]},
]


def spec_of(**method: Any) -> JobSpec:
    model = {"config": SHAPE, "tokenizer": "unused"}
    return parse_spec({"model": model, "data": "unused", "method": {"kind": "qlora", **method}})


def real(spec: JobSpec) -> FakeModel:
    """The model as the trainer makes it, with real weights, in the shape of a fake one."""
    base = build_model(spec, load_config(spec, []), trust=False)
    layers = list(base.model.layers)
    model = get_peft_model(base, lora_config(spec.method))
    cast_adapters(model, spec)
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    model.train()
    return FakeModel(model, base, layers, ("first", "layer", "last"), ("first", "layer", "last"))


def resting_bytes(fake: FakeModel) -> int:
    """Bytes of every storage of weights, statistics and buffers."""
    parts: list[torch.Tensor] = []
    for tensor in [*fake.parameters(), *fake.model.buffers()]:
        parts.append(tensor)
        if isinstance(tensor, bitsandbytes.nn.Params4bit):
            state = tensor.quant_state
            parts += [state.absmax, state.code]
            parts += [state.offset, state.state2.absmax, state.state2.code] if state.nested else []
    storages = [part.untyped_storage() for part in parts]  # all held at once, so that no id is used twice
    return sum({id(storage): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_stand_in_takes_what_bitsandbytes_takes(method: dict[str, Any]) -> None:
    """Weights byte for byte, and what each layer leaves for its backward; checkpointed or not."""
    assert taken_alike(spec_of(**method)) or method, "plain QLoRA peaks where a weight is dequantised"


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize(
    "packing",
    [
        {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
        {
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": "bfloat16",
        },
        {"llm_int8_skip_modules": ["lm_head", "down_proj"], "bnb_4bit_compute_dtype": "bfloat16"},
    ],
    ids=["one statistic", "nested statistics", "fp4, one more module whole"],
)
def test_a_base_that_is_packed_already_is_traced_as_it_lies(
    packing: dict[str, Any], method: str, tmp_path: Path
) -> None:
    plain = parse_spec({"model": {"config": SHAPE, "tokenizer": "x"}, "data": "x", "method": "full"})
    whole, packed = tmp_path / "whole", tmp_path / "packed"
    build_model(plain, build_config(plain.model, False), trust=False).save_pretrained(whole)
    said = BitsAndBytesConfig(load_in_4bit=True, **packing)
    options: dict[str, Any] = {"dtype": torch.bfloat16, "device_map": {"": "cpu"}}
    made = AutoModelForCausalLM.from_pretrained(whole, quantization_config=said, **options)
    made.save_pretrained(packed)
    spec = parse_spec({"model": str(packed), "data": "x", "method": {"kind": method, "dropout": 0.0}})
    taken_alike(spec)
    profile = trace(spec, [])
    assert (profile.quantised, profile.load_bytes) == (packing.get("bnb_4bit_quant_type", "fp4"), 0)
    assert counted_whole(spec) == []
    unpacked = parse_spec({"model": str(whole), "data": "x", "method": "lora"})
    assert profile.weight_bytes < trace(unpacked, []).weight_bytes


def taken_alike(spec: JobSpec) -> int:
    """How many segments peak higher in the trace than in real steps, by no more than an unpacked weight."""
    mode = FakeTensorMode()
    fake, true = build(spec, load_config(spec, []), mode), real(spec)
    assert resting_bytes(fake) == resting_bytes(true)
    hidden = 0
    for every_n in (0, 1):
        found = []
        for model, under in ((fake, mode), (true, nullcontext())):
            checkpoint(model, every_n)
            found.append(
                trace_step(model, spec, under, kind="cpu", padded=False, rows=2, length=128, marked=False)
            )
        assert list(found[0]) == list(found[1])
        for name, projected in found[0].items():
            measured = found[1][name]
            assert projected.delta == measured.delta, (every_n, name)
            # The product's dequantised weight and its statistics are made inside bitsandbytes' operator, where no mode
            # looks.
            beyond = projected.peak(0, 0) - measured.peak(0, 0)
            weights = SHAPE["hidden_size"] * SHAPE["intermediate_size"]
            assert 0 <= beyond <= weights * 2 + 2 * 4 * weights // BLOCK, (every_n, name)
            hidden += beyond > 0
    return hidden


def test_a_model_of_which_little_is_packed_says_so() -> None:
    assert packed_note(95, {"Embedding": 5}) == ()
    (told,) = packed_note(10, {"Qwen3MoeExperts": 80, "Embedding": 10})
    assert "4 bits hold 10% of the weights" in told and "Qwen3MoeExperts, no plain linear layer" in told
    assert "embeddings and output head" in packed_note(50, {"Embedding": 50})[0]


def test_linear_layers_of_a_models_own_are_told_not_to_be_packed():
    falcon = {"model_type": "falcon", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = {"config": {**falcon, "vocab_size": 256, "alibi": False}, "tokenizer": "none"}
    spec = JobSpec.model_validate({"model": model, "data": "none", "method": "qlora"})
    assert (
        "4 bits hold none of the weights: bitsandbytes leaves the weights of FalconLinear"
        in trace(spec, []).notes[0]
    )


def test_the_layers_that_are_packed_are_those_of_transformers(tmp_path: Path) -> None:
    plain = parse_spec({"model": {"config": SHAPE, "tokenizer": "x"}, "data": "x", "method": "full"})
    build_model(plain, build_config(plain.model, False), trust=False).save_pretrained(tmp_path)
    spec = parse_spec({"model": str(tmp_path), "data": "x", "method": "qlora"})
    loaded = build_model(spec, build_config(spec.model, False), trust=False)
    packed = {name for name, m in loaded.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)}
    random = build_model(spec_of(), build_config(spec_of().model, False), trust=False)
    assert packed == {n for n, m in random.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)}
    fake = build(spec_of(), load_config(spec_of(), []), FakeTensorMode())
    stand_ins = {name for name, module in fake.base.named_modules() if isinstance(module, FourBitLinear)}
    assert packed == {name.removesuffix(".base_layer") for name in stand_ins}


@pytest.mark.parametrize(
    ("method", "adapters"),
    [
        ({"kind": "qlora"}, {torch.bfloat16}),
        ({"kind": "qlora", "adapter_dtype": "float32"}, {torch.float32}),
        ({"kind": "qlora", "dora": True}, {torch.bfloat16, torch.float32}),
        ({"kind": "lora", "adapter_dtype": "bfloat16"}, {torch.bfloat16}),
        ({"kind": "lora", "dora": True, "rslora": True}, {torch.float32}),
    ],
    ids=["qlora", "float32 adapters", "qlora dora", "bfloat16 adapters", "dora rslora"],
)
def test_it_learns_on_the_cpu(
    method: dict[str, Any], adapters: set[torch.dtype], tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    assignment = make_assignment(
        rows,
        tokenizer,
        rung=Rung(1, 2, 2),
        method=method,
        model={"dtype": "bfloat16"},
        training={"steps": 12, "optimizer": "adamw_8bit"},
    )
    trainer = build_trainer(assignment, tmp_path)
    trained = {n: p.clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == adapters
    first = loss_of(trainer)
    trainer.train()
    assert loss_of(trainer) < first
    now = dict(trainer.model.named_parameters())
    assert all(not torch.equal(now[name], before) for name, before in trained.items() if "lora_B" in name)
    scaling = {m.scaling["default"] for m in trainer.model.modules() if isinstance(m, LoraLayer)}
    assert scaling == {8.0 if method.get("rslora") else 2.0}, "32 / sqrt(16), 32 / 16"


def test_an_attempt_saves_its_adapters(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    assignment = make_assignment(rows, tokenizer, method="qlora", training={"checkpoint_steps": 2})
    ended = run_attempt(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    assert ended.result is not None and ended.last_checkpoint is not None
    saved = load_file(Path(ended.result) / "adapter_model.safetensors")
    assert saved and all(".lora_" in name for name in saved)


def loss_of(trainer: SFTTrainer) -> float:
    """Of the first rows. Not in evaluation mode, where bitsandbytes packs for AVX512 what is a multiple of 64 wide."""
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))
