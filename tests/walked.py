"""The step of one rung walked through layer after layer: what jobs/memory/peaks.py must come to, written the plain
way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.cards import CardKind
from jobs.errors import ProfileError
from jobs.memory.profile import LOSS as LOSS_SEGMENTS
from jobs.memory.profile import Line, MemoryProfile, Pass, Segment
from jobs.memory.rung import Rung

FORWARD, LOSS, BACKWARD, UPDATE = "forward end", "loss", "backward", "optimizer step"


@dataclass(frozen=True)
class Moment:
    """A high point of the step. live: bytes beside the resting ones; the others are parts of it, by what holds them."""

    phase: str
    live: float
    gradients: float
    activations: float = 0.0
    boundaries: float = 0.0
    loss: float = 0.0


class Walk:
    """One optimizer step at a rung, on sequences of `length` tokens that are all as long.

    A layer brings the segments of its own kind, checkpointed or not, so any mix comes out right. With several
    micro-batches to a step the gradients of the first stay: their bytes are there from the start, and each
    later one is added in place. valid: tokens of a micro-batch that are no padding, of which a card's loss alone knows.
    """

    def __init__(
        self, profile: MemoryProfile, rung: Rung, length: int, kind: CardKind, valid: int | None = None
    ) -> None:
        if min(rung.micro_batch, rung.accumulation, length) < 1 or rung.every_n < 0:
            raise ProfileError(f"no such rung: {rung} at length {length}")
        self.profile, self.rung = profile, rung
        self.tokens = rung.micro_batch * length
        known = valid if valid is not None and kind == "cuda" and not profile.packed else self.tokens
        self.valid = max(1, min(known, self.tokens))
        self.pairs = self.tokens**2 if profile.packed else rung.micro_batch * length**2
        from_length = profile.mask_from_length
        padded = profile.packed or rung.micro_batch > 1 or (from_length is not None and length >= from_length)
        self._off = profile.body(kind, padded, every=False)
        self._every = profile.body(kind, padded, every=True)
        self._loss = profile.loss(kind, self.valid)
        self._worked = profile.loss(kind, 1)
        self._shared = self._every if rung.every_n else self._off

    def checkpointed(self, index: int) -> bool:
        """Whether this layer is; transformers counts layers from 0 (modeling_utils.py, `every_n_layers`)."""
        return bool(self.rung.every_n) and index % self.rung.every_n == 0

    def moments(self) -> Iterator[Moment]:
        """Every high point, in the order of the step."""
        names, whole = self.profile.layer_names, float(self.profile.trained_bytes)
        layers, lowest = len(names), {name: names.index(name) for name in names}
        accumulating = self.rung.accumulation > 1
        gradients = whole if accumulating else 0.0
        yield Moment(FORWARD, gradients + self._peak(self._shared["before"]), gradients)

        held = _Held(self._at(self._shared["before"].delta))
        for index in range(layers):
            segment = self._body(index)[names[index]]
            kept = self._at(segment.delta)
            yield held.moment(FORWARD, gradients, self._peak(segment))
            held.push(kept - self._moved(index), self.checkpointed(index))

        in_loss = 0.0
        for name in LOSS_SEGMENTS:
            segment = self._body(layers - 1)[name]
            mask = self._at(self._shared[name].of_before)
            height = in_loss + self._peak(self._loss[name]) + mask - self._at(self._loss[name].of_before)
            yield held.moment(LOSS, gradients, height, height)
            held.activations += mask
            for index, layer in enumerate(names):
                if (given := self._body(index)[name].of_layers.get(layer)) is not None:
                    held.change(index, self._at(given))
            own = self._at(segment.delta) - self._at(segment.of_before)
            own -= sum(map(self._at, segment.of_layers.values()))
            in_loss += own - segment.gradients
            gradients += 0 if accumulating else segment.gradients

        flowing = in_loss  # what the backward pass hands from layer to layer
        for index in reversed(range(layers)):
            name = names[index]
            segment = self._body(index)[f"{name}_backward"]
            back = self._moved(index)
            yield held.moment(BACKWARD, gradients, flowing + back + self._peak(segment))
            flowing += held.pop() + back + self._at(segment.delta) - segment.gradients
            if index > lowest[name]:  # what `before` took goes once, with the last layer to need it
                flowing -= self._at(segment.of_before)
            gradients += 0 if accumulating else segment.gradients
        yield held.moment(BACKWARD, gradients, flowing + self._peak(self._shared["after"]))
        yield Moment(UPDATE, whole, whole)

    def flops(self) -> float:
        """Floating-point operations of one micro-batch, with what checkpointing computes twice."""
        total = sum(self._at(self._shared[name].flops) for name in ("before", "after"))
        total += sum(self._at(self._worked[name].flops) for name in LOSS_SEGMENTS)
        for index, name in enumerate(self.profile.layer_names):
            total += self._at(self._body(index)[name].flops) + self._at(
                self._body(index)[f"{name}_backward"].flops
            )
        return total

    def touched_bytes(self) -> float:
        """Bytes that one micro-batch writes to memory and reads back: weights and what each layer computes."""
        names = self.profile.layer_names
        weights = self.profile.weight_bytes + self.profile.adapter_bytes
        runs = [1 + self.checkpointed(index) for index in range(len(names))]
        computed = sum(
            max(0.0, self._at(self._off[name].delta)) * often for name, often in zip(names, runs, strict=True)
        )
        return weights * (1 + sum(runs) / len(names)) + 2 * computed

    def offloaded_bytes(self) -> float:
        """Bytes that one micro-batch moves to the host, and back again."""
        return sum(map(self._moved, range(self.profile.layers)))

    def _body(self, index: int) -> Pass:
        return self._every if self.checkpointed(index) else self._off

    def _moved(self, index: int) -> float:
        """Bytes of this layer's input that go to the host: those of a checkpoint that grow with the tokens.

        With adapters the first layer's stays: a frozen embedding's output is a leaf, which autograd holds. In a trace
        the first layer has a name of its own.
        """
        name = self.profile.layer_names[index]
        if name == "first" and self.profile.adapter_bytes:
            return 0.0
        delta = self._every[name].delta
        return max(0.0, delta.token) * self.tokens * (self.rung.offload and self.checkpointed(index))

    def _at(self, line: Line) -> float:
        return line.at(self.tokens, self.pairs, self.valid)

    def _peak(self, segment: Segment) -> float:
        return segment.peak(self.tokens, self.pairs, self.valid)


class _Held:
    """What the forward pass keeps for the backward pass: bytes by layer, and their sums."""

    def __init__(self, before: float) -> None:
        self.activations, self.boundaries = before, 0.0
        self._layers: list[tuple[float, bool]] = []

    def push(self, kept: float, checkpointed: bool) -> None:
        self._layers.append((0.0, checkpointed))
        self.change(len(self._layers) - 1, kept)

    def change(self, index: int, by: float) -> None:
        kept, checkpointed = self._layers[index]
        self._layers[index] = (kept + by, checkpointed)
        if checkpointed:
            self.boundaries += by
        else:
            self.activations += by

    def pop(self) -> float:
        """The last layer's bytes, no longer held."""
        kept = self._layers[-1][0]
        self.change(len(self._layers) - 1, -kept)
        self._layers.pop()
        return kept

    def moment(self, phase: str, gradients: float, rest: float, loss: float = 0.0) -> Moment:
        live = gradients + self.activations + self.boundaries + rest
        return Moment(phase, live, gradients, self.activations, self.boundaries, loss)
