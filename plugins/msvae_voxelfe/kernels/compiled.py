"""The compiled kernels of kernels.c.

Without a compiler `kernels` returns None, and the torch implementation of the same mathematics is used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from msvae import Array, native_library
from msvae_voxelfe.kernels.arguments import Forces, Inverse, Workspace
from msvae_voxelfe.kernels.plan import ALONE, Plan

__all__ = ["Kernels", "kernels"]

SOURCE = Path(__file__).with_name("source") / "kernels.c"
HEADERS = ("vectors.h", "team.h", "fourier.h", "preconditioner.h", "elements.h")  # that it includes
CTYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
MATERIALS = {1: "conductor", 2: "elastic", 21: "anisotropic"}  # by the number of their parameters


class Kernels:
    """The functions of kernels.c for one floating-point type; all of them release the interpreter's lock.

    Every argument is an array whose type and order of memory are checked, and which lives as long as the call.
    """

    def __init__(self, library: ctypes.CDLL, dtype: np.dtype[Any]) -> None:
        self.library, self.dtype = library, dtype
        self.complex = np.result_type(dtype, np.complex64)
        for name, arguments, result in _signatures(dtype):
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result

    def product(
        self, u: Array, force: Array, material: Array, spacing: Array, *, macro: Array | None = None, plan: Plan = ALONE
    ) -> tuple[Array, Array]:
        """Set force (components, *grid) to the forces of macro + B u, for material fields (1, 2 or 21, *grid).

        u, force and macro (components, 3) are complex: two load cases. Return their stresses (components, 3) integrated
        over the grid, and, if there is no macro, the products (2,) of u and the forces.
        """
        components, shape = len(u), u.shape[1:]
        given = np.zeros((components, 3), self.complex) if macro is None else np.ascontiguousarray(macro, self.complex)
        layout = np.array([u[0].size, u[0, 0].size], dtype=np.int64) * 2
        space = Workspace.of(shape, components, self.dtype, plan)
        arrays = (u, force, layout, material, np.array(shape, dtype=np.int64), spacing, given, space.sums, space.plan(),
                  space.rows, space.edges)  # fmt: skip
        self._of("product", material)(*arrays)
        total = space.sums.sum(axis=0)
        return np.ascontiguousarray(total[1 : 1 + 3 * components]).view(complex).reshape(components, 3), total[0]

    def gradients(
        self, vectors: tuple[Array, Forces, Array, Array], material: Array, spacing: Array, inverse: Inverse,
        norms: tuple[float, float], limit: int, space: Workspace,
    ) -> int:  # fmt: skip
        """Solve K x = r for two load cases, from one norm to another; vectors: p, q, x, r. Return the steps.

        See kernels.c.
        """
        p, q, x, r = vectors
        given = (p, q.memory, q.layout, material, inverse.grid, spacing, x, r, inverse.symbol, inverse.factors)
        arrays = (*given, inverse.tables, inverse.starts, np.array(norms), space.plan(limit), space.work, space.rows,
                  space.edges, space.sums, space.units)  # fmt: skip
        return int(self._of("gradients", material)(*arrays))

    def _of(self, what: str, material: Array) -> Any:
        return getattr(self.library, f"{what}_{MATERIALS[len(material)]}")

    def products(self, a: Array, b: Array) -> Array:
        """Return the products (2, 2) of a's real and imaginary parts with b's, complex128, summed over all entries."""
        sums = np.empty((2, 2))
        self.library.products(a, b, 2 * a.size, sums)
        return sums

    def narrow(self, rest: Array, result: Array, factors: Array, threads: int = 1) -> None:
        """Set an array of this precision to a complex128 one, real and imaginary parts times one factor (2,) each."""
        self.library.narrow(rest, result, factors, 2 * rest.size, threads)

    def widen(self, x: Array, u: Array, factors: Array, *, add: bool, threads: int = 1) -> None:
        """Set a complex128 u to factors (2,) times an x in this precision, or add that to it."""
        function = self.library.widen if add else self.library.replace
        function(x, u, factors, 2 * x.size, threads)

    def scale(self, r: Array, factors: Array, threads: int = 1) -> None:
        """r *= factors, of the real and of the imaginary parts (2,)."""
        self.library.scale(r, factors, 2 * r.size, threads)

    def precondition(self, r: Array, q: Forces, inverse: Inverse, space: Workspace) -> Array:
        """Set q to the homogeneous solution for r; return the sums (2,) of r q: see preconditioner.h."""
        function = self.library.precondition3 if len(r) == 3 else self.library.precondition1
        sums = np.empty((space.sizes[1], 2))
        given = (inverse.symbol, inverse.grid, inverse.factors, inverse.tables, inverse.starts)
        function(r, q.memory, q.layout, *given, sums, space.plan(), space.work, space.units)
        return np.asarray(sums.sum(axis=0))

    def jacobi_gradients(self, matrix: Any, inverse: Array, force: Array, reduction: float, limit: int) -> Array | None:
        """Return the solution of a symmetric CSR matrix (int32 indices, this dtype); None if it does not converge.

        inverse: of the matrix's diagonal. reduction: of the residual in the preconditioner's norm.
        """
        x, work = np.empty_like(force), np.empty(3 * force.size, dtype=self.dtype)
        arrays = (matrix.indptr, matrix.indices, matrix.data, inverse, force, x, work)
        used = self.library.jacobi_gradients(*arrays, force.size, reduction, limit)
        return None if used < 0 else x


def _signatures(dtype: np.dtype[Any]) -> Iterator[tuple[str, list[Any], Any]]:
    """Yield name, argument types and result type of each function of kernels.c."""
    kinds: dict[str, Any] = {"r": dtype, "z": np.result_type(dtype, np.complex64), "Z": np.complex128}
    kinds |= {"d": np.float64, "l": np.int64, "i": np.int32}
    arrays = {letter: np.ctypeslib.ndpointer(kind, flags="C_CONTIGUOUS") for letter, kind in kinds.items()}
    types: dict[str, Any] = {**arrays, "N": ctypes.c_long, "D": ctypes.c_double}
    patterns = {
        **{f"product_{name}": "zzlrlrzdlrr" for name in MATERIALS.values()},
        **{f"gradients_{name}": "zrlrlrzzrlrldlrrrdd" for name in MATERIALS.values()},
        **{f"precondition{components}": "zrlrllrldlrd" for components in (1, 3)},
        **{"products": "ZZNd", "narrow": "ZzdNN", "widen": "zZdNN", "replace": "zZdNN", "scale": "zdNN"},
        "jacobi_gradients": "iirrrrrNDN",
    }
    for name, pattern in patterns.items():
        counts = name.startswith(("gradients", "jacobi"))
        yield name, [types[letter] for letter in pattern], ctypes.c_long if counts else None


@lru_cache(maxsize=2)
def kernels(precision: str) -> Kernels | None:
    """Return the kernels for "float32" or "float64"; None where there is no working compiler."""
    dtype = np.dtype(precision)
    headers = [SOURCE.with_name(header) for header in HEADERS]
    library = native_library(SOURCE, headers=headers, definitions=[f"REAL={CTYPES[dtype]}"])
    return None if library is None else Kernels(library, dtype)
