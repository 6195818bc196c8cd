"""The environment in front of the double: where it is, and the variables of a process that runs there."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import Unavailable
from workers.cuda_double.cards import read_cards

CHECKOUT = Path(__file__).parents[2]
HOW = "run make cuda-double (2.7 GB of disk, once)"
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Environment:
    """A virtual environment that holds a CUDA build of torch, and the libraries it is to run on."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        return self.folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"

    @property
    def double(self) -> Path:
        return self.folder / "double"

    @property
    def libraries(self) -> Path:
        return self.double / "lib"

    @property
    def headers(self) -> Path:
        return self.folder / "include-cuda"

    def beside(self) -> list[Path]:
        """CUDA libraries of bitsandbytes, which is in the environment below."""
        found = importlib.util.find_spec("bitsandbytes")
        folder = Path(found.origin).parent if found and found.origin else None
        return sorted(folder.glob("libbitsandbytes_cuda13*.so")) if folder else []


def find(folder: Path | None = None) -> Environment:
    """The environment of this checkout, or one that is elsewhere. Raises Unavailable saying how to make it."""
    made = Environment(folder or Path(os.environ.get("TUNEYARD_CUDA_VENV") or CHECKOUT / ".venv-cuda"))
    if not (made.packages / "torch" / "lib" / "libtorch_cuda.so").exists():
        raise Unavailable(f"a CUDA build of torch is not in {made.folder}; {HOW}")
    if not (made.libraries / "built-from").exists():
        raise Unavailable(f"the CUDA double is not built in {made.libraries}; {HOW}")
    return made


def variables(
    environment: Environment,
    cards: str,
    *,
    ledger: Path | None = None,
    trace: Path | None = None,
    faults: str | None = None,
    base: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All environment variables of a process in front of the double.

    cards: such as "rtx4090,a100-80gb:20GiB"; ledger: the file that all processes of one host share, made when it is
    not there, without which each process has the cards to itself; trace: a folder for traces.py to read; faults: what
    sources/faults.c reads, or the absolute path of a file with it; base: variables to begin with, else this process's.

    Raises UsageError for cards that are none; Unavailable where a real driver is, unless CUDA_DOUBLE_FORCE is 1.
    """
    made = dict(os.environ if base is None else base)
    if _DRIVER.exists() and made.get("CUDA_DOUBLE_FORCE") != "1":
        raise Unavailable(
            "an NVIDIA driver is loaded here; set CUDA_DOUBLE_FORCE=1 to use cards that are not there"
        )
    folders = [str(environment.libraries), made.get("LD_LIBRARY_PATH", "")]
    path = [str(environment.python.parent), made.get("PATH", "")]
    given = {"LEDGER": ledger and str(ledger), "TRACE": trace and str(trace), "FAULTS": faults}
    for name in [name for name in made if name.startswith("CUDA_DOUBLE_")]:
        if name.removeprefix("CUDA_DOUBLE_") in given:  # another double's, around this one
            del made[name]
    return {
        **made,
        "CUDA_DOUBLE_CARDS": read_cards(cards),
        **{f"CUDA_DOUBLE_{name}": value for name, value in given.items() if value},
        "LD_LIBRARY_PATH": ":".join(filter(None, folders)),
        "PATH": ":".join(filter(None, path)),
        "TRITON_CACHE_DIR": str(environment.double / "triton"),
        "TRITON_LIBCUDA_PATH": str(environment.libraries),
        "VIRTUAL_ENV": str(environment.folder),
    }


def running() -> bool:
    """Whether this process runs in front of the double."""
    return bool(os.environ.get("CUDA_DOUBLE_CARDS")) and sys.platform == "linux"
