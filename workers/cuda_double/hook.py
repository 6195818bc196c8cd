"""Imported by every Python process of the CUDA environment (tuneyard.pth): answers begin with torch's import."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _AfterTorch:
    """Finds torch as it would be found, and begins to answer once it is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_answer(module: ModuleType) -> None:
            run(module)
            _begin()

        spec.loader.exec_module = run_and_answer  # type: ignore[method-assign]
        return spec


def _begin() -> None:
    from workers.cuda_double import answers

    answers.begin()

    # A mode is a thread's own: other threads enter it with the first function that they run.
    def enter(*_: Any) -> None:
        sys.setprofile(None)
        answers.begin()

    threading.setprofile(enter)


if os.environ.get("CUDA_DOUBLE_CARDS") and os.environ.get("CUDA_DOUBLE_ANSWERS") != "0":
    sys.meta_path.insert(0, _AfterTorch())
