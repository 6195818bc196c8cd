"""LoRA adapters as PEFT and TRL make them: which layers, and in which type."""

from __future__ import annotations

import torch
from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel

from jobs.errors import Fault, SpecError
from jobs.jobfile.sections.method import MethodSpec
from jobs.jobfile.spec import JobSpec
from workers.model.heads import task_type


def lora_config(method: MethodSpec, trainer: str = "sft") -> LoraConfig | None:
    """Adapters of lora and qlora; None for a full fine-tune. trainer: of the job file."""
    if method.kind == "full":
        return None
    return LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=method.targets,
        exclude_modules=method.exclude or None,
        modules_to_save=method.modules_to_save or None,
        ensure_weight_tying=method.ensure_weight_tying,
        rank_pattern=dict(method.rank_pattern),
        alpha_pattern=dict(method.alpha_pattern),
        init_lora_weights=True if method.init == "default" else method.init,
        use_dora=method.dora,
        use_rslora=method.rslora,
        task_type=task_type(trainer),
    )


def check_saved_modules(base: PreTrainedModel, method: MethodSpec) -> None:
    """Raises SpecError where the model has no such module, or ties one that would be trained apart."""
    if not method.modules_to_save:
        return
    names = {name for name, _ in base.named_modules()}
    here = sorted({name.rpartition(".")[2] for name in names if not name.rpartition(".")[2].isdigit()} - {""})
    for asked in method.modules_to_save:
        if not any(name == asked or name.endswith(f".{asked}") for name in names):
            fix = f"this model has {', '.join(here)}"
            fault = Fault("method.modules_to_save", asked, "is no module of this model", fix)
            raise SpecError([fault])
    if method.kind == "qlora":
        _refuse_packed(base, method)
    ends = {base.get_input_embeddings(), base.get_output_embeddings()}
    tied = getattr(base.config.get_text_config(), "tie_word_embeddings", False)
    if not tied or method.ensure_weight_tying:
        return
    for name, module in base.named_modules():
        if module in ends and any(
            name == asked or name.endswith(f".{asked}") for asked in method.modules_to_save
        ):
            problem = "shares its weights with the other end of the model, and would be trained apart from it"
            fault = Fault(
                "method.modules_to_save",
                name,
                problem,
                "set method.ensure_weight_tying: true, or leave it out",
            )
            raise SpecError([fault])


def _refuse_packed(base: PreTrainedModel, method: MethodSpec) -> None:
    """Weights of 4 bits can't be trained whole."""
    head = base.get_output_embeddings()
    for name, module in base.named_modules():
        asked = next((one for one in method.modules_to_save if f".{one}." in f".{name}."), None)
        if asked is not None and module is not head and isinstance(module, nn.Linear):
            problem = f"is kept in 4 bits ({name}), which can't be trained whole"
            raise SpecError(
                [Fault("method.modules_to_save", asked, problem, "use kind: lora, or leave it out")]
            )


def cast_adapters(model: nn.Module, spec: JobSpec) -> None:
    """Adapters in the type that the job asks for; DoRA's magnitudes in float32, which bfloat16 would freeze.

    Modules that are trained whole stay in the type that PEFT and TRL give them.
    """
    dtype = getattr(torch, spec.adapter_dtype)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_magnitude_vector" not in name and ".lora_" in name:
            parameter.data = parameter.data.to(dtype)
