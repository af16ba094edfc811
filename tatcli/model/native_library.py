"""The fused CPU kernels: compiled once for this machine by the C++ compiler it has, and loaded through ctypes.

Where there is no compiler, or no OpenMP, the network runs on PyTorch's operations instead; :func:`native_library` is
then None and :func:`why_not_native` says why. ``TAT_NATIVE=0`` switches the kernels off, ``TAT_AMX=0`` the matrix unit
that Intel's server processors have.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from tatcli.processor import processor_field

__all__ = ["BlockArguments", "CellArguments", "cache_folder", "native_library", "why_not_native"]

SWITCH: Final = "TAT_NATIVE"
AMX_SWITCH: Final = "TAT_AMX"
SOURCES: Final = Path(__file__).with_name("native")
FLAGS: Final = ("-O3", "-march=native", "-std=c++17", "-ffp-contract=fast", "-fPIC", "-fopenmp", "-w")
COMPILERS: Final = ("c++", "g++", "clang++")
TIMEOUT: Final = 300


class BlockArguments(ctypes.Structure):
    """Mirrors the structure of the same name in ``native/arguments.h``."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("samples", "rows", "columns", "dim")),
        *((name, ctypes.c_long) for name in ("groups", "group", "blocks", "valid")),
        *((name, ctypes.c_long) for name in ("per_sample", "bf16", "threads")),
        *((name, ctypes.c_void_p) for name in ("x", "gamma", "beta", "kernels", "forward", "backward")),
    ]


class CellArguments(ctypes.Structure):
    """Mirrors the structure of the same name in ``native/attention.h``."""

    _fields_ = [
        ("row_count", ctypes.c_long),
        ("column_count", ctypes.c_long),
        ("rows", ctypes.POINTER(ctypes.c_long)),
        ("columns", ctypes.POINTER(ctypes.c_long)),
    ]


class _CannotBuildError(Exception):
    """Why there are no kernels, in words."""


def native_library() -> ctypes.CDLL | None:
    """The kernels, built on first use; None where they can't be had or are switched off."""
    return _library()[0]


def why_not_native() -> str:
    """Why there are no kernels; empty where there are."""
    return _library()[1]


@lru_cache(maxsize=1)
def _library() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get(SWITCH, "1") == "0":
        return None, f"switched off by {SWITCH}=0"
    try:
        library = _loaded()
    except _CannotBuildError as error:
        return None, str(error)
    except OSError as error:
        return None, f"can't be looked for: {error}"
    except RuntimeError:  # of pathlib, for a user number that nobody has
        return None, "no folder to keep them in; set HOME or XDG_CACHE_HOME"
    library.tat_has_bf16.restype = ctypes.c_long
    library.tat_vector_length.restype = ctypes.c_long
    library.tat_use_amx.restype = ctypes.c_long
    library.tat_use_amx(ctypes.c_long(os.environ.get(AMX_SWITCH, "1") != "0"))
    return library, ""


def _loaded() -> ctypes.CDLL:
    """By the first compiler whose library loads: Clang's calls LLVM's OpenMP, which PyTorch's wheels don't bring."""
    if platform.system() != "Linux":
        # macOS: its own compiler has no OpenMP (and asks to be installed), another's would be a second one beside
        # PyTorch's, whose runtime ends the process then.
        msg = f"not built on {platform.system()}"
        raise _CannotBuildError(msg)
    folder = cache_folder()
    if folder.is_dir():
        _make_private(folder)
    reasons: list[str] = []
    for compiler in _compilers():
        try:
            return ctypes.CDLL(str(_built(compiler, folder)))
        except _CannotBuildError as error:
            reasons.append(str(error))
        except OSError as error:
            reasons.append(f"can't be loaded: {error}")
    raise _CannotBuildError((reasons or [f"no C++ compiler ({', '.join(COMPILERS)}) found"])[0])


def _compilers() -> list[str]:
    """All that there are, $CXX first; each once, whatever names it has."""
    known: dict[str, str] = {}
    for path in map(shutil.which, filter(None, (os.environ.get("CXX"), *COMPILERS))):
        if path is not None:
            known.setdefault(os.path.realpath(path), path)
    return list(known.values())


def _built(compiler: str, folder: Path) -> Path:
    """The library's file, from the cache or compiled into it."""
    openmp = _openmp_of_torch()
    path = folder / f"kernels-{_fingerprint(compiler, openmp)}.so"
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            unit, made = Path(temporary, "library.o"), Path(temporary, "library.so")
            _run([compiler, *FLAGS, "-c", str(SOURCES / "library.cpp"), "-o", str(unit)])
            # PyTorch's own OpenMP runtime, so that both share one pool of threads instead of fighting for the cores.
            runtime = [str(openmp)] if openmp else ["-fopenmp"]
            _run([compiler, "-shared", str(unit), *runtime, "-o", str(made)])
            with made.open("rb") as stream:
                os.fsync(stream.fileno())  # half a library, as a crash may leave, ends the process that loads it
            made.replace(path)
    except OSError as error:
        msg = f"can't be compiled in {folder}: {error.strerror}"
        raise _CannotBuildError(msg) from error
    return path


def _make_private(folder: Path) -> None:
    """Code is loaded from no folder that others may put it into, as ``~/.cache/tat`` is where HOME is ``/tmp``.

    A folder of this user's that others could write to (made under umask 002, or unpacked from a cache of builds) is
    closed to them, and what they may have put there is built anew.
    """
    if folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o022:
        folder.chmod(0o700)
        for library in folder.glob("kernels-*.so"):
            library.unlink(missing_ok=True)
    found = folder.stat()
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o022:
        msg = f"{folder}: expected a folder that only this user may write to, got another's or a shared one"
        raise _CannotBuildError(msg + "; set XDG_CACHE_HOME to another")


def _openmp_of_torch() -> Path | None:
    """PyTorch's own OpenMP runtime: in its library folder, or beside the package (wheels for Arm)."""
    package = Path(torch.__file__).parent
    found = [*sorted(package.glob("lib/libgomp*")), *sorted(package.parent.glob("torch.libs/libgomp*"))]
    return next(iter(found), None)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        msg = f"{command[0]} took longer than {TIMEOUT} s"
        raise _CannotBuildError(msg) from None
    if done.returncode:
        first = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[0]
        msg = f"{command[0]} failed: {first}"
        raise _CannotBuildError(msg)


def _fingerprint(compiler: str, openmp: Path | None) -> str:
    """Of all that decides the machine code: sources, flags, compiler, runtime, C library, processor.

    A container that shares its user's home with the machine around it has other libraries than that. A cluster's
    machines may share a home, and an old kernel names none of a new processor's instructions: its model tells.
    """
    digest = hashlib.sha256()
    for source in sorted(SOURCES.glob("*.*")):
        digest.update(source.read_bytes())
    told = (("flags", "Features"), ("cpu family", "CPU implementer"), ("model", "CPU part"))
    processor = (platform.machine(), platform.processor(), *(processor_field(*names) for names in told))
    digest.update(repr((FLAGS, compiler, openmp, platform.libc_ver(), *processor)).encode())
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Where what was compiled on this machine is kept.

    Raises:
        RuntimeError: nobody says, as the user has no home.
    """
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "tat"
