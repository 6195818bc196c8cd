"""A library that is imported once something of it is used: some start CUDA when they are imported.

A warm trainer must not start CUDA before it is given a card, and PEFT imports bitsandbytes wherever it is installed.
Until then a module stands in its place that is there for all who ask whether it is (importlib.util.find_spec, so that
no cached answer is wrong later), and becomes the real one, in place, when an attribute of it is wanted.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType

_LOCK = threading.RLock()
# What Python's import system, or code that walks sys.modules, asks every module for; a module may lack each of them.
_ASKED_OF_ALL = frozenset({"__getattr__", "__warningregistry__", "__wrapped__", "__file__", "__cached__"})


class _Late(ModuleType):
    """A module that has yet to be executed."""

    def __getattr__(self, name: str) -> object:
        if name in _ASKED_OF_ALL:
            raise AttributeError(f"{self.__name__} is not imported yet")
        _execute(self)
        return getattr(self, name)


def put_off(name: str) -> None:
    """Import this top-level library only once something of it is used. Nothing where it is not there, or imported."""
    if name in sys.modules or (spec := importlib.util.find_spec(name)) is None or spec.loader is None:
        return
    module = _Late(name)
    vars(module).update(__spec__=spec, __loader__=spec.loader, __package__=name)
    if spec.origin:
        vars(module)["__file__"] = spec.origin
    sys.modules[name] = module


def load(name: str) -> ModuleType:
    """Import it now, put off or not."""
    module = importlib.import_module(name)
    if isinstance(module, _Late):
        _execute(module)
    return module


def _execute(module: ModuleType) -> None:
    with _LOCK:
        if not isinstance(module, _Late):
            return  # another thread was first
        spec = vars(module)["__spec__"]
        assert isinstance(spec, ModuleSpec)
        assert spec.loader is not None
        module.__class__ = ModuleType  # type: ignore[assignment]  # from here on it is one
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(spec.name, None)  # as a failed import leaves it
            raise
