"""An environment made of the CUDA build of torch that this Python has: nothing is fetched, and no GPU is taken."""

from __future__ import annotations

import importlib.util
import os
import shutil
import site
import sys
import tempfile
import venv
from pathlib import Path

from jobs.errors import Unavailable
from workers.cuda_double.environment import CHECKOUT, Environment
from workers.cuda_double.library import build

# What comes with torch's wheel and is found beside it.
_PACKAGES = ("torch", "torchgen", "functorch", "triton")


def torch_of_host() -> Path | None:
    """The folder of this Python's torch, None unless it is a CUDA build."""
    found = importlib.util.find_spec("torch")
    folder = Path(found.origin).parent if found and found.origin else None
    return folder if folder and (folder / "lib" / "libtorch_cuda.so").exists() else None


def environment_of_host(folder: Path, torch: Path) -> Environment:
    """Make, or bring up to date, an environment in a folder of the torch that is in `torch`.

    torch's libraries look for NVIDIA's beside themselves first ($ORIGIN/../../nvidia, their RPATH), before any
    variable is looked at. So they are linked (copied, where the folder is on another disk) to where there are none.
    Raises Unavailable saying what is missing.
    """
    packages = torch.parent
    mark = f"{sys.version_info[:2]} {torch} {(torch / 'version.py').read_text()}"
    made = Environment(folder)
    if not (folder / "made-of").exists() or (folder / "made-of").read_text() != mark:
        headers = next((found for found in _headers(packages) if (found / "cuda.h").exists()), None)
        if headers is None:
            raise Unavailable(
                f"CUDA's headers are not beside {torch}; install the wheel nvidia-cuda-runtime of torch's CUDA"
            )
        _make(made, packages, headers)
        (folder / "made-of").write_text(mark)
    build(made.libraries, made.packages / "torch", made.headers, made.beside())
    return made


def _headers(packages: Path) -> list[Path]:
    """Where CUDA 13's and CUDA 12's wheels have them, and a toolkit."""
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    found = [*packages.glob("nvidia/cu1*/include"), packages / "nvidia" / "cuda_runtime" / "include"]
    return [*found, toolkit / "include"]


def _make(environment: Environment, packages: Path, headers: Path) -> None:
    """All of it aside, then moved: half of it would be taken for the whole."""
    folder = environment.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Environment(Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent)))
    try:
        venv.create(aside.folder, with_pip=False, symlinks=True)
        for name in _PACKAGES:
            for found in [packages / name, *packages.glob(f"{name}-*.dist-info")]:
                if found.exists():
                    shutil.copytree(found, aside.packages / found.name, copy_function=_link)
        shutil.copytree(headers, aside.headers)
        others = dict.fromkeys([str(packages), *site.getsitepackages(), str(CHECKOUT)])
        lines = [f"import site; site.addsitedir({path!r})" for path in others]
        (aside.packages / "tuneyard.pth").write_text(
            "\n".join([*lines, "import workers.cuda_double.hook"]) + "\n"
        )
        shutil.rmtree(folder, ignore_errors=True)
        aside.folder.rename(folder)
    finally:
        shutil.rmtree(aside.folder, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk
        shutil.copy2(source, target)
