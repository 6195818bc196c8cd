"""fit(): from a TRL configuration, a model and data to the rung of the memory ladder that fits the card."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.errors import DoesNotFit, Fault, SpecError
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import Choice, NoFit, choose
from jobs.memory.profile import MemoryProfile
from jobs.memory.sequence_lengths import Lengths
from jobs.memory.suggestions import Suggestion, suggestions
from jobs.units import gib
from workers.fit.card import Here, card_here
from workers.fit.fitted import Fitted
from workers.fit.guard import checkpointing
from workers.fit.lengths import lengths_of
from workers.fit.request import request_of
from workers.fit.trace import profile_of

log = logging.getLogger("tuneyard.fit")

_FIXED_SEGMENTS = (
    "Segments of torch's allocator are fixed here, which takes more memory where rows differ in length: set "
    "PYTORCH_ALLOC_CONF=expandable_segments:True before the script starts."
)
# What would help, in a script's words.
_IN_A_SCRIPT = {
    "training.optimizer": "optim='adamw_bnb_8bit'",
    "training.sequence_length": "max_length={value}",
    "method.kind": "a base in 4 bits (BitsAndBytesConfig: nf4, double quantisation) with LoRA",
}


def fit_here(
    config: Any,
    model: Any,
    data: Any,
    *,
    peft_config: Any,
    processing_class: Any,
    card: str | None,
    confidence: float,
    timeout_s: float,
    home: Path,
    say: Callable[[str], None],
) -> Fitted:
    """See tuneyard.fit. home: where traces are kept. Raises DoesNotFit, SpecError, UsageError, Unavailable."""
    request = request_of(config, model, peft_config, confidence)
    here = card_here(config, card)
    spec = request.spec
    profile = profile_of(spec, home / "traces", timeout_s, say)
    if profile.max_length is not None and spec.training.sequence_length > profile.max_length:
        problem = f"is longer than the model's {profile.max_length} positions"
        name = f"{type(config).__name__}.max_length"
        fault = Fault(name, str(config.max_length), problem, f"use at most {profile.max_length}")
        raise SpecError([fault], "fit")
    lengths, uncounted = lengths_of(data, spec, config, model, processing_class)
    found = _chosen(profile, spec, here, lengths)
    if isinstance(found, NoFit):
        raise DoesNotFit(_misfit(found, profile, spec, here, lengths))
    notes = [*request.notes, uncounted, *profile.notes, *(lengths.warnings if lengths else ())]
    if here.card.allocator == "default":
        notes.append(_FIXED_SEGMENTS)
    made, changes = _changed(config, found)
    return Fitted(made, changes, found, here, request, profile, lengths, tuple(filter(None, notes)))


def _chosen(profile: MemoryProfile, spec: JobSpec, here: Here, lengths: Lengths | None) -> Choice | NoFit:
    # A script's trainer does not put its longest rows first, as the ones behind the simulated reserve do
    # (workers/trainer/longest_first.py): without tensors it is by terms, with the wider margin.
    known = replace(profile, tensors={}) if here.card.allocator == "default" else profile
    return choose(
        known,
        spec,
        here.card,
        length=_longest(spec, lengths),
        means=lengths.batch_lengths(spec) if lengths else (),
        fullest=lengths.fullest_batches(spec) if lengths else (),
        sample=lengths.sample() if lengths else (),
        equal_rows=lengths is not None and lengths.equal_rows,
    )


def _longest(spec: JobSpec, lengths: Lengths | None) -> int:
    limit = spec.training.sequence_length
    return limit if lengths is None else lengths.longest_batch_tokens(limit, spec.training.packing)


def _changed(config: Any, choice: Choice) -> tuple[Any, dict[str, tuple[Any, Any]]]:
    """A copy of the configuration on the chosen rung, and the fields that differ, without deprecated ones."""
    rung = choice.rung
    wanted = {
        "per_device_train_batch_size": rung.micro_batch,
        "gradient_accumulation_steps": rung.accumulation,
        **checkpointing(rung),
    }
    if config.eval_strategy != "no" and config.per_device_eval_batch_size > rung.micro_batch:
        wanted["per_device_eval_batch_size"] = rung.micro_batch
    # Not dataclasses.replace: that would read the values again that __post_init__ has worked out.
    made = copy.copy(config)
    changes: dict[str, tuple[Any, Any]] = {}
    for name, value in wanted.items():
        before = getattr(config, name)
        setattr(made, name, value)
        if before != value and not name.startswith("gradient_checkpointing"):
            changes[name] = (before, value)
    return made, changes


def _misfit(found: NoFit, profile: MemoryProfile, spec: JobSpec, here: Here, lengths: Lengths | None) -> str:
    lines = [f"{found.reason.text} ({here.card.name})"]
    for one in suggestions(profile, spec, here.card, length=_longest(spec, lengths)):
        lines.append(f"  - {_in_a_script(one)}")
    return "\n".join(lines)


def _in_a_script(one: Suggestion) -> str:
    for path, value in one.overrides.items():
        if (said := _IN_A_SCRIPT.get(path)) is not None:
            takes = f": at most {gib(one.upper_bytes)}" if one.upper_bytes else ""
            return said.format(value=value) + takes
    return one.text
