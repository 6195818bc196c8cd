"""Puts an adapter into its base: a model of its own, on the CPU, read back from disk and compared before it counts.

Memory: the base in its own type, what one layer takes besides, and the logits that are compared. An adapter that was
trained against a quantised base is put into the original: what training saw and what is made then differ by more than
rounding, so both are measured.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from jobs.jobfile.sections.then import MergeSpec
from jobs.jobfile.spec import JobSpec
from workers.checkpoints import disk_space
from workers.checks.generation import keep_generation
from workers.input_errors import Refused
from workers.model.build import build_config, build_model
from workers.model.quantize import unpack
from workers.steps.compare import Difference, Place, difference, logits_of, sample_rows
from workers.steps.sources import is_adapter

log = logging.getLogger(__name__)

# Mean Kullback-Leibler divergence, nats a token, that rounding the sum of two matrices to a type may come to.
MAX_KL = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.01}
# What the loss on rows of the job's data may rise by, nats a token, when a quantised base gives way to its original.
MAX_LOSS_RISE = 0.1
SHARD = "5GB"


@dataclass
class Merge:
    """One merge. adapter: the result folder that it takes; obey: raises where the attempt is to end."""

    spec: JobSpec
    options: MergeSpec
    adapter: Path
    trust: bool
    obey: Callable[[], None]

    made: dict[str, Any] = field(default_factory=dict)  # what was found, by name

    def fill(self, folder: Path) -> None:
        """Write the merged model and its tokenizer into a folder that is not there yet. Raises Refused where it differs
        by more than it may.
        """
        if not is_adapter(self.adapter):
            raise Refused(f"then: merge has nothing to merge: the result in {self.adapter} is no adapter")
        tokenizer = AutoTokenizer.from_pretrained(self.adapter)
        rows = sample_rows(self.spec, tokenizer, self.options.rows)
        config = build_config(self.spec.model, self.trust)
        trained, why_not = self._as_trained(config, rows)
        self.obey()
        base = self._base(config)
        need = disk_space.Need(folder.parent, _bytes(base), "the merged model")
        if short := disk_space.shortage([need]):
            raise disk_space.NoStorage(f"not merged: {short}")
        before = self._merge(base, rows, tokenizer, folder)
        self.obey()
        # Read back from disk: what is compared is what others will load.
        again = AutoModelForCausalLM.from_pretrained(
            folder, dtype=self._dtype, attn_implementation=self._attention, trust_remote_code=self.trust
        )
        after = logits_of(again, rows)
        self._judge(difference(rows, before, after))
        self._judge_trained(None if trained is None else difference(rows, trained, after), why_not)

    @property
    def _dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self.spec.model.dtype)
        return found

    @property
    def _attention(self) -> str:
        """Flash attention has no CPU."""
        return "eager" if self.spec.model.attention == "eager" else "sdpa"

    def _plain(self) -> JobSpec:
        """The job with its base as it is, or the one that the step names: not packed in 4 bits."""
        model = self.spec.model.model_copy(update={"attention": self._attention})
        if self.options.base is not None:
            named = {"path": self.options.base, "revision": None, "config": None}
            model = model.model_copy(update=named)
        method = self.spec.method.model_copy(update={"kind": "lora"})
        return self.spec.model_copy(update={"model": model, "method": method})

    def _base(self, trained: PreTrainedConfig) -> PreTrainedModel:
        plain = self._plain()
        if self.options.base is None:
            config = trained
        else:
            config = AutoConfig.from_pretrained(self.options.base, trust_remote_code=False)
        if getattr(config, "quantization_config", None) is not None:
            key = "then.merge.base" if self.options.base else "model.path"
            raise Refused(
                f"{key}: {plain.model.path} is quantised, and merging into it would lose the adapter to rounding; name "
                "the model that it was made from: then: [{merge: {base: HUB_ID_OR_FOLDER}}]"
            )
        self.made["base"] = (
            plain.model.path or f"{config.model_type} (random weights, seed {plain.training.seed})"
        )
        return build_model(plain, config, self.trust and self.options.base is None)

    def _as_trained(
        self, config: PreTrainedConfig, rows: Sequence[Place]
    ) -> tuple[list[torch.Tensor] | None, str]:
        """What the quantised base with its adapter predicts, as it was trained. None without one, or why it is not
        compared.
        """
        packed: Any = getattr(config, "quantization_config", None)
        if self.spec.method.kind != "qlora" and packed is None:
            return None, ""
        kind = (
            packed.get("quant_method") if isinstance(packed, dict) else getattr(packed, "quant_method", None)
        )
        if packed is not None and str(getattr(kind, "value", kind)) != "bitsandbytes":
            return None, f"its quantised base ({kind}) can't be run on a CPU"
        model = self.spec.model.model_copy(update={"attention": self._attention})
        base = build_model(self.spec.model_copy(update={"model": model}), config, self.trust)
        unpack(base, self._dtype)
        found = logits_of(PeftModel.from_pretrained(base, self.adapter), rows)
        del base
        gc.collect()
        return found, ""

    def _merge(
        self,
        base: PreTrainedModel,
        rows: Sequence[Place],
        tokenizer: PreTrainedTokenizerBase,
        folder: Path,
    ) -> list[torch.Tensor]:
        """What base with adapter predicts; the merged model is in the folder then, and out of memory."""
        adapted = PeftModel.from_pretrained(base, self.adapter)
        before = logits_of(adapted, rows)
        self.obey()
        # safe_merge: each layer is looked at before it takes the place of the old one.
        merged = adapted.merge_and_unload(safe_merge=True)
        self.obey()
        keep_generation(merged)
        merged.save_pretrained(folder, max_shard_size=SHARD)
        tokenizer.save_pretrained(folder)
        self.made["parameters"] = sum(weight.numel() for weight in merged.parameters())
        del adapted, merged, base
        gc.collect()
        return before

    def _judge(self, found: Difference) -> None:
        bound = self.options.max_difference or MAX_KL[self.spec.model.dtype]
        self.made |= found.facts() | {"max_kl": bound, "loss_with_adapter": found.first_loss}
        self.made |= {"loss_merged": found.second_loss}
        if not found.kl <= bound:
            raise Refused(
                f"merge: the merged model differs from base and adapter by {found.kl:.2g} nats a token, more than "
                f"{bound:.2g} (same most likely token at {found.same:.1%} of {found.places} places); nothing was "
                "published. then: [{merge: {max_difference: ...}}] accepts more"
            )

    def _judge_trained(self, found: Difference | None, why_not: str) -> None:
        if found is None:
            self.made |= {"not_compared": why_not} if why_not else {}
            return
        rise = found.second_loss - found.first_loss
        self.made |= {"loss_quantised": found.first_loss, "kl_quantised": found.kl}
        if not rise <= MAX_LOSS_RISE:
            raise Refused(
                f"merge: the loss on rows of the job's data rises from {found.first_loss:.3f} with the quantised base "
                f"that the adapter was trained against to {found.second_loss:.3f} in the original base, by more than "
                f"{MAX_LOSS_RISE:g}; nothing was published"
            )

    def summary(self) -> str:
        """What was made, in words."""
        made = self.made
        text = (
            f"merged into {made['base']}: {made['kl']:.2g} nats a token apart (at most {made['max_kl']:.2g}), same "
            f"most likely token at {made['same_top_token']:.1%} of {made['tokens']} places of {made['rows']} rows"
        )
        if "loss_quantised" in made:
            text += f"; loss {made['loss_quantised']:.3f} with the quantised base, {made['loss_merged']:.3f} merged"
        if "not_compared" in made:
            text += f"; not compared with what it was trained against: {made['not_compared']}"
        return text


def _bytes(model: PreTrainedModel) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())
