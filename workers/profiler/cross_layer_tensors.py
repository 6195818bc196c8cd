"""What a checkpointed layer leaves behind until the next has run, counted with the next.

GPT-Neo, GPT-J and others return their attention probabilities from each layer, and the model's loop holds them until
the next layer returns. A layer without checkpointing keeps them for its backward pass anyway; a checkpointed one does
not. Read off a trace as it stands, such a layer frees what another left, so what it takes would depend on how that
other is checkpointed. Here it comes out the same beside either: no layer keeps what it only carries, and each has it
under its peak, which is at most one layer's too much where the layer before is not checkpointed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from jobs.memory.profile import Line, Pass, Segment

Segments = dict[str, Segment]
_NOTHING = Line()


def carried(body: Mapping[str, Segment]) -> Line:
    """What layers of a pass with every layer checkpointed leave for the next one to free; nothing for most models."""
    given = [
        line
        for name, segment in body.items()
        if name.startswith(("layer", "last")) and not name.endswith("_backward")
        for owner, line in segment.of_layers.items()
        if owner != name  # what it took and gave back itself
    ]
    return Line(*(max([0.0, *(-getattr(line, share.name) for line in given)]) for share in fields(Line)))


def in_passes(passes: dict[str, Pass], names: Sequence[str], card_kind: str, mask: str) -> dict[str, Pass]:
    """The two bodies of a card kind and mask, and the loss that was traced with the checkpointed one, set right."""
    off, every, loss = (f"{card_kind}.{mask}.off", f"{card_kind}.{mask}.every", f"{card_kind}.loss.long")
    line = carried(passes[every].segments)
    if line == _NOTHING:
        return passes
    made = dict(passes)
    made[every] = Pass(handed_over(passes[every].segments, names, {*names}, line))
    made[off] = Pass(
        {name: _raised(found, line, name in names[1:]) for name, found in passes[off].segments.items()}
    )
    made[loss] = Pass({name: made[every][name] for name in passes[loss].segments})
    return made


def handed_over(segments: Segments, names: Sequence[str], checkpointed: set[str], line: Line) -> Segments:
    """Segments of one pass, in which what the checkpointed layers leave counts with what comes after each.

    names: of the layers' segments, in order; the loss comes after the last.
    """
    made = dict(segments)
    for earlier, later in zip(names, [*names[1:], "loss"], strict=True):
        if earlier in checkpointed:
            made[earlier] = replace(made[earlier], delta=made[earlier].delta.plus(line, -1))
            raised = _raised(made[later], line, True)
            made[later] = replace(raised, delta=raised.delta.plus(line))
    return made


def _raised(segment: Segment, line: Line, whether: bool) -> Segment:
    return replace(segment, peaks=tuple(peak.plus(line) for peak in segment.peaks)) if whether else segment
