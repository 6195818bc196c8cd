"""What would help a job that fits no card: suggested with figures, never chosen for the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jobs.cards import CATALOGUE, Card
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import Choice, NoFit, choose
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import Projection, Rung, project_many
from jobs.memory.remedies import changed
from jobs.units import gib

# bitsandbytes: two states of one byte for each parameter, and a float32 scale for each block of 256
# (bitsandbytes/optim/optimizer.py, blocksize 256).
EIGHT_BIT_STATE = 2 * (1 + 4 / 256)
# NF4 with double quantisation: four bits, an 8-bit scale for each 64 weights, a float32 one for each 256 of those
# (QLoRA, Dettmers et al. 2023, section 3).
FOUR_BIT_WEIGHT = 0.5 + 1 / 64 + 4 / (64 * 256)
SHORTEST = 128  # tokens; shorter sequences are no help to anybody
WORTH_SAYING = 0.99  # a suggestion that leaves more than this share of the peak is none

Chooser = Callable[[MemoryProfile, JobSpec, Card, int | None], Choice | NoFit]


@dataclass(frozen=True)
class Suggestion:
    """One change, in words that name the key.

    upper_bytes: what the job would then stay under, None when not known; overrides: the change by dotted path, where
    it is one of the job file.
    """

    text: str
    upper_bytes: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


def _plain(profile: MemoryProfile, spec: JobSpec, card: Card, length: int | None) -> Choice | NoFit:
    return choose(profile, spec, card, length=length)


def suggestions(
    profile: MemoryProfile,
    spec: JobSpec,
    card: Card,
    *,
    length: int | None = None,
    config: Mapping[str, Any] | None = None,
    chooser: Chooser = _plain,
) -> list[Suggestion]:
    """What would make a job fit this card, which it does not: the smallest change first.

    length: longest sequence that can occur, None: training.sequence_length; config: the model's, where it is known:
    what embeddings take is not quantised; chooser: choose() with what was measured in it.
    """
    now = _upper(chooser(profile, spec, card, length))
    found = [
        *_free_memory(profile, spec, card, length, chooser),
        *_eight_bit(profile, spec, card, length, chooser),
        *_four_bit(profile, spec, card, length, config, chooser),
        *_shorter(profile, spec, card, length, chooser),
        *_larger(profile, spec, card, length, chooser),
    ]
    possible = [one for one in found if not one.overrides or changed(spec, one.overrides) is not None]
    return [one for one in possible if one.upper_bytes is None or one.upper_bytes < now * WORTH_SAYING]


def checkpointing_saves(
    profile: MemoryProfile,
    projection: Projection,
    card: Card,
    *,
    length: int,
    world_size: int = 1,
    equal_rows: bool = False,
    fullest: Sequence[tuple[int, int]] = (),
    sample: tuple[int, ...] = (),
) -> int:
    """Device bytes that checkpointing every layer takes off the peak without any, at the projection's micro-batch.

    fullest, sample: as choose() has them.
    """
    rung = projection.rung
    valid = dict(fullest).get(rung.micro_batch)
    off, every = project_many(
        profile,
        [Rung(every_n, rung.micro_batch, rung.accumulation) for every_n in (0, 1)],
        sequence_length=length,
        world_size=world_size,
        card=card,
        equal_rows=equal_rows,
        valid=None if valid is None else [valid, valid],
        sample=sample,
    )
    return off.device_bytes - every.device_bytes


def _free_memory(
    profile: MemoryProfile, spec: JobSpec, card: Card, length: int | None, chooser: Chooser
) -> list[Suggestion]:
    """The job file fixes the rung, and another would do."""
    memory = spec.memory
    fixed = {
        name: "auto"
        for name in ("checkpointing", "micro_batch", "offload")
        if getattr(memory, name) != "auto" and not (name == "offload" and card.kind == "cpu")
    }
    if not fixed:
        return []
    freed = spec.model_copy(update={"memory": memory.model_copy(update=fixed)})
    found = chooser(profile, freed, card, length)
    if not isinstance(found, Choice):
        return []
    keys = ", ".join(f"memory.{name}: auto" for name in fixed)
    text = f"{keys} would fit ({found.rung.label}), at {gib(found.projection.upper_bytes)}"
    overrides = {f"memory.{name}": value for name, value in fixed.items()}
    return [Suggestion(text, found.projection.upper_bytes, overrides)]


def _eight_bit(
    profile: MemoryProfile, spec: JobSpec, card: Card, length: int | None, chooser: Chooser
) -> list[Suggestion]:
    if card.kind != "cuda" or spec.training.optimizer not in ("adamw", "paged_adamw"):
        return []
    state = round(profile.trained_count * EIGHT_BIT_STATE)
    if state >= profile.optimizer_bytes:
        return []
    found = chooser(replace(profile, optimizer_bytes=state), spec, card, length)
    return [_told("training.optimizer", "adamw_8bit", found)]


def _four_bit(
    profile: MemoryProfile,
    spec: JobSpec,
    card: Card,
    length: int | None,
    config: Mapping[str, Any] | None,
    chooser: Chooser,
) -> list[Suggestion]:
    if card.kind != "cuda" or spec.method.kind == "qlora" or profile.quantised:
        return []
    packed = _packed_weights(profile, config)
    if packed is None:
        text = "method.kind: qlora holds the base in 4 bits, about a quarter of bfloat16"
        return [Suggestion(text, None, {"method.kind": "qlora"})]
    if spec.method.kind == "full":  # another method altogether: its activations would have to be traced
        rest = profile.weight_bytes + profile.trained_bytes + profile.optimizer_bytes
        return [
            Suggestion(
                f"method.kind: qlora holds the base in about {gib(packed)}, in place of {gib(rest)} of weights, "
                "gradients and optimizer state",
                None,
                {"method.kind": "qlora"},
            )
        ]
    found = chooser(replace(profile, weight_bytes=packed), spec, card, length)
    return [_told("method.kind", "qlora", found)]


def _packed_weights(profile: MemoryProfile, config: Mapping[str, Any] | None) -> int | None:
    """Bytes of the base in NF4: linear layers are packed, embeddings and head are not."""
    known = config or {}
    vocabulary, hidden = known.get("vocab_size"), known.get("hidden_size")
    if not isinstance(vocabulary, int) or not isinstance(hidden, int) or not profile.parameter_count:
        return None
    tied = known.get("tie_word_embeddings", False)  # the larger where it is not said
    whole = vocabulary * hidden * (1 if tied else 2)
    each = profile.weight_bytes / profile.parameter_count
    return round((profile.parameter_count - whole) * FOUR_BIT_WEIGHT + whole * each)


def _shorter(
    profile: MemoryProfile, spec: JobSpec, card: Card, length: int | None, chooser: Chooser
) -> list[Suggestion]:
    """The longest of half, a quarter .. of the sequence length that fits."""
    tokens = (length or spec.training.sequence_length) // 2
    while tokens >= SHORTEST:
        found = chooser(profile, spec, card, tokens)
        if isinstance(found, Choice):
            return [_told("training.sequence_length", tokens, found)]
        tokens //= 2
    return []


def _larger(
    profile: MemoryProfile, spec: JobSpec, card: Card, length: int | None, chooser: Chooser
) -> list[Suggestion]:
    """The smallest card of the catalogue that fits; a CPU card that is large enough for a CPU card."""
    if card.kind == "cpu":
        found = chooser(profile, spec, replace(card, memory_bytes=2**60), length)
        needs = min(entry.projection.upper_bytes for entry in found.tried)
        return [Suggestion(f"a CPU card of {gib(needs)} would do")]
    for other in sorted(CATALOGUE, key=lambda each: (each.memory_bytes, each.flops)):
        if other.memory_bytes > card.memory_bytes:
            found = chooser(profile, spec, other, length)
            if isinstance(found, Choice):
                return [Suggestion(f"a card such as {other.name} ({gib(other.memory_bytes)}) would do")]
    return []


def _told(path: str, value: Any, found: Choice | NoFit) -> Suggestion:
    upper = _upper(found)
    verdict = "would fit, at" if isinstance(found, Choice) else "is not enough by itself: it would take"
    return Suggestion(f"{path}: {value} {verdict} about {gib(upper)}", upper, {path: value})


def _upper(found: Choice | NoFit) -> int:
    return (found.projection if isinstance(found, Choice) else found.smallest).upper_bytes
