"""Rungs of the memory ladder, and choose(): the fastest that fits a card."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from jobs.cards import Card, CardKind
from jobs.jobfile.fields import Policy
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import Margin, Projection, Rung, project_many, simulates
from jobs.memory.projection import prior
from jobs.state import Code, Reason
from jobs.units import GiB, gib

SAME_SIZE_FROM = 4 * GiB  # cards with less differ by less than a GiB
NOTHING_KNOWN: Mapping[int, int] = MappingProxyType({})
# torch 2.13: gemm with bfloat16 inputs and a float32 output, of which TRL 1.16's loss makes its gradients, is "only
# supported for CUDA devices with compute capability 8.0 or higher".
NO_BFLOAT16 = (
    "cards older than Ampere can't train in bfloat16: the loss of TRL has no product for it there; set model.dtype: "
    "float16, or float32 with training.autocast: off"
)
NO_OFFLOAD = "offload needs a card with memory of its own; a CPU card's is the host's"


class Tried(NamedTuple):
    """A rung that was looked at. No dataclass: a frozen one takes three times as long to make, and a plan makes many.

    relative_time: its projected step against the fastest rung without checkpointing; excluded: it ran out of memory
    before, so it does not count as fitting whatever is projected.
    """

    rung: Rung
    projection: Projection
    fits: bool
    relative_time: float
    excluded: bool = False


@dataclass(frozen=True)
class Choice:
    """The rung that a job runs on.

    slowdown: projected, 0.2 is 20 % slower than without checkpointing; tried: every rung, fastest first; speed: what
    the projected step times are multiplied by to be those that were measured.
    """

    rung: Rung
    projection: Projection
    slowdown: float
    tried: tuple[Tried, ...]
    speed: float = 1.0

    @property
    def step_s(self) -> float:
        """One optimizer step, by what was measured. projection.step_s stays what the model alone says."""
        return self.projection.step_s * self.speed

    @property
    def runners_up(self) -> tuple[Tried, ...]:
        """The other rungs that fit, fastest first."""
        return tuple(entry for entry in self.tried if entry.fits and entry.rung != self.rung)


@dataclass(frozen=True)
class NoFit:
    """No rung fits. smallest: the projection that comes nearest."""

    reason: Reason
    tried: tuple[Tried, ...]
    smallest: Projection


def computes_in(spec: JobSpec) -> str:
    """Type of a step's products: autocast's, else that of the weights."""
    return spec.autocast_dtype or spec.model.dtype


def rungs(spec: JobSpec, layers: int, kind: CardKind = "cuda") -> list[Rung]:
    """Every rung the job file allows. Accumulation makes up the batch, so that the global batch never changes.

    What the job file fixes is kept. Left to us: checkpointing off, every n-th layer for each n of useful_n, and on
    CUDA cards every layer with offload; each with every micro-batch that divides the batch of one GPU, and where the
    trainer has a reference, with it and with what it says worked out before training.
    """
    return list(_ladder(_wishes(spec), layers, kind))


class _Wishes(NamedTuple):
    """What of a job file its rungs depend on. checkpointing: the number of every_n itself; least: the
    smallest micro-batch that the loss can do with."""

    batch: int
    micro_batch: int | str
    checkpointing: int | str
    offload: bool | str
    unsloth: bool
    precompute: bool | str
    least: int


def _wishes(spec: JobSpec) -> _Wishes:
    memory = spec.memory
    wanted = memory.checkpointing
    every = wanted["every_n"] if isinstance(wanted, dict) else wanted
    return _Wishes(
        batch=spec.batch_per_gpu,
        micro_batch=memory.micro_batch,
        checkpointing=every,
        offload=memory.offload,
        unsloth=spec.model.engine == "unsloth",
        precompute=spec.precomputes,
        least=2 if spec.trainer == "kto" and spec.kto.loss_type == "kto" else 1,
    )


@lru_cache(maxsize=1024)
def _ladder(wishes: _Wishes, layers: int, kind: CardKind) -> tuple[Rung, ...]:
    """The rungs in the order in which those of the same time and memory are taken: the larger micro-batch first, then
    less checkpointing."""
    batch, wanted = wishes.batch, wishes.micro_batch
    fitting = [k for k in range(batch, wishes.least - 1, -1) if batch % k == 0]
    sizes = [wanted] if isinstance(wanted, int) else fitting
    before = [False, True] if wishes.precompute == "auto" else [bool(wishes.precompute)]
    made = [
        Rung(every_n, size, batch // size, offload, precompute)
        for size in sizes
        for every_n, offload in _checkpointing(wishes, layers, kind)
        for precompute in before
    ]
    return tuple(sorted(made, key=lambda rung: (-rung.micro_batch, -(rung.every_n or layers + 1))))


def _checkpointing(wishes: _Wishes, layers: int, kind: CardKind) -> list[tuple[int, bool]]:
    """Pairs of every_n and offload."""
    wanted, offload = wishes.checkpointing, wishes.offload
    if isinstance(wanted, int):
        every = [wanted]
    else:
        # Unsloth checkpoints every layer or none, and offloads on its own.
        auto = [0, 1] if wishes.unsloth else [0, *useful_n(layers)]
        every = {"off": [0], "every_layer": [1], "auto": auto}[wanted]
    if offload is True:
        return [(n, True) for n in every if n]
    # Offload costs more time than memory is worth until everything is checkpointed: the last resort.
    possible = any(every) and offload == "auto" and kind == "cuda" and not wishes.unsloth
    last = [(min(n for n in every if n), True)] if possible else []
    return [*((n, False) for n in every), *last]


def useful_n(layers: int) -> list[int]:
    """The smallest n for each number of layers that checkpointing every n-th of them can checkpoint.

    Layers 0, n, 2n .. are checkpointed, ceil(layers / n) of them: 12 layers give 1, 2, 3, 4, 6, 12, for 5 checkpoints
    as many layers as 4.
    """
    return [n for n in range(1, layers + 1) if n == 1 or -(-layers // n) < -(-layers // (n - 1))]


def choose(
    profile: MemoryProfile,
    spec: JobSpec,
    card: Card,
    *,
    length: int | None = None,
    means: Sequence[tuple[int, int]] = (),
    fullest: Sequence[tuple[int, int]] = (),
    sample: tuple[int, ...] = (),
    margin: Margin | None = None,
    speed: float = 1.0,
    exclude: Collection[Rung] = (),
    ceiling_bytes: int | None = None,
    equal_rows: bool = False,
) -> Choice | NoFit:
    """The fastest rung whose upper bound fits; among equals the one with less checkpointing, then less memory, then the
    larger micro-batch.

    length: longest sequence that can occur, None: spec.training.sequence_length. means: pairs of a micro-batch and the
    mean length that its rows are padded to (Lengths.batch_lengths): memory goes by the longest batch, time by those; of
    micro-batches that are not among them, by the longest. fullest: pairs of a micro-batch and the most tokens that are
    no padding in one (Lengths.fullest_batches); of others all may be. sample: lengths of some rows (Lengths.sample).
    margin: how far off projections of this group were, None: the prior. speed: measured over projected step time of
    this group. exclude: rungs that ran out of memory already. ceiling_bytes: what a card like it was seen to run out
    at; upper bounds must be below.
    equal_rows: all sequences of the data are of one length. Where the allocator can be simulated, that is done for the
    rungs that may fit, fastest first, until one does; the others have the wider margin of what is not.
    """
    ladder = _ladder(_wishes(spec), profile.layers, card.kind)
    # The yardstick of every slowdown: off, at whichever micro-batch is quickest, whether it fits or not.
    batch, sizes = spec.batch_per_gpu, dict.fromkeys(rung.micro_batch for rung in ladder)
    off = [] if ladder[0].every_n == 0 else [Rung(0, size, batch // size) for size in sizes]
    longest = length or spec.training.sequence_length
    asked = [*ladder, *off]
    projections = _projected(
        profile, spec, card, asked, [longest] * len(asked), margin, equal_rows, dict(fullest)
    )
    if means:
        mean_of = dict(means)
        lengths = [min(longest, mean_of.get(rung.micro_batch, longest)) for rung in asked]
        timed = _projected(profile, spec, card, asked, lengths, margin, equal_rows)
        projections = [
            replace(projection, step_s=mean.step_s)
            for projection, mean in zip(projections, timed, strict=True)
        ]
    fastest_s = min(projection.step_s for projection in projections if projection.rung.every_n == 0)
    limit = card.memory_bytes if ceiling_bytes is None else min(card.memory_bytes, ceiling_bytes - 1)
    times = [projection.step_s / fastest_s for projection in projections[: len(ladder)]]
    # Recomputing is never free, though a step may be too short to show it: less of it goes before less memory.
    ranks = [
        (round(time, 3), _checkpointed(one.rung), one.upper_bytes)
        for time, one in zip(times, projections, strict=False)
    ]
    order = sorted(range(len(ladder)), key=ranks.__getitem__)
    if simulates(profile, card):
        may_fit = [
            index
            for index in order
            if asked[index] not in exclude and projections[index].allocated_bytes <= limit
        ]
        for index in may_fit:
            exact = _projected(
                profile, spec, card, [asked[index]], [longest], margin, equal_rows, dict(fullest), sample
            )[0]
            projections[index] = replace(exact, step_s=projections[index].step_s)
            if exact.upper_bytes <= limit:
                break
    entries = tuple(
        Tried(rung, projection, projection.upper_bytes <= limit and not barred, times[index], barred)
        for index in order
        for rung, projection in [(ladder[index], projections[index])]
        for barred in [rung in exclude]
    )
    smallest = min((entry.projection for entry in entries), key=lambda projection: projection.upper_bytes)
    if card.kind == "cpu" and spec.memory.offload is True:
        return NoFit(Reason(Code.NO_CARD, NO_OFFLOAD), entries, smallest)
    if card.traced == "cuda.old" and computes_in(spec) == "bfloat16":
        return NoFit(Reason(Code.NO_CARD, NO_BFLOAT16), entries, smallest)
    for entry in entries:
        if entry.fits:
            return Choice(entry.rung, entry.projection, entry.relative_time - 1, entries, speed)
    alike = equal_rows or spec.training.packing
    before = prior(card.kind, spec.memory.confidence, card.allocator, alike)
    return NoFit(_reason(smallest, card, ceiling_bytes, before), entries, smallest)


def _checkpointed(rung: Rung) -> tuple[float, bool, bool]:
    """How much is recomputed, whether it travels, and whether the reference works before training."""
    return (1 / rung.every_n if rung.every_n else 0.0, rung.offload, rung.precompute)


def _projected(
    profile: MemoryProfile,
    spec: JobSpec,
    card: Card,
    ladder: Sequence[Rung],
    lengths: Sequence[int],
    margin: Margin | None,
    equal_rows: bool,
    fullest: Mapping[int, int] = NOTHING_KNOWN,
    sample: tuple[int, ...] | None = None,
) -> list[Projection]:
    """sample: of rows to simulate the allocator on; None: it is not simulated."""
    whole = [rung.micro_batch * length for rung, length in zip(ladder, lengths, strict=True)]
    return project_many(
        profile,
        ladder,
        sequence_length=lengths,
        world_size=spec.resources.gpus,
        card=card,
        confidence=spec.memory.confidence,
        margin=margin,
        equal_rows=equal_rows,
        valid=[fullest.get(rung.micro_batch, most) for rung, most in zip(ladder, whole, strict=True)],
        simulate=sample is not None,
        sample=sample or (),
    )


def preference(policy: Policy, card: Card, choice: Choice) -> tuple[float, ...]:
    """A key to sort (card, choice) pairs by, the best first: what resources.policy asks for.

    smallest_card: the least memory to the GiB (an L4 has 6 MiB more than an A10G), then the faster. fastest: the
    shortest step, then the least memory. cheapest: price per GPU hour x time; a card without a price comes after all
    that have one, smallest first.
    """
    size = round(card.memory_bytes / GiB) * GiB if card.memory_bytes >= SAME_SIZE_FROM else card.memory_bytes
    if policy == "fastest":
        return (choice.step_s, card.memory_bytes)
    if policy == "cheapest":
        if card.price is not None:
            return (0, card.price * choice.step_s, choice.step_s, card.memory_bytes)
        return (1, size, choice.step_s, card.memory_bytes)
    return (size, choice.step_s, card.memory_bytes)


def _reason(smallest: Projection, card: Card, ceiling_bytes: int | None, before: Margin) -> Reason:
    """before: the margin that there is without what was measured."""
    largest = sorted(smallest.parts.items(), key=lambda part: -part[1])[:3]
    parts = ", ".join(f"{name.replace('_', ' ')} {gib(count)}" for name, count in largest if count)
    needs, has = gib(smallest.upper_bytes), gib(card.memory_bytes)
    limit = card.memory_bytes if ceiling_bytes is None else min(card.memory_bytes, ceiling_bytes)
    where = f"the card has {has}"
    if limit < card.memory_bytes:
        where += f" and ran out of memory at {gib(limit)}"
    elif smallest.upper_bytes <= limit:
        where += ", and it ran out of memory there"
    text = f"needs at least {needs} ({smallest.rung.label}), {where}; {parts}"
    figures = {
        "needs_bytes": smallest.upper_bytes,
        "card_bytes": card.memory_bytes,
        "missing_bytes": max(0, smallest.upper_bytes - limit),
        "phase": smallest.phase,
    }
    live, device, margin = smallest.allocated_bytes, smallest.device_bytes, smallest.margin
    without = before.bytes_at(1, live, device, device)
    if margin is not None and margin.count and without <= limit < smallest.upper_bytes:
        text += f"; {gib(without)} without what was measured ({margin.group}): see `tuneyard accuracy`"
        figures |= {"calibration": margin.group, "uncalibrated_bytes": without}
    return Reason(Code.MEMORY, text, figures)
