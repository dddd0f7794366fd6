"""Kernels that were compiled when a package was: for processors of some levels, beside their source.

Only the standard library is imported here, for the build of a wheel has nothing else.
"""

from __future__ import annotations

import hashlib
import platform
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["FLAGS", "FOLDER", "build", "found", "level"]

FOLDER = "prebuilt"  # beside the source
# what lets sums be vectorised; -ffast-math itself would set the whole process to flush subnormal numbers to zero, which
# scipy's search trees do not survive
REORDERED = ("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-freciprocal-math")
FLAGS = ("-O3", *REORDERED, "-fopenmp-simd", "-fPIC", "-shared", "-pthread", "-std=gnu11")
# instructions that a processor has to have (x86-64 psABI), from the newest level down, as /proc/cpuinfo calls them
V2 = frozenset({"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"})
V3 = V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
LEVELS = {
    "x86-64-v4": V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": V3,
    "x86-64-v2": V2,
}


def found(source: Path, headers: Sequence[Path], definitions: Sequence[str]) -> Path | None:
    """Return the library of the highest level that this processor has; None if none was built from this very source."""
    folder = source.parent / FOLDER
    if not folder.is_dir():
        return None
    name = _name(source, headers, definitions)
    return next((path for level in _levels() if (path := folder / f"{name}-{level}.so").is_file()), None)


def level() -> str | None:
    """Return the highest level of instructions that this processor has; None if it has none of them."""
    return next(iter(_levels()), None)


def build(
    source: Path, headers: Sequence[Path], definitions: Sequence[str], folder: Path, *, compiler: str = "cc"
) -> Iterator[Path]:
    """Yield the libraries of a C source for every level, compiled into a folder; CalledProcessError if that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    for level in LEVELS:
        path = folder / f"{_name(source, headers, definitions)}-{level}.so"
        flags = [*FLAGS, f"-march={level}", *(f"-D{definition}" for definition in definitions)]
        subprocess.run([*shlex.split(compiler), *flags, "-o", str(path), str(source)], check=True)
        yield path


def _name(source: Path, headers: Sequence[Path], definitions: Sequence[str]) -> str:
    given = [*(path.read_text() for path in (source, *headers)), *FLAGS, *definitions]
    return f"{source.stem}-{hashlib.sha256(chr(0).join(given).encode()).hexdigest()[:16]}"


def _levels() -> list[str]:
    """Return the levels of instructions that this processor has, from the highest down."""
    has = _instructions()
    return [level for level, needed in LEVELS.items() if needed <= has]


def _instructions() -> frozenset[str]:
    """Return the names of the instruction sets of this processor; none where it is another or unknown."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return frozenset()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())
