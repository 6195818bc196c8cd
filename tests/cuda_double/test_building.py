"""What stops a build is named: the compiler, the wheel, the symbol."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jobs.errors import Unavailable, UsageError
from tests.cuda_double.processes import REPOSITORY
from workers.cuda_double.environment import Environment, find, variables
from workers.cuda_double.imports import generated, read_imports
from workers.cuda_double.library import build, build_nvml


def library(folder: Path, needs: str, version: str, calls: str) -> Path:
    """A shared library that calls a function of another one: of this version, or without any."""
    other, script = folder / needs, folder / "map"
    script.write_text(f"{version} {{ global: {calls}; }};\n" if version else "")
    source, user = folder / "other.c", folder / "user.c"
    source.write_text(f"int {calls}(void) {{ return 0; }}\n")
    user.write_text(f"int {calls}(void); int use(void) {{ return {calls}(); }}\n")
    flags = [f"-Wl,--version-script,{script}"] if version else []
    subprocess.run(
        ["cc", "-shared", "-fPIC", f"-Wl,-soname,{needs}", "-o", other, source, *flags], check=True
    )
    made = folder / "libuser.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", made, user, other], check=True)
    return made


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    (tmp_path / "cuda.h").write_text("CUresult CUDAAPI cuKnown(int a);\n#define cuOld cuOld_v2 \n")
    return tmp_path


def test_a_function_that_nobody_judged_is_named(tmp_path: Path, headers: Path) -> None:
    imports = read_imports([library(tmp_path, "libcudart.so.13", "libcudart.so.13", "cudaGetFuture")])
    assert imports.versions == {"libcudart.so.13": {"cudaGetFuture"}}
    with pytest.raises(Unavailable, match="does not know cudaGetFuture of"):
        generated(imports, set(), headers)
    assert generated(imports, {"cudaGetFuture"}, headers) == {"cuKnown": 801, "cuOld_v2": 801}


def test_a_function_of_a_library_that_computes_may_do_nothing(tmp_path: Path, headers: Path) -> None:
    imports = read_imports([library(tmp_path, "libcublas.so.13", "libcublas.so.13", "cublasFutureGemm")])
    assert generated(imports, set(), headers)["cublasFutureGemm"] == 0


def test_a_library_that_nobody_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"does not know futureCall of libnvfuture\.so\.1"):
        read_imports([library(tmp_path, "libnvfuture.so.1", "", "futureCall")])
    with pytest.raises(Unavailable, match=r"does not know futureCall of FUTURE_1"):
        read_imports([library(tmp_path, "libnvfuture.so.1", "FUTURE_1", "futureCall")])


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = tmp_path / "torch"
    (cpu / "lib").mkdir(parents=True)
    with pytest.raises(Unavailable, match="is no CUDA build"):
        build(tmp_path / "lib", cpu, tmp_path)
    (cpu / "lib" / "libtorch_cuda.so").touch()
    with pytest.raises(Unavailable, match="install the wheel nvidia-cuda-runtime"):
        build(tmp_path / "lib", cpu, tmp_path)
    with pytest.raises(Unavailable, match="run make cuda-double"):
        find(tmp_path)
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(Unavailable, match="the C compiler no-such-compiler was not found; install one"):
        build_nvml(tmp_path / "nvml")
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="readelf was not found"):
        (tmp_path / "cuda.h").touch()
        build(tmp_path / "lib", cpu, tmp_path)


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    packages = Path(torch.__file__).parent
    (tmp_path / "cuda.h").touch()
    fake = tmp_path / "torch"
    (fake / "lib").mkdir(parents=True)
    (fake / "lib" / "libtorch_cuda.so").symlink_to(packages / "lib" / "libtorch_global_deps.so")
    with pytest.raises(Unavailable, match="could not build the CUDA double"):  # these headers say nothing
        build(tmp_path / "made" / "lib", fake, tmp_path)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["lock"]


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    with pytest.raises(UsageError, match="card 'nonsense' is not in the catalogue"):
        variables(environment, "nonsense")

    def command(*given: str) -> subprocess.CompletedProcess[str]:
        run = [sys.executable, "-m", "workers.cuda_double", *given]
        return subprocess.run(
            run, cwd=REPOSITORY, env={"TUNEYARD_CUDA_VENV": str(tmp_path)}, capture_output=True, text=True
        )

    assert command("--", "true").returncode == 1
    assert "run make cuda-double" in command("--", "true").stderr
    assert "no command was given" in command("--cards", "t4").stderr


def test_variables_go_before_what_was_there(tmp_path: Path) -> None:
    base = {
        "LD_LIBRARY_PATH": "/opt/lib",
        "PATH": "/bin",
        "CUDA_DOUBLE_LEDGER": "/other",
        "CUDA_DOUBLE_COPY_MAX": "9",
    }
    made = variables(Environment(tmp_path), "4090", base=base, faults="oom")
    assert made["LD_LIBRARY_PATH"] == f"{tmp_path}/double/lib:/opt/lib"
    assert made["PATH"] == f"{tmp_path}/bin:/bin"
    assert made["CUDA_DOUBLE_CARDS"] == "rtx4090" and made["CUDA_DOUBLE_FAULTS"] == "oom"
    assert "CUDA_DOUBLE_LEDGER" not in made and made["CUDA_DOUBLE_COPY_MAX"] == "9"
