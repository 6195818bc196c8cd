"""highest_moments(): the highest moment of each phase of a step, for many rungs at once, in numpy.

The segments of a profile laid end to end: every layer adds what it keeps on the way forward and gives it back on
the way backward, checkpointed or not, so any mix comes out right. tests/walked.py does the same one layer after
the other; here each of the few places that can be highest (jobs/memory/moments/candidates.py) is worked out at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jobs.cards import Traced
from jobs.errors import ProfileError
from jobs.memory.envelope import envelope
from jobs.memory.moments.alone import LOSS_ALONE, added, alone_rows, present, split
from jobs.memory.moments.candidates import places
from jobs.memory.moments.highest import Floats, Highest, Moments
from jobs.memory.profile import LOSS, Line, MemoryProfile, Pass
from jobs.memory.rung import Rung


def highest_moments(
    profile: MemoryProfile,
    rungs: Sequence[Rung],
    lengths: Sequence[int],
    kind: Traced,
    equal_rows: bool = False,
    valid: Sequence[int] | None = None,
) -> Highest:
    """The high points of one optimizer step at each rung, on sequences that are all as long as its length, in tokens.

    valid: most tokens of a micro-batch of each rung that are no padding, None: all of them may be. On CUDA TRL's loss
    works on those alone, on a CPU on every position (trl 1.16, trainer/utils.py, _fused_forward).

    Unless all are so in every batch (equal_rows), several of them come with the attention mask of rows that are not:
    transformers makes none where nothing is padded (masking_utils, _ignore_causal_mask_sdpa).

    With several micro-batches to a step the gradients of the first stay: their bytes are there from the start, and
    each later one is added in place. Offload (transformers' `offload`, torch's save_on_cpu) copies a checkpointed
    layer's input to the host on the compute stream as the layer begins, so the card keeps it no longer than the layer
    runs, and copies it back as the layer's backward begins: no second buffer in flight. What goes into the first layer
    stays where the embedding is frozen: as a leaf that is given a gradient, autograd holds it. Raises ProfileError.
    """
    for rung, length in zip(rungs, lengths, strict=True):
        if rung.micro_batch < 1 or rung.accumulation < 1 or rung.every_n < 0 or length < 1:
            raise ProfileError(f"no such rung: {rung} at length {length}")
    rows = [profile.rows * rung.micro_batch for rung in rungs]
    whole = [count * length for count, length in zip(rows, lengths, strict=True)]
    all_count = valid is None or profile.packed or kind == "cpu"
    known = whole if all_count or valid is None else [profile.rows * most for most in valid]
    shapes = [
        (count, length, max(1, min(most, all_of_them)))
        for count, length, most, all_of_them in zip(rows, lengths, known, whole, strict=True)
    ]
    return _Steps(profile, rungs, _values(profile, shapes, kind, equal_rows), kind).highest()


# Rows of a table. WHOLE: of the whole step, by WAYS. LAYER: by mode (off, every) and layer name. `held_at_loss` and
# `held_after` are what stays of `kept` once the loss, and once its backward, have given some back.
WHOLE = (
    "before",
    "before_peak",
    "loss",
    "loss_mask",
    "loss_gradients",
    "loss_backward",
    "both_masks",
    "both_gradients",
    "entering",
    "after_loss",
    "after_peak",
    "flops",
)
LAYER = (
    "kept",
    "held_at_loss",
    "held_after",
    "moved",
    "peak",
    "back",
    "back_peak",
    "given",
    "gradients",
    "flops",
)
WAYS = ((False, False), (True, False), (True, True))  # any layer checkpointed, the last one checkpointed
NOTHING = Line()


class _Table:
    """The lines of one profile for one kind of body and loss, as columns of numbers."""

    def __init__(self, profile: MemoryProfile, kind: Traced, padded: bool, tokens: int) -> None:
        names = tuple(dict.fromkeys(profile.layer_names))
        bodies = [profile.body(kind, padded, every) for every in (False, True)]
        loss = profile.loss(kind, tokens)
        try:
            # Its arithmetic goes with the tokens, in however many chunks: a trace of several has it as of that many
            # tokens, for chunks of whatever length bear no mark (workers/profiler/probe_shapes.py).
            worked = [profile.loss(kind, 1)[name].flops for name in LOSS]
            whole = [_whole(bodies[shared], bodies[last], loss, worked) for shared, last in WAYS]
            stays = "first" if profile.adapter_bytes else ""
            layers = [
                _layer(body, name, body is bodies[1] and name != stays) for body in bodies for name in names
            ]
            groups = [each[row] for row in WHOLE for each in whole]
            groups += [each[row] for row in LAYER for each in layers]
            for alone in (profile.evaluation(kind), profile.reference(kind)):
                if alone is not None:
                    groups += alone_rows(alone, names, loss)
        except KeyError as error:
            raise ProfileError(f"the memory profile has no segment {error}; trace the model again") from None
        envelopes = [envelope(group) if group else [NOTHING] for group in groups]
        lines = [line for group in envelopes for line in group]
        self._starts = np.cumsum([0, *map(len, envelopes[:-1])])
        self._fixed, self._token, self._pair = (
            np.array([[getattr(line, name)] for line in lines]) for name in ("fixed", "token", "pair")
        )
        self._marked = np.array([index for index, line in enumerate(lines) if line.valid], dtype=np.int64)
        self._valid = np.array([[lines[index].valid] for index in self._marked]).reshape(-1, 1)

    def at(self, tokens: Floats, pairs: Floats, valid: Floats) -> Floats:
        """[row, shape]: the highest line of each row."""
        lines = self._fixed + self._token * tokens + self._pair * pairs
        lines[self._marked] += self._valid * valid  # few: those of the loss
        return np.maximum.reduceat(lines, self._starts, axis=0)


def _whole(shared: Pass, last: Pass, loss: Pass, worked: Sequence[Line]) -> dict[str, Sequence[Line]]:
    """shared: as the model runs when any layer is checkpointed; last: as the layer runs that the loss follows.

    worked: floating-point operations of the loss.
    """
    masks = [shared[name].of_before for name in LOSS]
    # What peaks of the loss's own pass stand on has that pass's mask in it.
    heights = [
        [added(line, mask, _negative(loss[name].of_before)) for line in loss[name].peaks or (NOTHING,)]
        for name, mask in zip(LOSS, masks, strict=True)
    ]
    inside = []  # beside what is held, gradients and masks
    for name in LOSS:
        own = last[name]
        taken = added(own.of_before, Line(own.gradients), *own.of_layers.values())
        inside.append(added(own.delta, _negative(taken)))
    gradients = [Line(last[name].gradients) for name in LOSS]
    flops = [shared["before"].flops, shared["after"].flops, *worked]
    return {
        "before": [shared["before"].delta],
        "before_peak": shared["before"].peaks,
        "loss": heights[0],
        "loss_mask": [masks[0]],
        "loss_gradients": [gradients[0]],
        "loss_backward": [added(line, inside[0]) for line in heights[1]],
        "both_masks": [added(*masks)],
        "both_gradients": [added(*gradients)],
        "entering": [added(*inside)],
        "after_loss": [inside[0]],
        "after_peak": shared["after"].peaks,
        "flops": [added(*flops)],
    }


def _layer(body: Pass, name: str, moves: bool) -> dict[str, Sequence[Line]]:
    """moves: whether offload takes its checkpoint away."""
    forward, backward = body[name], body[f"{name}_backward"]
    changes = [body[loss].of_layers.get(name, NOTHING) for loss in LOSS]
    # A checkpoint holds its layer's input, whose bytes go with the tokens; what else stays (autocast's copies of
    # weights) is not moved.
    moved = Line(token=max(0.0, forward.delta.token)) if moves else NOTHING
    return {
        "kept": [forward.delta],
        "held_at_loss": [added(forward.delta, changes[0])],
        "held_after": [added(forward.delta, *changes)],
        "moved": [moved],
        "peak": forward.peaks,
        "back": [backward.delta],
        "back_peak": backward.peaks,
        "given": [backward.of_before],
        "gradients": [Line(backward.gradients)],
        "flops": [added(forward.flops, backward.flops)],
    }


def _negative(line: Line) -> Line:
    return Line().plus(line, -1)


def _values(
    profile: MemoryProfile, shapes: Sequence[tuple[int, int, int]], kind: Traced, equal_rows: bool
) -> Floats:
    """The rows of each rung: [row, rung]. They depend on its micro-batch's shape alone, which many rungs share.

    shapes: rows, the length of each, and valid tokens.
    """
    from_length = profile.mask_from_length
    chunk = profile.loss_chunk_tokens
    ways: dict[tuple[bool, bool, int], list[tuple[int, int, int]]] = {}
    for size, length, valid in dict.fromkeys(shapes):
        padded = size > 1 and not equal_rows
        masked = profile.packed or padded or (from_length is not None and length >= from_length)
        row = (size * length if profile.packed else length) if profile.chunk_tokens else 0
        ways.setdefault((masked, valid > chunk, row), []).append((size, length, valid))
    columns: list[Floats] = []
    place: dict[tuple[int, int, int], int] = {}
    for (padded, long, row), own in ways.items():
        key = f"{kind}.{padded}.{long}.{row}"
        if (table := profile.derived.get(key)) is None:
            table = profile.derived[key] = _Table(profile.at_length(row), kind, padded, chunk + long)
        sizes, each, known = np.array(own, dtype=np.float64).T
        tokens = sizes * each
        columns.append(table.at(tokens, tokens**2 if profile.packed else tokens * each, known))
        place |= {shape: index for index, shape in enumerate(own, len(place))}
    found = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
    return found.take([place[shape] for shape in shapes], axis=1)


class _Steps:
    """The steps of many rungs. Arrays end in the rungs' axis; [type, ...] ones begin with plain layers."""

    def __init__(self, profile: MemoryProfile, rungs: Sequence[Rung], values: Floats, kind: Traced) -> None:
        self.profile = profile
        self.names = names = len(dict.fromkeys(profile.layer_names))
        self.every = np.arange(len(rungs))
        distinct = {n: index for index, n in enumerate(dict.fromkeys(rung.every_n for rung in rungs))}
        self.places = places(profile.layer_names, tuple(distinct))
        self.way = np.array([distinct[rung.every_n] for rung in rungs])
        last = len(profile.layer_names) - 1
        modes = np.array([WAYS.index((n > 0, n > 0 and last % n == 0)) for n in distinct])[self.way]
        cut = len(WAYS) * len(WHOLE)
        end = cut + 2 * names * len(LAYER)
        by_way = values[:cut].reshape(len(WHOLE), len(WAYS), len(rungs))
        self.whole = dict(zip(WHOLE, by_way[:, modes, self.every], strict=True))
        self.layer = dict(zip(LAYER, values[cut:end].reshape(len(LAYER), 2 * names, len(rungs)), strict=True))
        # What is left is of passes without gradients, each with as many rows.
        self.alone = dict(zip(present(profile, kind), split(values[end:], names), strict=True))
        self.references = profile.reference_passes * np.array([not rung.precompute for rung in rungs])
        self.total = self.places.total[:, self.way]
        self.moved = self.layer["moved"] * np.array([rung.offload for rung in rungs])
        self.fresh = np.array([float(rung.accumulation == 1) for rung in rungs])  # gradients are new bytes
        self.resting = (1 - self.fresh) * profile.trained_bytes

    def highest(self) -> Highest:
        whole, layer, names = self.whole, self.layer, self.names
        forward = self._forward(layer["kept"] - self.moved)
        gradients = self.resting + self.fresh * whole["loss_gradients"]
        first = self._held("kept", whole["before"], self.resting, whole["loss"])
        masked = whole["before"] + whole["loss_mask"]
        second = self._held("held_at_loss", masked, gradients, whole["loss_backward"])
        backward = self._backward()
        reference = self._reference(masked)
        outside = [forward.live, backward.live, first.live - first.loss, second.live - second.loss]
        if reference is not None:
            outside.append(reference.live - reference.loss)
        least = float(self.profile.trained_bytes + self.profile.optimizer_transient_bytes)
        later = second.live > first.live
        runs = self.total[:names] + 2 * self.total[names:]
        return Highest(
            forward=forward,
            loss=Moments(
                *(
                    np.where(later, b, a)
                    for a, b in zip(vars(first).values(), vars(second).values(), strict=True)
                )
            ),
            backward=backward,
            evaluation=self._without_gradients("eval") if "eval" in self.alone else None,
            reference=reference,
            moving=np.maximum(np.array(outside).max(0), least),
            flops=whole["flops"] + (self.total * layer["flops"]).sum(0) + self._worked_alone(),
            touched_bytes=self._touched(runs),
            offloaded_bytes=(self.total * self.moved).sum(0),
        )

    def _forward(self, kept: Floats) -> Moments:
        held = self.places.before[:, :, self.way] * kept[:, None]
        plain, boundaries = held[: self.names].sum(0), held[self.names :].sum(0)
        live = plain + boundaries + self.layer["peak"][self.places.forward[:, self.way], self.every]
        best = live.argmax(0), self.every
        before, peak = self.whole["before"], self.whole["before_peak"]
        within = before + live[best]
        later = within > peak
        return Moments(
            live=self.resting + np.where(later, within, peak),
            gradients=self.resting,
            activations=np.where(later, before + plain[best], 0.0),
            boundaries=np.where(later, boundaries[best], 0.0),
            loss=np.zeros_like(peak),
            plain=np.where(later, plain[best], 0.0),
        )

    def _held(self, what: str, before: Floats, gradients: Floats, height: Floats) -> Moments:
        """A moment at which every layer has run and none has run back. height: what the loss works in."""
        held = self.total * (self.layer[what] - self.moved)
        plain, boundaries = held[: self.names].sum(0), held[self.names :].sum(0)
        activations = before + plain
        live = gradients + activations + boundaries + height
        return Moments(live, gradients, activations, boundaries, height, plain)

    def _backward(self) -> Moments:
        whole, layer, behind = self.whole, self.layer, self.places.behind[:, :, self.way]
        gradients = self.resting + self.fresh * whole["both_gradients"]
        before = whole["before"] + whole["both_masks"]
        entering = self._held("held_after", before, gradients, whole["entering"])
        # Each layer's own bytes go from held to flowing as it runs; only what it changes beyond that counts.
        change = self.moved + layer["back"] - (1 - self.fresh) * layer["gradients"]
        giving, repeated = self.places.giving[:, :, self.way], self.places.repeated
        flowing = (behind * change[:, None]).sum(0) - (giving * layer["given"][repeated][:, None]).sum(0)
        peaks = np.concatenate([self.moved + layer["back_peak"], whole["after_peak"][None]])
        live = flowing + peaks[self.places.backward[:, self.way], self.every]
        best = live.argmax(0), self.every
        run = behind[:, best[0], self.every]
        left = (self.total - run) * (layer["held_after"] - self.moved)
        plain = left[: self.names].sum(0)
        return Moments(
            live=entering.live + live[best],
            gradients=gradients + self.fresh * (run * layer["gradients"]).sum(0),
            activations=before + plain,
            boundaries=left[self.names :].sum(0),
            loss=np.zeros_like(before),
            plain=plain,
        )

    def _reference(self, masked: Floats) -> Moments | None:
        """The highest moment of the reference's forward pass: nothing of the step's own has run back yet."""
        if "reference" not in self.alone:
            return None
        live, loss = self._without_gradients("reference")
        made = self.references > 0
        found = self._held("held_at_loss", masked, self.resting, self.whole["after_loss"] + live * made)
        return replace(found, loss=loss * made)

    def _worked_alone(self) -> Floats:
        """Floating-point operations of the forward passes without gradients. What is worked out before training counts
        for the steps all the same: it runs once over the rows, as they do."""
        if "reference" not in self.alone:
            return np.zeros(len(self.every))
        passes = self.profile.reference_passes + self.profile.beginning_passes
        outside, *layers = self.alone["reference"][-1 - self.names :]
        total = self.total[: self.names] + self.total[self.names :]
        found: Floats = passes * (outside + (total * np.array(layers)).sum(0))
        return found

    def _without_gradients(self, which: str) -> tuple[Floats, Floats]:
        """Live bytes and those of the loss at the highest moment of a forward pass without gradients."""
        before, before_peak, *rows = self.alone[which][: -1 - self.names]
        beyond, trained, growing = rows[-LOSS_ALONE:]
        loss = np.minimum(beyond, trained + growing)
        kept, peaks = np.split(np.array(rows[:-LOSS_ALONE]), 2)
        found = places(self.profile.layer_names, (0,))
        held = (found.before[: self.names] * kept[:, None]).sum(0)
        layers = (before + held + peaks[found.forward[:, 0]]).max(0)
        closing = before + (found.total[: self.names] * kept).sum(0) + loss
        body = np.maximum(before_peak, layers)
        return np.maximum(body, closing), np.where(closing > body, loss, 0.0)

    def _touched(self, runs: Floats) -> Floats:
        """Weights and what each layer computes, once for each time that it runs; packed weights are unpacked first."""
        profile = self.profile
        weights = profile.weight_bytes + profile.adapter_bytes
        if profile.quantised:
            weights += 4 * profile.parameter_count  # bfloat16 written, and read by the product
        computed = runs * np.maximum(self.layer["kept"][: self.names], 0.0)
        touched: Floats = weights * (1 + runs.sum(0) / len(profile.layer_names)) + 2 * computed.sum(0)
        passes = profile.reference_passes + profile.beginning_passes
        once = self.total[: self.names] + self.total[self.names :]
        forward = weights + 2 * (once * np.maximum(self.layer["kept"][: self.names], 0.0)).sum(0)
        whole: Floats = touched + passes * forward
        return whole
