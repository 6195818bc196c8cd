"""LiveBytes: follows every live storage of a fake-tensor run, as lines in tokens and token pairs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from jobs.profile import Line, Segment

BLOCK_BYTES = 512  # c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize
Size = tuple[int, int, int]

# Safe primes (p and (p - 1) / 2 are both prime) whose successor has a prime factor of 80 or more. A length that is
# one leaves its mark on every size that depends on it, or on its neighbours.
_LENGTHS = (1283, 1307, 1523, 3203, 3623, 3803, 4007, 4547, 5387, 5483)


def marked_length(dimensions: set[int], shortest: int, chunk: int = 1) -> int:
    """A marked length of about `shortest` or more that shares no mark with the model's dimensions.

    chunk: what some layers pad the length to (linear attention, state spaces). The length is then a multiple of it,
    marked by its largest prime factor.
    """
    if chunk > 1:
        for length in _chunked(shortest, chunk):
            if all(n % (length // chunk) for n in dimensions if n):
                return length
    for length in _LENGTHS:
        marks = (length, (length - 1) // 2, _largest_factor(length + 1))
        if length >= shortest and all(n % mark for n in dimensions for mark in marks if n):
            return length
    return _LENGTHS[-1]


def _chunked(shortest: int, chunk: int) -> list[int]:
    """Multiples of chunk by a prime, around `shortest`, the longest first."""
    least, most = int(0.7 * shortest) // chunk, int(1.33 * shortest) // chunk
    primes = [n for n in range(max(3, least), most + 1) if n % 2 and _largest_factor(n) == n]
    return [chunk * n for n in sorted(primes, reverse=True)]


def _largest_factor(number: int) -> int:
    factor = 2
    while factor * factor <= number:
        if number % factor:
            factor += 1
        else:
            number //= factor
    return number


class LiveBytes(TorchDispatchMode):
    """Counts live bytes and floating-point operations, split by `mark`.

    rows, length: the shape of the traced micro-batch; the length comes from marked_length. As its largest prime factor
    divides nothing else, a size that it divides is proportional to the tokens, one that its square
    divides to the token pairs, anything else is fixed: one run gives exact lines instead of three runs and a
    fit. Sizes that depend on the length but not on the rows are counted as if they did (position tables; a
    few KiB, on the safe side). With rows and length 0 every size is fixed, which is right for a shape that is
    not marked.
    """

    def __init__(self, rows: int, length: int, gradients: Callable[[], int]) -> None:
        super().__init__()
        self._rows, self._length, self._gradients = rows, length, gradients
        self._mark = _largest_factor(length) if length else 0
        self._live = [0, 0, 0]
        self._start: Size = (0, 0, 0)
        self._start_gradients = 0
        self._peaks: set[Size] = set()
        self._flops = [0, 0, 0]
        self._rising = False
        self._owners: list[str] = []  # segments that have ended
        self._returned: dict[
            int, list[int]
        ] = {}  # bytes freed in this segment, by the number of the one that took them
        self._given_back: dict[str, dict[int, list[int]]] = {}
        self._known: dict[int, weakref.ref[Any]] = {}
        self.segments: dict[str, Segment] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if (count := _flops(packet, args, kwargs or {}, out)) > 0:
            for index, amount in enumerate(self._sorted(count)):
                self._flops[index] += amount
        for leaf in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(leaf, torch.Tensor):
                self._follow(leaf)
            elif isinstance(leaf, (tuple, list)):
                for tensor in tree_leaves(leaf):
                    if isinstance(tensor, torch.Tensor):
                        self._follow(tensor)
        return out

    def ignore(self, tensor: torch.Tensor) -> None:
        """Count this tensor's storage elsewhere: weights and buffers are there before the step begins."""
        storage = tensor.untyped_storage()
        self._known[id(storage)] = weakref.ref(storage, partial(self._known.pop, id(storage)))

    def mark(self, name: str) -> None:
        """The segment `name` ends here."""
        self._note_peak()
        rows, length = self._rows, self._length
        gradients = self._gradients()
        grown = gradients - self._start_gradients
        start = self._start
        delta = (self._live[0] - start[0], self._live[1] - start[1], self._live[2] - start[2])
        highest = _undominated({(p[0] - start[0], p[1] - start[1], p[2] - start[2]) for p in self._peaks})
        self.segments[name] = Segment(
            delta=_line(delta, rows, length),
            peaks=tuple(_line(peak, rows, length) for peak in highest),
            flops=_line((self._flops[0], self._flops[1], self._flops[2]), rows, length),
            gradients=grown,
        )
        self._owners.append(name)
        self._given_back[name] = self._returned
        self._returned = {}
        self._start = (self._live[0], self._live[1], self._live[2])
        self._start_gradients = gradients
        self._peaks, self._flops, self._rising = {self._start}, [0, 0, 0], False

    def finish(self) -> dict[str, Segment]:
        """All segments, each with what it gives back that `before` and layers took."""
        return {
            name: replace(
                segment,
                of_before=self._returned_to("before", name),
                of_layers={
                    owner: found
                    for owner in self._owners
                    if owner.startswith("layer")
                    and not owner.endswith("_backward")
                    and (found := self._returned_to(owner, name)) != Line()
                },
            )
            for name, segment in self.segments.items()
        }

    def _returned_to(self, owner: str, segment: str) -> Line:
        if owner not in self._owners:
            return Line()
        fixed, token, pair = self._given_back[segment].get(self._owners.index(owner), (0, 0, 0))
        return _line((-fixed, -token, -pair), self._rows, self._length)

    def _follow(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._known:
            return
        size = self._sorted(storage.nbytes())
        self._known[key] = weakref.ref(storage, partial(self._freed, key, size, len(self._owners)))
        live = self._live
        live[0] += size[0]
        live[1] += size[1]
        live[2] += size[2]
        self._rising = True

    def _freed(self, key: int, size: Size, owner: int, _: Any) -> None:
        self._known.pop(key, None)
        if self._rising:
            self._note_peak()
        live = self._live
        returned = self._returned.setdefault(owner, [0, 0, 0])
        for index in range(3):
            live[index] -= size[index]
            returned[index] += size[index]

    def _note_peak(self) -> None:
        self._peaks.add((self._live[0], self._live[1], self._live[2]))
        self._rising = False

    def _sorted(self, amount: int) -> Size:
        """amount as (fixed, token share, pair share), the shares scaled to the full length and all rows."""
        length, rows, mark = self._length, self._rows, self._mark
        if not length:
            return (-(-amount // BLOCK_BYTES) * BLOCK_BYTES, 0, 0)
        full, degree = amount, 0
        for _ in range(2):
            if full and full % (mark ** (degree + 1)) == 0:
                degree += 1
        if degree == 1 and length == mark and full % (length * (length + 1)) == 0:
            full, degree = full // (length + 1) * length, 2  # scores with a sink beside them (gpt-oss)
        if degree == 0 and full and full % (length - 1) == 0:
            full, degree = (
                full // (length - 1) * length,
                1,
            )  # labels and hidden states without the last position
        if degree == 0:
            return (-(-amount // BLOCK_BYTES) * BLOCK_BYTES, 0, 0)
        if full % rows:
            full *= rows
        return (0, full, 0) if degree == 1 else (0, 0, full)


def _line(size: Size, rows: int, length: int) -> Line:
    if not length:
        return Line(size[0])
    return Line(size[0], size[1] / (rows * length), size[2] / (rows * length * length))


def _undominated(peaks: set[Size]) -> list[Size]:
    """The peaks that can be the highest for some shape: those that no other exceeds in all three shares."""
    kept: list[Size] = []
    for peak in sorted(peaks, reverse=True):
        if not any(k[0] >= peak[0] and k[1] >= peak[1] and k[2] >= peak[2] for k in kept):
            kept.append(peak)
    return kept


_DEVICE = torch.ops.prim.device.default
_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _flops(packet: Any, args: Any, kwargs: Any, out: Any) -> int:
    if packet is _ATTENTION:
        return int(sdpa_flop_count(args[0].shape, args[1].shape, args[2].shape))
    if packet is _ATTENTION_BACKWARD:
        return int(sdpa_backward_flop_count(args[0].shape, args[1].shape, args[2].shape, args[3].shape))
    formula = flop_registry.get(packet)
    return int(formula(*args, **kwargs, out_val=out)) if formula is not None else 0
