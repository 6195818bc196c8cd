"""The model under trace as the method trains it: LoRA adapters, and a base in 4 bits (of the job, or of its folder).

SFTTrainer wraps with `get_peft_model(model, config)` (trl 1.16, trl/trainer/sft_trainer.py). PEFT's
`autocast_adapter_dtype=True` then keeps LoRA weights in float32 beside a bfloat16 base; TRL casts them to bfloat16
beside a 4-bit one, except DoRA's magnitudes. TRL 1.16 no longer calls `prepare_model_for_kbit_training`: norms,
embeddings and head stay in the type they were loaded in. workers/trainer/train.py casts where the job file asks for
another type, by the same `cast_adapters`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import get_peft_model
from peft.tuners.lora import model as lora_model
from torch import nn
from transformers import PreTrainedModel

from jobs.errors import Fault, SpecError
from jobs.jobfile.sections.method import MethodSpec
from jobs.jobfile.spec import JobSpec
from workers.model.adapters import cast_adapters, check_saved_modules, lora_config
from workers.profiler.emulation.fake_four_bit import FourBitLinear, adapter_class, pack, packing_of


def adapted(spec: JobSpec, base: PreTrainedModel) -> nn.Module:
    """base as the method trains it: itself for a full fine-tune, else wrapped by PEFT, on the meta device.

    Raises SpecError where the job's targets are at fault.
    """
    method = spec.method
    config = lora_config(method, spec.trainer)
    if config is None:
        return base
    linear = sorted({name.rsplit(".", 1)[-1] for name, module in base.named_modules() if _is_linear(module)})
    head = base.get_output_embeddings()
    names = {id(module): name for name, module in base.named_modules()}
    head_name = names.get(id(head), "lm_head").rsplit(".", 1)[-1]
    if isinstance(method.targets, list) and head_name in method.targets and head is not None:
        problem = f"{head_name} can't carry an adapter: TRL's loss reads its weight directly"
        raise SpecError(
            [Fault("method.targets", ", ".join(method.targets), problem, f"leave out {head_name}")]
        )
    check_saved_modules(base, method)
    config.init_lora_weights = True  # fake weights begin in no way
    packing = packing_of(method.kind, getattr(torch, spec.model.dtype), base.config)
    if packing is not None:
        pack(base, packing)
        config._register_custom_module({FourBitLinear: adapter_class()})
    try:
        with _without_bitsandbytes():
            model = get_peft_model(base, config)
    except ValueError as error:
        here = ", ".join(name for name in linear if name != head_name)
        given = ", ".join(method.targets) if isinstance(method.targets, list) else method.targets
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        if "does not work with" in problem:  # adapters of experts (peft/tuners/lora/layer.py, ParamWrapper)
            raise _not_on_experts(method, problem, here) from None
        raise SpecError([Fault("method.targets", given, problem, f"this model has {here}")]) from None
    if packing is not None:  # TRL, beside a quantised base: what is trained, modules_to_save among it
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_magnitude_vector" not in name:
                parameter.data = parameter.data.to(torch.bfloat16)
    cast_adapters(model, spec)
    return model


def _not_on_experts(method: MethodSpec, problem: str, linear: str) -> SpecError:
    """What adapters of experts can't have, and the targets that leave experts out."""
    name, given, plain = (
        ("method.dropout", str(method.dropout), "0") if method.dropout else ("method.dora", "true", "false")
    )
    fix = f"use {plain}, or set method.targets to layers outside the experts, of {linear}"
    return SpecError([Fault(name, given, problem, fix)])


@contextmanager
def _without_bitsandbytes() -> Iterator[None]:
    """PEFT imports bitsandbytes, which takes seconds, to ask whether each layer is one of its own: here none is."""
    asked = ("is_bnb_available", "is_bnb_4bit_available")
    kept = {name: getattr(lora_model, name) for name in asked}
    for name in asked:
        setattr(lora_model, name, lambda: False)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(lora_model, name, value)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
