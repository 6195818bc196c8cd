"""Layers that scan their tokens in a loop: how long its steps are, and what each of them takes.

State spaces and linear attention go through the tokens chunk by chunk, or one by one, in Python loops where their CUDA
kernels are missing. What such a loop takes at each step carries no mark of the length, but there are as many steps as
tokens or chunks: so `range`, as the model's own code sees it, says when one runs. The steps at its ends are counted
once each, as they may keep other things than those between them.
"""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from workers.profiler.probe_shapes import END_STEPS, Scan
from workers.profiler.storage_tracker import LiveBytes

MOST_STEPS = 600  # of a loop over the tokens; more would take longer than a trace is given


class LoopsOverTokens(Exception):
    """A layer takes its tokens one by one: it has to be traced at a short length."""


def scan_of(base: PreTrainedModel, one_by_one: bool = False) -> Scan:
    """How the layers of a model scan their tokens. one_by_one: a trace has found that some do so token by token."""
    added = {module.padding[0] for module in base.modules() if isinstance(module, nn.Conv1d)}
    near = tuple(sorted(n for n in added if isinstance(n, int) and n > 0))
    if one_by_one:
        return Scan(1, near)
    bounds = any("segment_sum" in vars(module) for module in _sources(base))
    return Scan(_chunk(base), near, bounds)


def _chunk(base: PreTrainedModel) -> int:
    """Tokens to a chunk, as the config or the default of the function that scans says; 0 where there are none."""
    config = base.config.get_text_config(decoder=True)
    for name in ("mamba_chunk_size", "chunk_size", "block_size"):
        said: Any = getattr(config, name, None)
        if isinstance(said, int) and said > 1:
            return said
    for module in _sources(base):
        for function in vars(module).values():
            if inspect.isfunction(function) and (found := _default(function)) > 1:
                return found
    return 0


def _default(function: Any) -> int:
    """The default of a parameter chunk_size, 0 without one."""
    parameter = inspect.signature(function).parameters.get("chunk_size")
    value = parameter.default if parameter is not None else 0
    return value if isinstance(value, int) else 0


def _sources(base: PreTrainedModel) -> list[ModuleType]:
    """The Python modules that hold the model's code."""
    names = {type(module).__module__ for module in base.modules()}
    return [sys.modules[name] for name in sorted(names) if ".modeling_" in name and name in sys.modules]


class _Steps(Sequence[int]):
    """range(..), which tells `live` while a loop over it runs."""

    def __init__(self, numbers: range, live: LiveBytes, place: int) -> None:
        self._numbers, self._live, self._place = numbers, live, place

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        return self._numbers[index]

    def __iter__(self) -> Iterator[int]:
        between = range(END_STEPS, len(self._numbers) - END_STEPS)
        try:
            for step, number in enumerate(self._numbers):
                self._live.loop = self._place if step in between else None
                yield number
        finally:
            self._live.loop = None


@contextmanager
def followed(base: PreTrainedModel, live: LiveBytes, length: int, scan: Scan) -> Iterator[None]:
    """Let the loops of a model's own code over tokens or chunks be known to `live`.

    Raises LoopsOverTokens, in the loop, for one over more tokens than can be traced. For a process that only traces.
    """

    def counted(*numbers: int) -> Any:
        made = builtins.range(*numbers)
        if scan.chunk != 1 and len(made) == length > MOST_STEPS:
            raise LoopsOverTokens
        place = live.marks.steps(len(made))
        return made if place is None else _Steps(made, live, place)

    sources = _sources(base)
    for module in sources:
        vars(module)["range"] = counted
    try:
        yield
    finally:
        for module in sources:
            vars(module).pop("range", None)
