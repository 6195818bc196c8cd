"""Builds the libraries: NVML alone, which takes a C compiler, or all of NVIDIA's for a CUDA build of torch."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from jobs.errors import Unavailable
from workers.cuda_double.cards import table
from workers.cuda_double.imports import Imports, defined, generated, read_imports

SOURCES = Path(__file__).parent / "sources"
NAME = "libcuda-double.so"
# NVML needs none of NVIDIA's headers.
_NVML = ("cards.c", "faults.c", "ledger.c", "nvml.c", "trace.c")
_FLAGS = (
    "-std=gnu11",
    "-O1",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unused-parameter",
)


def build_nvml(folder: Path) -> Path:
    """Compile libnvidia-ml.so.1 alone into a folder; returns the folder, for LD_LIBRARY_PATH. Raises Unavailable."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        catalogue = Path(made) / "catalogue.c"
        catalogue.write_text(table())
        sources = [*(SOURCES / name for name in _NVML), catalogue]
        _compile(
            ["-shared", *_FLAGS, "-I", SOURCES, "-o", folder / "libnvidia-ml.so.1", *sources, "-lpthread"]
        )
    return folder


def build(folder: Path, torch: Path, headers: Path, beside: Iterable[Path] = ()) -> bool:
    """Build everything that this torch asks of NVIDIA into a folder, for LD_LIBRARY_PATH; False: it was there.

    torch: the installed package's folder; headers: CUDA's, with cuda.h; beside: further CUDA libraries, such as
    bitsandbytes'. Raises Unavailable saying what is missing, or which symbols are not known.
    """
    libraries = [*sorted((torch / "lib").glob("*.so*")), *beside]
    if not (torch / "lib" / "libtorch_cuda.so").exists():
        raise Unavailable(
            f"torch in {torch} is no CUDA build; the CUDA double stands in for NVIDIA's libraries only"
        )
    if not (headers / "cuda.h").exists():
        raise Unavailable(f"CUDA's headers are not in {headers}; install the wheel nvidia-cuda-runtime")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / "lock"):
        return _build(folder, libraries, headers)


def _build(folder: Path, libraries: Sequence[Path], headers: Path) -> bool:
    mark = _mark(libraries, headers)
    if (folder / "built-from").exists() and (folder / "built-from").read_text() == mark:
        return False
    imports = read_imports(libraries)
    # Made aside and moved: who runs in front of the old one keeps it.
    made = Path(tempfile.mkdtemp(prefix="building-", dir=folder.parent))
    try:
        made.chmod(0o755)
        _link(made, imports, headers)
        (made / "built-from").write_text(mark)
        if folder.exists():
            folder.rename(made / "old")
        made.rename(folder)
    finally:
        shutil.rmtree(folder / "old", ignore_errors=True)
        shutil.rmtree(made, ignore_errors=True)
    return True


def _mark(libraries: Sequence[Path], headers: Path) -> str:
    """What a build is made from: sources by content, libraries by place, size and time."""
    digest = hashlib.sha256(str(headers).encode())
    for path in sorted(
        [*SOURCES.rglob("*.[ch]"), *Path(__file__).parent.glob("*.py"), Path(table.__code__.co_filename)]
    ):
        digest.update(path.read_bytes())
    digest.update(table().encode())
    for path in libraries:
        facts = path.stat()
        digest.update(f"{path} {facts.st_size} {facts.st_mtime_ns}".encode())
    return digest.hexdigest() + "\n"


def _link(folder: Path, imports: Imports, headers: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as made:
        work = Path(made)
        (work / "catalogue.c").write_text(table())
        objects = []
        for source in [*sorted(SOURCES.glob("*.c")), work / "catalogue.c"]:
            objects.append(work / f"{source.stem}.o")
            _compile(["-c", *_FLAGS, "-I", SOURCES, "-I", headers, "-o", objects[-1], source])
        written = set().union(*(defined(path) for path in objects))
        rest = generated(imports, written, headers)
        (work / "generated.c").write_text(_generated_source(rest))
        (work / "versions.map").write_text(_version_script(imports, written))
        # -Bsymbolic: the double's own calls stay inside it, whatever else is loaded.
        script = f"-Wl,-Bsymbolic,--version-script,{work / 'versions.map'}"
        inputs = [*objects, work / "generated.c"]
        _compile(
            ["-shared", *_FLAGS[:4], "-I", SOURCES, "-o", folder / NAME, *inputs, script, "-ldl", "-lpthread"]
        )
    for library in sorted(imports.libraries):
        (folder / library).symlink_to(NAME)


def _generated_source(names: dict[str, int]) -> str:
    functions = "".join(f"GENERATED({name}, {value})\n" for name, value in sorted(names.items()))
    return (
        '#include "double.h"\n'
        "#define GENERATED(name, value) EXPORT long name(void) { CALLED; return value; }\n" + functions
    )


def _version_script(imports: Imports, written: set[str]) -> str:
    """A version node for each of NVIDIA's libraries: what was linked with them asks for symbols of that version."""
    nodes, done = [], set[str]()
    for version in sorted(name for name in imports.versions if name):
        names = set(imports.versions[version])
        if version.startswith("libcudart.so"):  # also what libraries that are not listed may ask for
            names |= {name for name in written if name.lstrip("_").startswith("cuda") and name[4:5].isupper()}
        names -= done
        done |= names
        nodes.append(f"{version} {{ global: {' '.join(f'{name};' for name in sorted(names))} }};\n")
    return "".join(nodes)


def _compile(arguments: Sequence[str | Path]) -> None:
    compiler = os.environ.get("CC", "cc")
    try:
        done = subprocess.run([compiler, *map(str, arguments)], capture_output=True, text=True)
    except FileNotFoundError:
        raise Unavailable(
            f"the C compiler {compiler} was not found; install one: sudo apt-get install gcc libc6-dev"
        ) from None
    if done.returncode:
        raise Unavailable(f"{compiler} could not build the CUDA double:\n{done.stderr.strip()}")
