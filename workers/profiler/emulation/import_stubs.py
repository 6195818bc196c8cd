"""Leave out what a trace has no use for of what its libraries import: a third of the modules, a quarter of the time.

For a process that only traces (workers/profiler/__main__.py), while it imports and traces:
- bitsandbytes, which PEFT imports where it is installed, and torch's compiler with it: the trace has a stand-in for
  its layers (workers/profiler/emulation/fake_four_bit.py);
- pandas and datasets, which trl 1.16 (trl/trainer/utils.py) imports for functions that no loss calls;
- tensors spread over several hosts, of which transformers, PEFT and TRL ask only whether a tensor is one;
- torch's compiler, which they import for `disable` and small helpers: those of its modules that are asked for by name
  are the real ones. It stays away for as long as the process lives.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

HIDDEN = ("bitsandbytes",)  # as if not installed: importing it fails, and checks for it say no
# There, with all that is below them, but each name in them is an empty class.
HOLLOW = (
    "pandas",
    "datasets",
    "torch.distributed.tensor",
    "torch.distributed.fsdp",
    "torch.distributed._composable",
)
_COMPILER = "torch._dynamo"


class _Empty:
    """What a hollow module holds is one of these: made of whatever it is given, and good for nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass


class _Hollow(ModuleType):
    """A module that has any name that is asked for. folders: where the real modules below it are."""

    def __init__(self, name: str, folders: Sequence[str] = ()) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__path__ = list(folders)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{self.__name__} is left out of a trace, and has no {name}")
        made = type(name, (_Empty,), {})
        setattr(self, name, made)
        return made


class _Finder(MetaPathFinder, Loader):
    """Makes hollow modules of HOLLOW and of what is below."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        below = any(name == root or name.startswith(f"{root}.") for root in HOLLOW)
        return ModuleSpec(name, self, is_package=True) if below else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Hollow(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """It is made as it stays."""


def _compiler() -> _Hollow:
    """torch._dynamo without its __init__: what is asked to be kept from it stays as it is."""
    torch = importlib.util.find_spec("torch")
    folders = torch.submodule_search_locations if torch else None
    made = _Hollow(_COMPILER, [f"{folder}/_dynamo" for folder in folders or ()])
    vars(made)["disable"] = _as_it_is
    return made


def _as_it_is(function: Any = None, *_: Any, **__: Any) -> Any:
    """torch._dynamo.disable, called with a function or as a decorator with options."""
    return _as_it_is if function is None else function


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import only what a trace needs. What is imported already stays; afterwards real ones can be, except the
    compiler.
    """
    left_out: dict[str, Any] = {name: None for name in HIDDEN if name not in sys.modules}
    if _COMPILER not in sys.modules:
        left_out[_COMPILER] = _compiler()
    sys.modules.update(left_out)
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name, module in list(sys.modules.items()):
            # The compiler's __init__ can't run beside those of its modules that are there already.
            if isinstance(module, _Hollow) and name != _COMPILER:
                _forget(name)
        for name in HIDDEN:
            if sys.modules.get(name, left_out) is None:
                del sys.modules[name]


def _forget(name: str) -> None:
    """Let the real module be imported from here on."""
    hollow = sys.modules.pop(name)
    above, _, last = name.rpartition(".")
    parent = sys.modules.get(above)
    if parent is not None and vars(parent).get(last) is hollow:
        delattr(parent, last)
