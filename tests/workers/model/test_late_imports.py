"""What starts CUDA when it is imported is not imported before a trainer knows its card."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from workers.model.late_imports import load, put_off

ROOT = Path(__file__).parents[3]
# As a host with cards looks to the libraries; and a bitsandbytes that starts CUDA when it is imported, as the real one
# does there when it asks for the card's capability.
STARTS_CUDA = {
    "bitsandbytes/__init__.py": """
        import os
        import torch
        assert torch.cuda.is_available()
        torch.cuda._initialized = True
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        from . import nn
        """,
    "bitsandbytes/nn/__init__.py": """
        import torch
        import bitsandbytes as bnb
        assert bnb.seen
        class Linear8bitLt(torch.nn.Linear): ...
        class Linear4bit(torch.nn.Linear): ...
        """,
    "bitsandbytes/optim.py": "class AdamW8bit: ...",
}
WARM = """
    import os
    import torch
    torch.cuda.is_available = lambda: True
    from workers.trainer.entrypoint import warm
    warm()
    assert not torch.cuda.is_initialized(), "started by an import"
    import accelerate.utils, peft, peft.import_utils, transformers
    assert peft.import_utils.is_bnb_available() and transformers.utils.is_bitsandbytes_available()
    assert accelerate.utils.is_bnb_available() and not torch.cuda.is_initialized()
    os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-7"
    warm()  # as run_rank does
    {use}
    import bitsandbytes
    assert torch.cuda.is_initialized() and bitsandbytes.seen == "GPU-7"
    assert peft.helpers.bnb is bitsandbytes and type(bitsandbytes) is type(os)
    assert peft.import_utils.is_bnb_4bit_available() and bitsandbytes.nn.Linear4bit
    from bitsandbytes.optim import AdamW8bit
    print("all is well")
    """


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


@pytest.mark.parametrize(
    "use",
    [
        "import peft.tuners.lora.bnb",  # a LoRA job
        "from bitsandbytes.optim import AdamW8bit",  # an 8-bit optimizer
    ],
)
def test_warming_up_leaves_cuda_alone(tmp_path: Path, use: str) -> None:
    write(tmp_path, STARTS_CUDA)
    script = textwrap.dedent(WARM).format(use=use)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}:{ROOT}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0 and "all is well" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("host_says", "expected"),
    [
        ({}, ["expandable_segments:True", "expandable_segments:True", ""]),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, ["backend:native", "backend:native", ""]),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, ["backend:native", "", "backend:native"]),
        ({"PYTORCH_CUDA_ALLOC_CONF": ""}, ["", "", ""]),
    ],
)
def test_the_allocator_expands_its_segments_unless_the_host_says_otherwise(
    host_says: dict[str, str], expected: list[str]
) -> None:
    """What torch reads, in a process of its own."""
    script = """
        import os
        from workers.trainer.entrypoint import before_imports
        before_imports()
        import torch
        print(torch._C._accelerator_getAllocatorSettings())
        print(os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""))
        print(os.environ.get("PYTORCH_ALLOC_CONF", ""))
        """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **host_says},
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
    ).stdout
    assert said.split("\n")[:3] == expected


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A library of three modules, unlike any that is installed."""
    name = f"late_{tmp_path.name}".replace("-", "_")
    write(
        tmp_path,
        {
            f"{name}/__init__.py": f"import {name}.part as part\nfrom {name} import other\n__version__ = '2'\nN = 1",
            f"{name}/part.py": f"import {name}\nfrom . import other",
            f"{name}/other.py": "M = 2",
        },
    )
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize(
    "use",
    [
        "import NAME; NAME.N",
        "from NAME import N",
        "from NAME import other",
        "import NAME.other",
        "from NAME.part import other",
        "import importlib; importlib.import_module('NAME.part')",
        "import NAME; NAME.__version__",
        "from NAME import *; N",
        "from workers.model.late_imports import load; load('NAME')",
    ],
)
def test_what_was_put_off_is_the_real_one_once_it_is_used(package: str, use: str) -> None:
    put_off(package)
    early = importlib.import_module(package)
    assert importlib.util.find_spec(package) and "N" not in vars(early)
    assert getattr(early, "__file__", "").endswith("__init__.py") and not hasattr(early, "__wrapped__")
    assert "N" not in vars(early), "nobody has used it"
    exec(use.replace("NAME", package), {})
    assert (early.N, early.part.other.M, early.other.M) == (1, 2, 2)  # type: ignore[attr-defined]
    assert importlib.import_module(package) is early and load(package) is early


def test_what_is_not_there_stays_away_and_what_is_imported_stays() -> None:
    put_off("no_such_library_at_all")
    assert "no_such_library_at_all" not in sys.modules
    put_off("json")
    assert importlib.import_module("json").dumps([]) == "[]"


def test_an_import_that_fails_fails_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"late_and_broken/__init__.py": "raise ImportError('libfoo.so.6 is missing')"})
    monkeypatch.syspath_prepend(tmp_path)
    put_off("late_and_broken")
    broken = importlib.import_module("late_and_broken")
    for _ in range(2):
        with pytest.raises(ImportError, match="libfoo"):
            load("late_and_broken")
    assert "late_and_broken" not in sys.modules and not hasattr(broken, "N")
