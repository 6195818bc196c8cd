"""LiveBytes: follows every live storage of a fake-tensor run, as lines in tokens and token pairs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from jobs.memory.allocator.events import Noted, encoded
from jobs.memory.profile import Line, Segment
from workers.profiler.emulation.attention import PRODUCTS, PRODUCTS_BACKWARD
from workers.profiler.probe_shapes import ALL_AT_ONCE, FIXED, PLACES, ROW, Marks, Scan, Shares
from workers.profiler.probe_shapes import BLOCK_BYTES as BLOCK_BYTES

_PLACES = len(PLACES)
_LAST_OF_LOSS = "loss_backward"


class LiveBytes(TorchDispatchMode):
    """Counts live bytes and floating-point operations, split by `mark`.

    rows, length: the shape of the traced micro-batch, from workers/profiler/probe_shapes.py, which says what each
    size depends on. Sizes that depend on the length but not on the rows are counted as if they did (position tables;
    a few KiB, on the safe side). With rows and length 0 every size is fixed, which is right for a shape that is not
    marked. loop: where what is taken without a mark goes in a step of a loop over tokens or chunks
    (workers/profiler/scan_loops.py). passing: operations that make a copy of their first argument for as long as
    they run. notes_events: whether segments say what they allocate and free, in order.
    """

    def __init__(
        self,
        rows: int,
        length: int,
        gradients: Callable[[], int],
        scan: Scan = ALL_AT_ONCE,
        valid: int = 0,
        notes_events: bool = False,
    ) -> None:
        super().__init__()
        self.marks = Marks(rows, length, scan, valid)
        self.loop: int | None = None
        self.passing: frozenset[Any] = frozenset()
        self._gradients = gradients
        self._live = [0] * _PLACES
        self._start = tuple(self._live)
        self._start_gradients = 0
        self._peaks: set[tuple[int, ...]] = set()
        self._flops = [0] * _PLACES
        self._rising = False
        self._owners: list[str] = []  # segments that have ended
        # Bytes freed in this segment, by the number of the one that took them.
        self._returned: dict[int, list[int]] = {}
        self._given_back: dict[str, dict[int, list[int]]] = {}
        self._known: dict[int, weakref.ref[Any]] = {}
        self.segments: dict[str, Segment] = {}
        self._noted: list[Noted] | None = [] if notes_events else None  # of this segment
        self._events: dict[str, list[Noted]] = {}
        self._storages = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else torch wraps each of thousands of calls to keep its compiler out, which no trace starts."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if (count := _flops(packet, args, kwargs or {}, out)) > 0:
            for place, amount in self._shares(count):
                self._flops[place] += amount
        leaves = tuple(out) if isinstance(out, (tuple, list)) else (out,)
        for leaf in leaves[::-1] if packet is _MASK_FIRST else leaves:
            if isinstance(leaf, torch.Tensor):
                self._follow(leaf)
            elif isinstance(leaf, (tuple, list)):
                for tensor in tree_leaves(leaf):
                    if isinstance(tensor, torch.Tensor):
                        self._follow(tensor)
        if packet in self.passing:
            self._pass(args[0].untyped_storage().nbytes())
        return out

    def ignore(self, tensor: torch.Tensor) -> None:
        """Count this tensor's storage elsewhere: weights and buffers are there before the step begins."""
        storage = tensor.untyped_storage()
        self._known[id(storage)] = weakref.ref(storage, partial(self._known.pop, id(storage)))

    def mark(self, name: str) -> None:
        """The segment `name` ends here."""
        self._note_peak()
        self.loop = None  # a layer that is computed again may be left in the middle of one
        gradients = self._gradients()
        grown = gradients - self._start_gradients
        start, line = self._start, self.marks.line
        highest = _undominated({_less(peak, start) for peak in self._peaks})
        self.segments[name] = Segment(
            delta=line(_less(self._live, start)),
            peaks=tuple(line(peak) for peak in highest),
            flops=line(self._flops),
            gradients=grown,
        )
        if self._noted is not None:
            self._events[name], self._noted = self._noted, []
        self._owners.append(name)
        self._given_back[name] = self._returned
        self._returned = {}
        self._start = tuple(self._live)
        self._start_gradients = gradients
        self._peaks, self._flops, self._rising = {self._start}, [0] * _PLACES, False

    def finish(self) -> dict[str, Segment]:
        """All segments, each with what it gives back that `before` and layers took.

        The loss's backward pass also leaves something to layers: gradients that wait for each one's own.
        """
        layers = [
            name for name in self._owners if name.startswith("layer") and not name.endswith("_backward")
        ]
        of_layers = {
            name: {owner: self._returned_to(owner, name) for owner in layers} for name in self.segments
        }
        if _LAST_OF_LOSS in of_layers:
            given = of_layers[_LAST_OF_LOSS]
            for layer in layers:
                later = f"{layer}_backward"
                if later in self.segments:
                    given[layer] = given[layer].plus(self._returned_to(_LAST_OF_LOSS, later), -1)
        events = encoded(self._events, self._as_line)
        return {
            name: replace(
                segment,
                events=events.get(name, ()),
                of_before=self._returned_to("before", name),
                of_layers={owner: line for owner, line in of_layers[name].items() if line != Line()},
            )
            for name, segment in self.segments.items()
        }

    def _as_line(self, shares: Shares) -> Sequence[float]:
        sums = [0] * _PLACES
        for place, amount in shares:
            sums[place] += amount
        return self.marks.line(sums).as_list()

    def _returned_to(self, owner: str, segment: str) -> Line:
        if owner not in self._owners:
            return Line()
        returned = self._given_back[segment].get(self._owners.index(owner))
        return self.marks.line([-amount for amount in returned]) if returned else Line()

    def _shares(self, amount: int) -> Shares:
        found = self.marks.shares(amount)
        if self.loop is not None and all(place in (FIXED, ROW) for place, _ in found):
            return ((self.loop, amount),)
        return found

    def _follow(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._known:
            return
        size = self._shares(storage.nbytes())
        self._storages += 1
        gone = partial(self._freed, key, size, len(self._owners), self._storages)
        self._known[key] = weakref.ref(storage, gone)
        if self._noted is not None:
            self._noted.append(Noted(self._storages, size))
        live = self._live
        for place, amount in size:
            live[place] += amount
        self._rising = True

    def _pass(self, count: int) -> None:
        """Bytes that are live beside what there is now, for a moment."""
        kept = tuple(self._live)
        for place, amount in self._shares(count):
            self._live[place] += amount
        self._note_peak()
        self._live[:] = kept

    def _freed(self, key: int, size: Shares, owner: int, number: int, _: Any) -> None:
        self._known.pop(key, None)
        if self._noted is not None:
            self._noted.append(Noted(number, None))
        if self._rising:
            self._note_peak()
        live = self._live
        returned = self._returned.setdefault(owner, [0] * _PLACES)
        for place, amount in size:
            live[place] -= amount
            returned[place] += amount

    def _note_peak(self) -> None:
        self._peaks.add(tuple(self._live))
        self._rising = False


def _less(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    return tuple(x - y for x, y in zip(a, b, strict=True))


def _undominated(peaks: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The peaks that can be the highest for some shape: those that no other exceeds in every share."""
    kept: list[tuple[int, ...]] = []
    for peak in sorted(peaks, reverse=True):
        if not any(all(k >= p for k, p in zip(other, peak, strict=True)) for other in kept):
            kept.append(peak)
    return kept


_DEVICE = torch.ops.prim.device.default
_MASK_FIRST = (
    torch.ops.aten.native_dropout
)  # allocated before the result (dropout_cuda, ATen/native/cuda/Dropout.cu)
_ATTENTION = (torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, PRODUCTS)
_ATTENTION_BACKWARD = (
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward,
    PRODUCTS_BACKWARD,
)


# Torch's registry lacks the products that add to what is there; TRL's chunked loss makes its gradients of them.
_IN_PLACE = {torch.ops.aten.addmm_: torch.ops.aten.addmm, torch.ops.aten.baddbmm_: torch.ops.aten.baddbmm}


def _flops(packet: Any, args: Any, kwargs: Any, out: Any) -> int:
    if packet in _ATTENTION:
        return int(sdpa_flop_count(args[0].shape, args[1].shape, args[2].shape))
    if packet in _ATTENTION_BACKWARD:
        return int(sdpa_backward_flop_count(args[0].shape, args[1].shape, args[2].shape, args[3].shape))
    formula = flop_registry.get(_IN_PLACE.get(packet, packet))
    return int(formula(*args, **kwargs, out_val=out)) if formula is not None else 0
