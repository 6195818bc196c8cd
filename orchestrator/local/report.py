"""What a rehearsal came to, beside its projection, as one JSON value."""

from __future__ import annotations

from typing import Any

from jobs.memory.projection import error
from orchestrator.local.prepare import Prepared
from orchestrator.whatif.job_figures import projection_shape, rung_shape
from workers.rehearsal.messages import Answer

FIGURES = ("allocated", "reserved", "device")
WHAT_IT_IS = "real allocator, no GPU: memory is real, speed and loss mean nothing"


def rehearsal_shape(prepared: Prepared, answer: Answer) -> dict[str, Any]:
    """The whole answer. figures: bytes rehearsed and projected; error: rehearsed over projected, less one."""
    projection, rung = prepared.projection, prepared.projection.rung
    card = prepared.card
    measured = {name: getattr(answer, f"{name}_bytes") for name in FIGURES}
    figures = {}
    for name, count in measured.items():
        projected = getattr(projection, f"{name}_bytes")
        low, high = projection.intervals[name]
        figures[name] = {
            "bytes": count,
            "projected_bytes": projected,
            "interval": [low, high],
            "error": error(projected, count),
            # What was held when memory ran out is no peak, unless it is above already.
            "within": None if count is None or answer.ending != "fits" else low <= count <= high,
        }
    notes = [note for note in [*prepared.notes, *answer.notes, *projection.notes] if note]
    return {
        "job": prepared.name,
        "what_it_is": WHAT_IT_IS,
        "card": card.name,
        "short": card.short,
        "memory_bytes": card.memory_bytes,
        "usable_bytes": answer.total_bytes,
        "rung": rung_shape(rung),
        "outcome": answer.ending,
        "fits": answer.ending == "fits",
        "planned_to_fit": prepared.fits,
        "steps": answer.steps,
        "longest": answer.longest,
        "expandable": answer.expandable,
        "figures": figures,
        "upper_bytes": projection.upper_bytes,
        "projection": projection_shape(projection, 1.0),
        "message": answer.message,
        "where": answer.where,
        "held": answer.held,
        "notes": notes,
    }
