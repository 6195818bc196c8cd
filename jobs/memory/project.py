"""project(profile, rung, ...) -> Projection: peak memory by phase and by named part, in closed form.

The door to it: jobs/memory/peaks.py finds the highest moments of a step, jobs/memory/projector.py makes projections
of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.cards import Card
from jobs.errors import ProfileError
from jobs.memory.profile import MemoryProfile

# So that all of a projection is available from here.
from jobs.memory.projection import DEVIATION as DEVIATION
from jobs.memory.projection import PARTS as PARTS
from jobs.memory.projection import PHASES as PHASES
from jobs.memory.projection import Margin as Margin
from jobs.memory.projection import Projection as Projection
from jobs.memory.projection import prior as prior
from jobs.memory.rung import Rung as Rung


def project(
    profile: MemoryProfile,
    rung: Rung,
    *,
    sequence_length: int,
    world_size: int = 1,
    card: Card,
    confidence: float = 0.95,
    margin: Margin | None = None,
    equal_rows: bool = False,
    valid: int | None = None,
    sample: tuple[int, ...] = (),
) -> Projection:
    """The peak and the time of one optimizer step at this rung on this card. Raises ProfileError.

    sequence_length: tokens per sequence, all of it used (the worst batch); world_size: ranks of data parallelism;
    margin: how far off such projections were, at this confidence; None: the prior. equal_rows: all rows are of one
    length, so that none is padded, and the allocator holds less. valid: most tokens of a micro-batch that are no
    padding (Lengths.fullest_batches), None: all of them may be. sample: lengths of some rows (Lengths.sample), for an
    allocator that is simulated; (): any are as likely.
    """
    (found,) = project_many(
        profile,
        [rung],
        sequence_length=sequence_length,
        world_size=world_size,
        card=card,
        confidence=confidence,
        margin=margin,
        equal_rows=equal_rows,
        valid=None if valid is None else [valid],
        sample=sample,
    )
    return found


def project_many(
    profile: MemoryProfile,
    rungs: Sequence[Rung],
    *,
    sequence_length: int | Sequence[int],
    world_size: int = 1,
    card: Card,
    confidence: float = 0.95,
    margin: Margin | None = None,
    equal_rows: bool = False,
    valid: Sequence[int] | None = None,
    simulate: bool = True,
    sample: tuple[int, ...] = (),
) -> list[Projection]:
    """project() of every rung, in their order and at a fraction of the time: the more at once, the less for each.

    sequence_length: of all, or one for each rung; valid: one for each rung. simulate: run each on a simulated allocator
    where the card has the default one; that takes a tenth of a second for a rung of a large model, once, and without it
    the reserve is by terms, with a wider margin. Raises ProfileError.
    """
    # Here: numpy takes 17 MB and a tenth of a second, which an idle server and a client's verb have no use for.
    from jobs.memory.projector import projections

    # Of a pair it is known how long the longer one is.
    equal_rows = equal_rows and profile.rows == 1
    if world_size < 1:
        raise ProfileError(f"a step needs at least one rank, not {world_size}")
    if not rungs:
        return []
    lengths = [sequence_length] * len(rungs) if isinstance(sequence_length, int) else sequence_length
    if len(lengths) != len(rungs):
        raise ProfileError(f"{len(rungs)} rungs can't have {len(lengths)} sequence lengths")
    if valid is not None and len(valid) != len(rungs):
        raise ProfileError(f"{len(rungs)} rungs can't have {len(valid)} numbers of valid tokens")
    alike = profile.packed or equal_rows
    simulate = simulate and simulates(profile, card)
    margin = margin or prior(card.kind, confidence, card.allocator, alike)
    if card.allocator == "default" and not simulate:
        margin = margin.at_least(prior(card.kind, confidence, card.allocator, alike, rough=True))
    return projections(
        profile,
        rungs,
        lengths=lengths,
        world_size=world_size,
        card=card,
        margin=margin,
        equal_rows=equal_rows,
        valid=valid,
        simulate=simulate,
        sample=sample,
    )


def simulates(profile: MemoryProfile, card: Card) -> bool:
    """Whether the reserve of this card's allocator can be simulated: what moves is known tensor by tensor.

    Of a step with a reference, or with pairs, it is not.
    """
    plain = profile.rows == 1 and not profile.reference_passes
    return plain and card.allocator == "default" and card.traced == "cuda" and bool(profile.tensors)
