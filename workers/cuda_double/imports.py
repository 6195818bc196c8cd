"""What CUDA libraries import of NVIDIA's, and which of it may do nothing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from jobs.errors import Unavailable


def words(text: str) -> frozenset[str]:
    """The names that a text holds."""
    return frozenset(text.split())


# Libraries whose calls compute, or do something else that nobody waits for: doing nothing is right for what sources/
# leaves out of them. By what their functions' names begin with.
COMPUTING = (
    *("cublas", "cublasLt", "cudnn", "cufft", "curand", "cusolver", "cusparse", "cusparseLt"),
    *("cupti", "cuFile", "nvrtc", "nvshmem", "nvJitLink", "__nvJitLink"),
)
# Those that keep state: each of their functions is written in sources/, or named here.
QUIET = words(
    "__cudaInitModule __cudaRegisterFatBinaryEnd __cudaRegisterVar __cudaUnregisterFatBinary cudaFuncSetAttribute "
    "cudaKernelSetAttributeForDevice cudaMemPoolSetAccess cudaMemPoolSetAttribute cudaMemPoolTrimTo "
    "cudaMemPrefetchAsync cudaMemcpyToSymbol cudaProfilerStart cudaProfilerStop cudaThreadExchangeStreamCaptureMode "
    "cuModuleUnload cuFuncSetAttribute cuFuncSetCacheConfig cuTensorMapEncodeTiled cuDevicePrimaryCtxRelease_v2 "
    "cuProfilerStart cuProfilerStop ncclCommDeregister ncclCommFinalize ncclCommRegister ncclRedOpDestroy"
)
REFUSED = words(
    "cudaGraphAddNode cudaGraphConditionalHandleCreate cudaGraphDebugDotPrint cudaGraphDestroy cudaGraphExecDestroy "
    "cudaGraphGetNodes cudaGraphInstantiateWithFlags cudaGraphLaunch cudaGraphNodeGetDependencies "
    "cudaStreamBeginCapture cudaStreamBeginCaptureToGraph cudaStreamEndCapture cudaStreamUpdateCaptureDependencies "
    "cudaIpcGetMemHandle cudaIpcGetEventHandle cudaIpcOpenMemHandle cudaIpcOpenEventHandle cudaIpcCloseMemHandle "
    "cudaLibraryLoadData cudaLibraryGetKernel cudaLibraryUnload "
    "ncclCommInitAll ncclCommMemStats ncclCommResume ncclCommShrink ncclCommSuspend ncclCommWindowDeregister "
    "ncclCommWindowRegister ncclDevCommCreate ncclDevCommDestroy ncclGetLsaMultimemDevicePointer "
    "ncclGetPeerDevicePointer ncclGroupSimulateEnd ncclPutSignal ncclSignal ncclWaitSignal"
)
NOT_SUPPORTED, NCCL_INTERNAL_ERROR = 801, 3  # cudaErrorNotSupported is also CUDA_ERROR_NOT_SUPPORTED

# Loaded by name when a program runs, so that no library says that it needs them.
BY_NAME = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvJitLink.so.13")
_NVIDIA = re.compile(
    r"lib(cuda|cudart|cublas|cublasLt|cudnn|cufft|cufile|cupti|curand|cusolver|cusparse|cusparseLt|nccl|nvrtc|nvshmem_host"
    r"|nvJitLink|nvidia-ml)\.so"
)
_SYSTEM = re.compile(r"(lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|gomp|util)|ld-linux-x86-64)[-.]")
_SYSTEM_VERSION = re.compile(r"(GLIBC|GLIBCXX|CXXABI|GCC|GOMP|OMP|OACC|LIBC)_?")
_DRIVER_FUNCTION = re.compile(r"CUresult\s+CUDAAPI\s+(cu[A-Z]\w+)\s*\(")
_DRIVER_ALIAS = re.compile(r"#define\s+cu[A-Z]\w+\s+(cu[A-Z]\w+_v\d)\s")


@dataclass
class Imports:
    """versions: symbol version (a library's name, or "") -> symbols; libraries: names that have to be there."""

    versions: dict[str, set[str]] = field(default_factory=dict)
    libraries: set[str] = field(default_factory=set)

    @property
    def symbols(self) -> set[str]:
        return set().union(*self.versions.values())


def read_imports(libraries: Iterable[Path]) -> Imports:
    """What these shared libraries import of NVIDIA's.

    Raises Unavailable naming libraries and symbols that nobody here knows.
    """
    libraries = list(libraries)
    own = {path.name for path in libraries}
    made = Imports(libraries=set(BY_NAME))
    unknown: dict[str, set[str]] = {}
    for path in libraries:
        needed = set(re.findall(r"NEEDED.*\[(.*?)\]", _output("readelf", "-dW", path)))
        nvidia = {name for name in needed if _NVIDIA.match(name)}
        strange = {name for name in needed - nvidia - own if not _SYSTEM.match(name)}
        made.libraries |= nvidia
        for line in _output("nm", "-D", "--undefined-only", "--with-symbol-versions", path).splitlines():
            kind, text = line.split()[-2:]
            name, _, version = text.partition("@")
            version = version.lstrip("@")
            if version == "NVSHMEM" or _NVIDIA.match(version):
                made.versions.setdefault(version, set()).add(name)
            elif version and not _SYSTEM_VERSION.match(version):
                unknown.setdefault(version, set()).add(name)
            elif not version and (_keeps_state(name) or (_computes(name) and nvidia)):
                made.versions.setdefault("", set()).add(name)
            elif not version and kind == "U" and strange and not name.startswith(("_Z", "Py", "_Py")):
                unknown.setdefault(", ".join(sorted(strange)), set()).add(name)
    if unknown:
        raise Unavailable(
            f"the CUDA double does not know {_listed(unknown)}; update workers/cuda_double/imports.py"
        )
    return made


def generated(imports: Imports, written: set[str], headers: Path) -> dict[str, int]:
    """Symbols that sources/ leaves out -> what a call of them returns: 0 where nothing is to be done, else an error.

    written: what sources/ defines. Raises Unavailable naming symbols whose library keeps state and that nobody has
    judged: doing nothing might be a silent wrong figure.
    """
    header = (headers / "cuda.h").read_text()
    driver = set(_DRIVER_FUNCTION.findall(header)) | set(_DRIVER_ALIAS.findall(header))
    made = {name: 0 if name in QUIET else NOT_SUPPORTED for name in driver - written}
    unknown = set()
    for name in sorted(imports.symbols - written):
        if name.startswith("_Z") or name in driver:
            continue
        if name in QUIET or (_computes(name) and not _keeps_state(name)):
            made[name] = 0
        elif name in REFUSED:
            made[name] = NCCL_INTERNAL_ERROR if name.startswith("nccl") else NOT_SUPPORTED
        else:
            unknown.add(name)
    if unknown:
        known = {"libraries that keep state": unknown}
        raise Unavailable(
            f"the CUDA double does not know {_listed(known)}; write them in sources/, or judge them in imports.py"
        )
    return made


def _computes(name: str) -> bool:
    return name.startswith(COMPUTING)


def _keeps_state(name: str) -> bool:
    return re.match(
        r"(__)?cuda[A-Z]|cu[A-Z](?!LA)|nccl|pnccl|nvml", name
    ) is not None and not name.startswith("cuFile")


def _listed(unknown: dict[str, set[str]]) -> str:
    return "; ".join(f"{', '.join(sorted(names))} of {where}" for where, names in sorted(unknown.items()))


def _output(command: str, *arguments: str | Path) -> str:
    try:
        return subprocess.run(
            [command, *map(str, arguments)], capture_output=True, text=True, check=True
        ).stdout
    except FileNotFoundError:
        raise Unavailable(
            f"{command} was not found; install binutils: sudo apt-get install binutils"
        ) from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{arguments[-1]} can't be read: {error.stderr.strip()}") from error


def defined(library: Path) -> set[str]:
    """Names of the functions that an object or shared library defines for others."""
    return {line.split()[-1] for line in _output("nm", "--defined-only", "-g", library).splitlines() if line}
