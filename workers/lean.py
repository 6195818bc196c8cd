"""Leave out what a trace has no use for of what its libraries import: a third of the modules, a quarter of the time.

For a process that only traces (workers/profiling.py), while it imports and traces:
- bitsandbytes, which PEFT imports where it is installed, and torch's compiler with it: the trace has a stand-in for
  its layers (workers/four_bit.py);
- pandas and datasets, which trl 1.16 (trl/trainer/utils.py) imports for functions that no loss calls.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

HIDDEN = ("bitsandbytes",)  # as if not installed: importing it fails, and whoever asks is told no
HOLLOW = ("pandas", "datasets")  # there, but each name in it is an empty class


class _Hollow(ModuleType):
    """A module that has any name that is asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.util.find_spec(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{self.__name__} is left out of a trace, and has no {name}")
        made = type(name, (), {})
        setattr(self, name, made)
        return made


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import only what a trace needs. What is imported already stays; afterwards the real ones can be."""
    left_out: dict[str, Any] = {name: None for name in HIDDEN if name not in sys.modules}
    left_out |= {name: _Hollow(name) for name in HOLLOW if name not in sys.modules}
    sys.modules.update(left_out)
    try:
        yield
    finally:
        for name, module in left_out.items():
            if sys.modules.get(name, module) is module:
                sys.modules.pop(name, None)
