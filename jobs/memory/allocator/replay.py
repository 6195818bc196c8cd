"""replayed(): a job's first steps on a simulated allocator, from what was traced -> bytes that it reserves.

Loading, then steps with their micro-batches, layer by layer as the rung has them, the optimizer's state after the
first, in a pool of its own (workers/trainer/state_apart.py). Where rows have all lengths, the longest comes first
(workers/trainer/longest_first.py), and those of the others are drawn from the data's own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from jobs.cards import Card
from jobs.memory.allocator.caching_allocator import Block, CachingAllocator
from jobs.memory.allocator.events import ABOVE, HOME, LOSS, NEXT, NOBODY, OTHERS, OWN
from jobs.memory.allocator.terms import THREADS, Bytes
from jobs.memory.profile import Event, MemoryProfile, Pass, Resting
from jobs.memory.rung import Rung

ALIKE_STEPS, VARIED_STEPS = 2, 5
MOST_ACCUMULATED = 2  # micro-batches to a step: the first has no gradients yet, all others are alike
AGAIN = 3  # the step in which a longest row comes once more: state and fragments are there by then
SHORTEST_SHARE = 1 / 16  # of the longest row
INPUT_BYTES, INPUTS = 8, 3  # of a token; ids, labels, mask
PAD_TO = 16  # of an attention mask's rows
STATE = "state"
BUCKET_BYTES = 25 * 2**20  # DDP's, as torch has them
BLOCK_WEIGHTS, NESTED_WEIGHTS = 64, 64 * 256  # of 4-bit weights, to a statistic, and to one of those
BFLOAT16, FLOAT32 = 2, 4  # bytes
SEED = 12

Operation = tuple[
    int, int
]  # a kind and bytes (0: nothing is taken), or -1 - kind and a place among those of its kind
Steps = list[list[list[int]]]  # by step and micro-batch


class Replayed(NamedTuple):
    """Most bytes: reserved; allocated; asked for, which leaves out what blocks are larger than it."""

    reserved: int
    allocated: int
    asked: int


def replayed(
    profile: MemoryProfile,
    rung: Rung,
    length: int,
    *,
    equal_rows: bool,
    workspace_bytes: int,
    ranks: int = 1,
    sample: tuple[int, ...] = (),
) -> Replayed:
    """What the default allocator comes to at this rung, on rows of this length or of lengths up to it.

    workspace_bytes: of cuBLAS, which two threads take before all else; sample: lengths of some rows of the data
    (Lengths.sample). Raises ProfileError.
    """
    known: dict[Any, Replayed] = profile.derived.setdefault("replayed", {})
    key = rung, length, equal_rows, workspace_bytes, ranks, sample
    if key not in known:
        batches = drawn(rung, length, equal_rows, profile.packed, sample)
        known[key] = of_batches(profile, rung, batches, workspace_bytes, ranks)
    return known[key]


def simulated(
    profile: MemoryProfile,
    rungs: Sequence[Rung],
    lengths: Sequence[int],
    card: Card,
    equal_rows: bool,
    ranks: int = 1,
    sample: tuple[int, ...] = (),
) -> tuple[Bytes, Bytes]:
    """Bytes beside live ones at each rung, as terms.held() has them: within what counts as allocated, and beyond."""
    workspace = card.workspace_bytes
    found = [
        replayed(
            profile,
            rung,
            length,
            equal_rows=equal_rows,
            workspace_bytes=workspace,
            ranks=ranks,
            sample=sample,
        )
        for rung, length in zip(rungs, lengths, strict=True)
    ]
    within = [THREADS * workspace + one.allocated - one.asked for one in found]
    beyond = [one.reserved - one.allocated for one in found]
    return np.array(within, dtype=np.int64), np.array(beyond, dtype=np.int64)


def of_batches(
    profile: MemoryProfile, rung: Rung, steps: Steps, workspace_bytes: int, ranks: int = 1
) -> Replayed:
    """The same of rows of just these lengths."""
    process = _Process(profile, rung)
    process.load(workspace_bytes, ranks)
    for step, batches in enumerate(steps):
        for index, lengths in enumerate(batches):
            process.micro_batch(lengths, index > 0)
        process.update(step == 0)
    made = process.allocator
    return Replayed(made.most_reserved, made.most_allocated, made.most_asked)


def drawn(rung: Rung, length: int, alike: bool, packed: bool = False, sample: Sequence[int] = ()) -> Steps:
    """Lengths of rows as they may come. sample: of some rows, each to come once before one comes again; without it all
    lengths are as likely.
    """
    each = min(rung.accumulation, MOST_ACCUMULATED)
    size = rung.micro_batch
    if packed:
        return [[[length * size]] * each] * ALIKE_STEPS  # end to end, as one row
    if alike:
        return [[[length] * size] * each] * ALIKE_STEPS
    rows = _shuffled(length, sample) if sample else _likely(length)
    made = [[list(islice(rows, size)) for _ in range(each)] for _ in range(VARIED_STEPS)]
    made[0][0][0] = made[AGAIN][-1][0] = length
    return made


def _shuffled(length: int, sample: Sequence[int]) -> Iterator[int]:
    """Rows of a sample, none longer than this, in one random order after another."""
    chance, order = random.Random(SEED), [min(length, one) for one in sample]
    while True:
        chance.shuffle(order)
        yield from order


def _likely(length: int) -> Iterator[int]:
    """Rows of lengths from SHORTEST_SHARE of the longest up to it."""
    chance, shortest = random.Random(SEED), max(1, round(length * SHORTEST_SHARE))
    while True:
        yield chance.randint(shortest, length)


class _Held:
    """Blocks of one segment's run that outlive it, by kind; None where one was freed.

    away: bytes of the first of kind ABOVE, while it is on the host.
    """

    def __init__(self) -> None:
        self.of: list[list[Block | None]] = [[] for _ in range(OTHERS + 1)]
        self.away = 0


class _Process:
    """What one process allocates and frees, with the layers as its rung has them."""

    def __init__(self, profile: MemoryProfile, rung: Rung) -> None:
        self.profile, self.rung = profile, rung
        self.allocator = CachingAllocator()
        names = profile.layer_names
        self._modes = [rung.every_n > 0 and index % rung.every_n == 0 for index in range(len(names))]
        self._gradients: list[Block] = []
        self._accumulates = False
        self._layers: list[_Held] = []
        self._at_loss: list[_Held] = []
        self._compiled: dict[Any, list[Operation]] = {}

    def load(self, workspace_bytes: int, ranks: int) -> None:
        take, give = self.allocator.allocate, self.allocator.release
        first = take(1)  # cuBLAS's own come at a first product
        for _ in range(THREADS):
            take(workspace_bytes)
        give(first)
        for one in self._resting():
            if not one.packed_weights:
                take(one.size)
                continue
            whole = take(BFLOAT16 * one.packed_weights)
            take(one.size)
            statistics = take(FLOAT32 * (one.packed_weights // BLOCK_WEIGHTS))
            take(one.packed_weights // BLOCK_WEIGHTS)
            take(FLOAT32 * (one.packed_weights // NESTED_WEIGHTS))
            give(statistics)
            give(whole)
        if ranks > 1:
            for _ in range(-(-self.profile.trained_bytes // BUCKET_BYTES)):
                take(min(BUCKET_BYTES, self.profile.trained_bytes))

    def micro_batch(self, lengths: Sequence[int], accumulates: bool) -> None:
        """One forward and backward pass. accumulates: gradients are there, those that it makes are freed at once."""
        profile, self._accumulates = self.profile, accumulates
        longest, offloads = max(lengths), self.rung.offload
        padded = len(set(lengths)) > 1
        from_length = profile.mask_from_length
        masked = profile.packed or padded or (from_length is not None and longest >= from_length)
        learned = sum(lengths)
        shape = _Shape(len(lengths), longest, learned, masked)
        inputs = [self.allocator.allocate(INPUT_BYTES * shape.tokens) for _ in range(INPUTS)]
        none, names = _Held(), profile.layer_names
        shared = _Body(profile.body("cuda", masked, self.rung.every_n > 0), self.rung.every_n > 0)
        bodies = [_Body(profile.body("cuda", masked, every), every) for every in (False, True)]
        loss = _Body(profile.loss("cuda", learned), None)
        bottom = last = self._run(shared, "before", shape, none, none, none)
        self._layers = []
        modes = self._modes
        for index, name in enumerate(names):
            below = last
            last = self._run(bodies[modes[index]], name, shape, last, none, none)
            if modes[index] != modes[min(index + 1, len(names) - 1)]:
                # A checkpointed layer keeps its input until its backward, another until it has run.
                of = last.of
                of[NEXT], of[ABOVE] = of[ABOVE], of[NEXT]
            # A frozen embedding's output stays: as a leaf that is given a gradient, autograd holds it.
            if offloads and modes[index] and (index or not profile.adapter_bytes):
                self._move_away(below)
            self._layers.append(last)
        self._at_loss = [bottom, *self._layers]
        top = self._run(loss, "loss", shape, last, none, none)
        behind = [self._run(loss, "loss_backward", shape, top, top, self._layers[-1])]
        self._let_go(top)
        for index in reversed(range(len(names))):
            own, below = self._layers[index], self._layers[index - 1] if index else bottom
            self._bring_back(below)
            body = bodies[modes[index]]
            behind.append(self._run(body, f"{names[index]}_backward", shape, behind[-1], own, below))
            self._let_go(own)
        behind.append(self._run(shared, "after", shape, behind[-1], bottom, none))
        for held in (bottom, *behind):
            self._let_go(held)
        for block in inputs:
            self.allocator.release(block)

    def update(self, first: bool) -> None:
        """The optimizer's: the first makes its state, and all gradients go. A paged one's is none of torch's memory."""
        if first and not self.profile.paged_optimizer:
            self.allocator.use(STATE)
            for one in self._resting():
                for count in one.state:
                    self.allocator.allocate(count)
            self.allocator.use("")
        for block in self._gradients:
            self.allocator.release(block)
        self._gradients = []

    def _resting(self) -> Iterator[Resting]:
        for name in ("before", *self.profile.layer_names, "after"):
            yield from self.profile.tensors.get(name, ())

    def _run(self, body: _Body, name: str, shape: _Shape, before: _Held, own: _Held, below: _Held) -> _Held:
        """One segment, after the one that left `before`. own: of the layer's forward pass; below: of the one below."""
        made = _Held()
        sources = {
            -1 - HOME: made.of[HOME],
            -1 - NEXT: before.of[NEXT],
            -1 - OWN: own.of[OWN],
            -1 - ABOVE: below.of[ABOVE],
        }
        take, give = self.allocator.allocate, self.allocator.release
        added: Block | None = None
        operations = self._operations(body, name, shape)
        if name == "loss" and (-1 - LOSS, 0) not in operations:
            self._give_at_loss()
        for kind, number in operations:
            if kind >= 0:
                if added is not None:
                    give(added)
                    added = None
                block = take(number) if number else None
                if kind != NOBODY or block is None:
                    made.of[kind].append(block)
                elif self._accumulates:
                    added = block
                else:
                    self._gradients.append(block)
            elif kind == -1 - LOSS:
                self._give_at_loss()
            else:
                source = sources[kind]
                if number < len(source) and (there := source[number]) is not None:
                    source[number] = None
                    give(there)
        if added is not None:
            give(added)
        self._give_all(made.of[HOME])
        self._give_all(before.of[NEXT])
        return made

    def _give_at_loss(self) -> None:
        for held in self._at_loss:
            self._give_all(held.of[LOSS])

    def _operations(self, body: _Body, name: str, shape: _Shape) -> list[Operation]:
        key = body.every, name, shape
        if key not in self._compiled:
            found = body.segments.segments.get(name)
            events = found.events if found is not None else ()
            self._compiled[key] = _operations(events, shape, self.profile.chunk_tokens)
        return self._compiled[key]

    def _move_away(self, held: _Held) -> None:
        """What a checkpointed layer began with, the first that waits for its backward, goes to the host as it ends."""
        blocks = held.of[ABOVE]
        if blocks and (block := blocks[0]) is not None:
            held.away = block.asked
            self.allocator.release(block)
            blocks[0] = None

    def _bring_back(self, held: _Held) -> None:
        if held.away:
            held.of[ABOVE][0] = self.allocator.allocate(held.away)
            held.away = 0

    def _give_all(self, blocks: list[Block | None]) -> None:
        for block in blocks:
            if block is not None:
                self.allocator.release(block)
        blocks.clear()

    def _let_go(self, held: _Held) -> None:
        for blocks in held.of:
            self._give_all(blocks)


class _Shape(NamedTuple):
    """Of a micro-batch. learned: tokens that are in the loss, where no padding is."""

    rows: int
    longest: int
    learned: int
    masked: bool

    @property
    def tokens(self) -> int:
        return self.rows * self.longest


class _Body(NamedTuple):
    """every: whether all its layers are checkpointed; None: it is the loss's."""

    segments: Pass
    every: bool | None


def _operations(events: Sequence[Event], shape: _Shape, chunk_tokens: int) -> list[Operation]:
    """Events in bytes."""
    chunks = -(-shape.longest // chunk_tokens) if chunk_tokens else 0
    scanned = (shape.rows, shape.rows * chunks, shape.rows * chunks**2)
    units = (1, shape.tokens, shape.tokens * shape.longest, *scanned, shape.learned)  # as Line has them
    made: list[Operation] = []
    for index, (kind, *values) in enumerate(events):
        if kind < 0:
            made.append((int(kind), int(values[0])))
            continue
        count = max(1, round(sum(value * unit for value, unit in zip(values, units, strict=False))))
        if shape.longest % PAD_TO == 0 and _filled_up(events, index):
            count = 0
        made.append((int(kind), count))
    return made


def _filled_up(events: Sequence[Event], index: int) -> bool:
    """Whether this is a mask that is copied only to fill up its rows (workers/profiler/emulation/attention.py)."""
    if index + 2 >= len(events):
        return False
    mask, copy, freed = events[index : index + 3]
    squares = len(mask) > 3 and mask[3] > 0 and not mask[1] and not mask[2]
    return squares and mask[0] == HOME and copy[1:] == mask[1:] and copy[0] >= 0 and freed[0] == -1 - HOME
