"""The compiled kernels: kernels.c, built with the machine's C compiler on first use and kept in the user's cache.

Without a compiler `kernels` returns None, and the torch implementation of the same mathematics is used.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from msvae import Array

__all__ = ["Kernels", "kernels"]

SOURCE = Path(__file__).with_name("kernels.c")
# what lets sums be vectorised; -ffast-math itself would set the whole process to flush subnormal numbers to zero, which
# scipy's search trees do not survive
REORDERED = ("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-freciprocal-math")
FLAGS = ("-O3", "-march=native", *REORDERED, "-fopenmp-simd", "-fPIC", "-shared", "-std=gnu11")
CTYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
PRODUCTS = {1: "conduct", 2: "elastic", 21: "anisotropic"}  # by the number of material parameters
log = logging.getLogger(__name__)


class Kernels:
    """The functions of kernels.c for one floating-point type; all of them release the interpreter's lock."""

    def __init__(self, library: ctypes.CDLL, dtype: np.dtype[Any]) -> None:
        self.library, self.dtype = library, dtype
        self.complex = np.result_type(dtype, np.complex64)
        library.jacobi_gradients.restype = ctypes.c_long

    def product(
        self, u: Array, force: Array, material: Array, spacing: Array, *, macro: Array | None = None
    ) -> tuple[Array, Array]:
        """Set force (components, *grid) to the forces of macro + B u, for material fields (1, 2 or 21, *grid).

        u, force and macro (components, 3) are complex: two load cases. Return their stresses (components, 3) integrated
        over the grid, and, if there is no macro, the products (2,) of u and the forces.
        """
        components, length = len(u), u.shape[-1]
        total = np.zeros(3 * components + 1, dtype=np.complex128)
        given = np.zeros((components, 3), self.complex) if macro is None else np.ascontiguousarray(macro, self.complex)
        work = np.empty((36 + len(material)) * (2 * length + 32), dtype=self.dtype)  # see apply in kernels.c
        function = getattr(self.library, PRODUCTS[len(material)])
        shape = np.array(u.shape[1:], dtype=np.int64)
        function(_at(u), _at(force), _at(material), _at(shape), _at(spacing), _at(given), _at(total), _at(work))
        return total[:-1].reshape(components, 3), total[-1:].view(np.float64)

    def dot(self, a: Array, b: Array) -> Array:
        """Return the sums (2,) of a b over the real and over the imaginary parts, added up in double precision."""
        sums = np.empty(2)
        self.library.dot(_at(a), _at(b), ctypes.c_long(2 * a.size), _at(sums))
        return sums

    def peaks(self, rest: Array) -> Array:
        """Return the largest magnitudes (2,) of the real and the imaginary parts of a complex128 array."""
        largest = np.empty(2)
        self.library.peaks(_at(rest), _at(largest), ctypes.c_long(2 * rest.size))
        return largest

    def narrow(self, rest: Array, factors: Array) -> Array:
        """Return a complex128 array in this precision, with its real and imaginary parts times one factor (2,) each."""
        result = np.empty(rest.shape, dtype=self.complex)
        self.library.narrow(_at(rest), _at(result), _at(factors), ctypes.c_long(2 * rest.size))
        return result

    def widen(self, x: Array, u: Array, factors: Array) -> None:
        """u += factors x, for a complex128 u and an x in this precision."""
        self.library.widen(_at(x), _at(u), _at(factors), ctypes.c_long(2 * x.size))

    def reduce(self, r: Array, q: Array, alpha: Array) -> None:
        """r -= alpha q, with one alpha (2,) for the real and one for the imaginary parts."""
        factor = alpha.astype(self.dtype)
        self.library.reduce(_at(r), _at(q), _at(factor), ctypes.c_long(2 * r.size))

    def advance(self, x: Array, p: Array, z: Array, alpha: Array, beta: Array) -> None:
        """x += alpha p; p = z + beta p, with one alpha and beta (2,) for the real and one for the imaginary parts."""
        factors = alpha.astype(self.dtype), beta.astype(self.dtype)
        self.library.advance(_at(x), _at(p), _at(z), _at(factors[0]), _at(factors[1]), ctypes.c_long(2 * x.size))

    def multiply(self, spectrum: Array, symbol: Array) -> None:
        """spectrum (components, *grid) = symbol (1 or 6, *octant) applied to it, in place."""
        function = self.library.multiply3 if len(spectrum) == 3 else self.library.multiply1
        shape = np.array(spectrum.shape[1:], dtype=np.int64)
        work = np.empty(6 * spectrum.shape[-1], dtype=self.dtype)
        function(_at(spectrum), _at(symbol), _at(shape), _at(work))

    def fourier(self, field: Array, axis: int, tables: tuple[Array, Array]) -> None:
        """Transform a complex field along an axis, in place; tables: see fourier in kernels.c."""
        outer, n, inner = (int(np.prod(part)) for part in np.split(field.shape, [axis, axis + 1]))
        work = np.empty((2 * n + 5) * 64 // self.dtype.itemsize, dtype=self.dtype)
        sizes = (ctypes.c_long(size) for size in (outer, n, inner))
        self.library.fourier(_at(field), *sizes, _at(tables[0]), _at(tables[1]), _at(work))

    def jacobi_gradients(self, matrix: Any, inverse: Array, force: Array, reduction: float, limit: int) -> Array | None:
        """Return the solution of a symmetric CSR matrix (int32 indices, this dtype); None if it does not converge.

        inverse: of the matrix's diagonal. reduction: of the residual in the preconditioner's norm.
        """
        x, work = np.empty_like(force), np.empty(3 * force.size, dtype=self.dtype)
        arrays = (matrix.indptr, matrix.indices, matrix.data, inverse, force, x, work)
        used = self.library.jacobi_gradients(
            *map(_at, arrays), ctypes.c_long(force.size), ctypes.c_double(reduction), ctypes.c_long(limit)
        )
        return None if used < 0 else x


def _at(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@lru_cache(maxsize=2)
def kernels(precision: str) -> Kernels | None:
    """Return the kernels for "float32" or "float64"; None where there is no working compiler."""
    dtype = np.dtype(precision)
    compiler = shutil.which(os.environ.get("CC", "") or "cc") or shutil.which("gcc")
    if compiler is None or os.environ.get("MSVAE_NO_COMPILER"):
        return None
    try:
        return Kernels(ctypes.CDLL(str(_built(compiler, CTYPES[dtype]))), dtype)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("kernels.c cannot be compiled (%s): using torch, which is slower", error)
        return None


def _built(compiler: str, real: str) -> Path:
    """Return the shared library for this source, compiler and processor, building it if it is not in the cache."""
    key = hashlib.sha256("\0".join([SOURCE.read_text(), compiler, real, *FLAGS, _processor()]).encode()).hexdigest()[
        :16
    ]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "msvae"
    library = folder / f"voxelfe-{real}-{key}{sysconfig.get_config_var('SHLIB_SUFFIX') or '.so'}"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp") as made:
            command = [compiler, *FLAGS, f"-DREAL={real}", "-o", made.name, str(SOURCE)]
            subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
            shutil.copy(made.name, f"{made.name}.done")
        os.replace(f"{made.name}.done", library)  # whole or absent, also when many ranks build at once
    return library


def _processor() -> str:
    """Return what tells processors apart that need different builds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    except OSError:
        return platform.processor() or platform.machine()
