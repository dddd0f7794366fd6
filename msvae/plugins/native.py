"""C kernels of plugins: compiled on first use and kept in the user's cache, or brought along by a wheel."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from msvae.plugins import prebuilt

__all__ = ["cache_folder", "compiler_here", "native_library"]

log = logging.getLogger(__name__)


def native_library(
    source: Path, *, headers: Sequence[Path] = (), definitions: Sequence[str] = ()
) -> ctypes.CDLL | None:
    """Return the shared library of a C source; None if it is not cached, cannot be built, and no package brought it.

    headers: its own included headers; a change in one triggers a rebuild. definitions: of macros, "NAME=VALUE". The
    compiler is `CC`, cc or gcc, and may use all instructions of this processor. MSVAE_COMPILER_FLAGS: additional last
    flags, such as "-O1 -fsanitize=address,undefined" to find memory errors. MSVAE_NO_COMPILER: use no compiler.
    """
    if os.environ.get("MSVAE_NO_COMPILER"):
        return _brought(source, headers, definitions)
    flags = [*prebuilt.FLAGS, "-march=native", *(f"-D{definition}" for definition in definitions)]
    flags += shlex.split(os.environ.get("MSVAE_COMPILER_FLAGS", ""))
    try:
        return ctypes.CDLL(str(_built(source, headers, flags)))
    except (OSError, subprocess.SubprocessError) as error:
        library = _brought(source, headers, definitions)
        if library is None:
            _say_once(_why(error))
        return library


def _brought(source: Path, headers: Sequence[Path], definitions: Sequence[str]) -> ctypes.CDLL | None:
    """Return the library that the package was built with, for a processor like this one."""
    path = prebuilt.found(source, headers, definitions)
    try:
        return None if path is None else ctypes.CDLL(str(path))
    except OSError:  # damaged
        return None


@lru_cache
def _say_once(text: str) -> None:
    log.warning(
        "no C kernels: %s; torch takes their place, which is slower: install a C compiler (`apt install gcc`, `conda "
        "install c-compiler`), name one in CC, or set MSVAE_NO_COMPILER=1 to hear no more of it",
        text,
    )


def _why(error: Exception) -> str:
    """Return one line on why a source was not compiled: the compiler's first error."""
    if not isinstance(error, subprocess.CalledProcessError):
        return str(error)
    said = (error.stderr or b"").decode(errors="replace").splitlines()
    line = next((line for line in said if "error" in line.lower()), said[-1] if said else "it says nothing")
    return f"'{error.cmd[0]}' ended with exit code {error.returncode}: {line.strip()[:200]}"


def _built(source: Path, headers: Sequence[Path], flags: Sequence[str]) -> Path:
    """Return the shared library for this source and processor; build it unless the cache has it intact.

    OSError if there is no compiler.
    """
    given = [*(path.read_text() for path in (source, *headers)), *flags, os.environ.get("CC", ""), _processor()]
    key = hashlib.sha256("\0".join(given).encode()).hexdigest()[:16]
    folder = cache_folder()
    suffix = sysconfig.get_config_var("SHLIB_SUFFIX") or ".so"
    for kept in sorted(folder.glob(f"{source.stem}-{key}-*{suffix}")):
        if kept.stem.endswith(_digest(kept)):
            return kept
        log.warning("'%s' is damaged: it is built again", kept)
        kept.unlink(missing_ok=True)
    compiler = compiler_here()
    if compiler is None:
        raise OSError("no C compiler is installed")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"'{folder}' cannot be created ({error.strerror}): name another folder in XDG_CACHE_HOME"
        ) from None
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp") as made:
        command = [compiler, *flags, "-o", made.name, str(source)]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        library = folder / f"{source.stem}-{key}-{_digest(Path(made.name))}{suffix}"
        shutil.copy(made.name, f"{made.name}.done")
    os.replace(f"{made.name}.done", library)  # whole or absent, also when many ranks build at once
    return library


def cache_folder() -> Path:
    """Return the folder that compiled kernels are kept in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msvae"


def compiler_here() -> str | None:
    """Return the path of the C compiler; None if there is none."""
    return shutil.which(os.environ.get("CC", "") or "cc") or shutil.which("gcc")


def _digest(file: Path) -> str:
    """Return a digest of a file's content that detects damage."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _processor() -> str:
    """Return an identifier that distinguishes processors that need different builds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    except OSError:
        return platform.processor() or platform.machine()
