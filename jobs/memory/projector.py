"""projections(): the highest moments of many steps -> what each takes of a card.

Beside what comes and goes stands what rests on the card, what the allocator and the driver add, and how far off
projections have been.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.cards import Card
from jobs.memory.allocator import terms
from jobs.memory.allocator.replay import simulated
from jobs.memory.allocator.terms import Bytes
from jobs.memory.kernel_launches import launches_of, per_micro_batch
from jobs.memory.moments.highest import Floats, Highest
from jobs.memory.peaks import highest_moments
from jobs.memory.profile import MemoryProfile
from jobs.memory.projection import EVALUATION, PHASES, REFERENCE, Breakdown, Margin, Projection
from jobs.memory.rung import Rung
from jobs.units import gib

HOST_LINK_BYTES_S = 12e9  # pinned copies over PCIe 3 x16, the slowest link among the cards of the catalogue


def projections(
    profile: MemoryProfile,
    rungs: Sequence[Rung],
    *,
    lengths: Sequence[int],
    world_size: int,
    card: Card,
    margin: Margin,
    equal_rows: bool = False,
    valid: Sequence[int] | None = None,
    simulate: bool = False,
    sample: tuple[int, ...] = (),
) -> list[Projection]:
    """The projection of each rung, one at least, each at its sequence length. Raises ProfileError.

    simulate: what the allocator holds, rung by rung, on rows like those of the sample.
    """
    found = highest_moments(profile, rungs, lengths, card.traced, equal_rows, valid)
    held = _held(profile, rungs, found, lengths, world_size, card, equal_rows, simulate, sample)
    here = _projections(profile, rungs, found, world_size, card, margin, held, paged_out=False)
    if not _pages(profile, card):
        return here
    # The driver moves a paged optimizer's state to the host where tensors need the room.
    away = _projections(profile, rungs, found, world_size, card, margin, held, paged_out=True)
    return [
        one if one.upper_bytes <= card.memory_bytes else other for one, other in zip(here, away, strict=True)
    ]


def _pages(profile: MemoryProfile, card: Card) -> bool:
    """Whether optimizer state can leave the card (bitsandbytes 0.50, optim/optimizer.py, get_state_buffer).

    On a CPU bitsandbytes pages nothing. On CUDA it leaves the state of tensors under 100,000 numbers where it is:
    hardly any of a whole model, but most of what adapters have, whose state is taken to stay.
    """
    return profile.paged_optimizer and card.kind == "cuda" and not profile.adapter_bytes


def _held(
    profile: MemoryProfile,
    rungs: Sequence[Rung],
    found: Highest,
    lengths: Sequence[int],
    world_size: int,
    card: Card,
    equal_rows: bool,
    simulate: bool,
    sample: tuple[int, ...],
) -> tuple[Bytes, Bytes]:
    """Bytes that no tensor has, of each rung: counted as allocated all the same, and reserved beyond that."""
    if simulate:
        return simulated(profile, rungs, lengths, card, equal_rows, world_size, sample)
    if card.allocator:
        return terms.held(card, found, profile.packed or equal_rows)
    beyond = np.array([card.reserve(moving, profile.adapter_bytes > 0) for moving in found.moving.tolist()])
    return np.zeros(len(rungs), dtype=np.int64), beyond


def _projections(
    profile: MemoryProfile,
    rungs: Sequence[Rung],
    found: Highest,
    world_size: int,
    card: Card,
    margin: Margin,
    held: tuple[Bytes, Bytes],
    paged_out: bool,
) -> list[Projection]:
    weights, adapters = profile.weight_bytes, profile.adapter_bytes
    optimizer = 0 if paged_out else profile.optimizer_bytes
    # DDP's buckets: a second copy of every gradient (gradient_as_bucket_view is off in accelerate by default).
    buckets = profile.trained_bytes if world_size > 1 else 0
    context, nccl = card.context_bytes, card.distributed_bytes if world_size > 1 else 0
    peak = _Peak(profile, found, optimizer + buckets)
    reference = profile.reference_bytes * np.array([not rung.precompute for rung in rungs])
    allocated = weights + adapters + reference + optimizer + buckets + peak.live
    high = allocated[peak.which, np.arange(len(rungs))]
    within, beyond = held
    # Blocks that the allocator does not split and workspaces count as allocated, though no tensor has them.
    allocator, high = within + beyond, high + within
    device = high + beyond + context + nccl
    (_, of_live), (_, of_device) = margin.shares
    upper = np.rint(device + of_live * high + of_device * device).astype(np.int64)
    notes = _notes(profile, paged_out)
    resting = (weights, adapters, optimizer, buckets, context, nccl)
    details = _Details(resting, reference, peak, allocated, allocator)
    return [
        Projection.of_fields(
            {
                "rung": rung,
                "phase": phase,
                "allocated_bytes": live,
                "reserved_bytes": reserved,
                "device_bytes": whole,
                "upper_bytes": most,
                "step_s": step_s,
                "margin": margin,
                "checkpointing_helps": helps,
                "notes": notes,
                "parts": Breakdown(details, index, "parts"),
                "phases": Breakdown(details, index, "phases"),
            }
        )
        for index, (rung, phase, live, reserved, whole, most, step_s, helps) in enumerate(
            zip(
                rungs,
                map(peak.names.__getitem__, peak.which.tolist()),
                high.tolist(),
                (high + beyond).tolist(),
                device.tolist(),
                upper.tolist(),
                _seconds(profile, rungs, found, card, paged_out).tolist(),
                peak.helps.tolist(),
                strict=True,
            )
        )
    ]


@dataclass(frozen=True)
class _Details:
    """Parts and phases of many projections.

    resting: bytes of weights, adapters, optimizer, buckets, context, NCCL; reference: of each rung.
    """

    resting: tuple[int, ...]
    reference: NDArray[np.int64]
    peak: _Peak
    allocated: NDArray[np.int64]
    allocator: NDArray[np.int64]

    def of(self, index: int) -> dict[str, dict[str, int]]:
        weights, adapters, optimizer, buckets, context, nccl = self.resting
        gradients, activations, boundaries, loss, transients = self.peak.parts[:, index].tolist()
        loaded = self.peak.which[index] > 0  # the first phase is loading: neither is there yet
        parts = {
            "weights": weights,
            "adapters": adapters,
            "reference": int(self.reference[index]),
            "gradients": gradients,
            "optimizer": optimizer if loaded else 0,
            "activations": activations,
            "boundaries": boundaries,
            "logits_and_loss": loss,
            "transients": transients,
            "ddp_buffers": buckets if loaded else 0,
            "allocator": int(self.allocator[index]),
            "context": context,
            "nccl": nccl,
        }
        phases = dict(zip(self.peak.names, self.allocated[:, index].tolist(), strict=True))
        return {"parts": parts, "phases": phases}


class _Peak:
    """The highest phase of each rung, and what holds its bytes.

    names: of the phases; live: [phase, rung], whole bytes beside the resting ones; which: the highest phase; parts:
    gradients, activations, boundaries, loss and transients of it; helps: a layer without checkpointing holds some.
    """

    def __init__(self, profile: MemoryProfile, found: Highest, absent_at_load: int) -> None:
        trained = profile.trained_bytes
        nothing = np.zeros_like(found.moving)
        rows: list[tuple[Floats, ...]] = [
            (nothing + (profile.load_bytes - absent_at_load), *[nothing] * 5),
            *(
                (m.live, m.gradients, m.activations, m.boundaries, m.loss, m.plain)
                for m in (found.forward, found.loss, found.reference, found.backward)
                if m is not None
            ),
            (nothing + (trained + profile.optimizer_transient_bytes), nothing + trained, *[nothing] * 4),
        ]
        if found.evaluation is not None:
            live, loss = found.evaluation
            rows.append((live, nothing, nothing, nothing, loss, nothing))
        rows.append((nothing + profile.save_bytes, *[nothing] * 5))
        absent = {EVALUATION: found.evaluation is None, REFERENCE: found.reference is None}
        self.names = tuple(name for name in PHASES if not absent.get(name))
        table = np.array(rows)
        self.live: NDArray[np.int64] = np.rint(table[:, 0]).astype(np.int64)
        self.which = self.live.argmax(0)
        rungs = np.arange(len(nothing))
        high = table[self.which, :, rungs].T
        self.helps = high[5] > 0
        live = self.live[self.which, rungs] + np.where(self.which == 0, absent_at_load, 0)
        self.parts = _whole(live, np.rint(high[1:5]).astype(np.int64))


def _whole(live: NDArray[np.int64], claimed: NDArray[np.int64]) -> NDArray[np.int64]:
    """What no part claims is transient; where parts claim too much, activations give way first."""
    gradients, *moving = claimed
    moving = [np.maximum(part, 0) for part in moving]
    rest = live - gradients - sum(moving)
    for index, part in enumerate(moving):
        given = np.minimum(part, np.maximum(-rest, 0))
        moving[index] = part - given
        rest = rest + given
    return np.stack([gradients, *moving, rest])


def _seconds(
    profile: MemoryProfile, rungs: Sequence[Rung], found: Highest, card: Card, paged_out: bool
) -> Floats:
    """Roofline of one optimizer step: the longest of arithmetic, memory traffic and launches, then the update."""
    layers = profile.layers
    passes = np.array([2 * layers + (-(-layers // rung.every_n) if rung.every_n else 0) for rung in rungs])
    micro = np.maximum(found.flops / card.flops, found.touched_bytes / card.bandwidth_bytes_s)
    alone = profile.reference_passes + profile.beginning_passes
    passes = passes + alone * layers
    launched = card.launch_s * np.array(per_micro_batch(profile, rungs))
    micro = np.maximum(micro, passes * card.layer_s + launched) + card.batch_s
    micro = micro + 2 * found.offloaded_bytes / HOST_LINK_BYTES_S
    moved_s = 3 * (profile.optimizer_bytes + profile.trained_bytes) / card.bandwidth_bytes_s
    update = card.step_s + max(moved_s, card.launch_s * launches_of(profile).step)
    if paged_out:
        update += 2 * profile.optimizer_bytes / HOST_LINK_BYTES_S
    seconds: Floats = micro * np.array([rung.accumulation for rung in rungs]) + update
    return seconds


def _notes(profile: MemoryProfile, paged_out: bool) -> tuple[str, ...]:
    if not paged_out:
        return ()
    return (
        f"the optimizer's {gib(profile.optimizer_bytes)} are paged to the host, this card is too short for them",
    )
