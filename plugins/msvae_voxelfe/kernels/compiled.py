"""The compiled kernels of source/kernels.c.

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
from msvae_voxelfe.kernels.arguments import Call, Forces, Inverse, Workspace
from msvae_voxelfe.kernels.plan import ALONE, Plan

__all__ = ["Kernels", "kernels"]

SOURCE = Path(__file__).with_name("source") / "kernels.c"
HEADERS = ("vectors.h", "team.h", "fourier.h", "preconditioner.h", "elements.h", "call.h")  # that it includes
CTYPES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
MATERIALS = {1: "conductor", 2: "elastic", 21: "anisotropic"}  # by the number of their parameters


class Kernels:
    """The functions of kernels.c for one floating-point type; all of them release the interpreter's lock.

    Every argument is an array whose type, order of memory and size are checked, and which lives as long as the call.
    ValueError for one that is not as the kernels need it.
    """

    def __init__(self, library: ctypes.CDLL, dtype: np.dtype[Any]) -> None:
        self.library, self.dtype = library, dtype
        self.complex = np.result_type(dtype, np.complex64)
        for name, arguments, result in _signatures(dtype):
            function = getattr(library, f"voxelfe_{name}")
            function.argtypes, function.restype = arguments, result
        self._call = Call(self.library.voxelfe_arrays().decode(), dtype)

    def workspace(self, grid: tuple[int, ...], components: int, plan: Plan) -> Workspace:
        """Return the memory of these kernels for one pair of load cases on a grid."""
        sizes = np.empty(5, dtype=np.int64)
        self.library.voxelfe_memory(np.array(grid, dtype=np.int64), components, plan.threads, plan.pieces, sizes)
        work, rows, edges, sums, units = sizes.tolist()
        own = [np.empty(size, dtype=self.dtype) for size in (work, rows, edges)]
        return Workspace(plan, own[0], own[1], own[2], np.empty(sums), np.empty(units))

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
        space = self.workspace(shape, components, plan)
        grid = np.array([*shape, 0, 0, 0], dtype=np.int64)
        arrays = {"u": u, "force": force, "layout": layout, "material": material, "grid": grid, "spacing": spacing,
                  "macro": given, "rows": space.rows, "edges": space.edges, "sums": space.sums}  # fmt: skip
        self._call(self._of("product", material), arrays, plan)
        total = space.sums.reshape(-1, 10, 2).sum(axis=0)
        return np.ascontiguousarray(total[1 : 1 + 3 * components]).view(complex).reshape(components, 3), total[0]

    def gradients(
        self, vectors: tuple[Array, Forces, Array, Array], material: Array, spacing: Array, inverse: Inverse,
        norms: tuple[float, float], limit: int, space: Workspace,
    ) -> int:  # fmt: skip
        """Solve K x = r for two load cases, from one norm to another; vectors: p, q, x, r. Return the steps.

        See kernels.c.
        """
        p, q, x, r = vectors
        arrays = {"u": p, "material": material, "spacing": spacing, "x": x, "r": r, "norms": np.array(norms),
                  **q.arrays, **inverse.arrays, **space.arrays}  # fmt: skip
        return self._call(self._of("gradients", material), arrays, space.plan, limit)

    def _of(self, what: str, material: Array) -> Any:
        return getattr(self.library, f"voxelfe_{what}_{MATERIALS[len(material)]}")

    def products(self, a: Array, b: Array) -> Array:
        """Return the products (2, 2) of a's real and imaginary parts with b's, complex128, summed over all entries."""
        sums = np.empty((2, 2))
        self.library.voxelfe_products(a, b, 2 * _size(a, b), sums)
        return sums

    def narrow(self, rest: Array, result: Array, factors: Array, threads: int = 1) -> None:
        """Set an array of this precision to a complex128 one, real and imaginary parts times one factor (2,) each."""
        self.library.voxelfe_narrow(rest, result, factors, 2 * _size(rest, result), threads)

    def widen(self, x: Array, u: Array, factors: Array, *, add: bool, threads: int = 1) -> None:
        """Set a complex128 u to factors (2,) times an x in this precision, or add that to it."""
        function = self.library.voxelfe_widen if add else self.library.voxelfe_replace
        function(x, u, factors, 2 * _size(x, u), threads)

    def scale(self, r: Array, factors: Array, threads: int = 1) -> None:
        """r *= factors, of the real and of the imaginary parts (2,)."""
        self.library.voxelfe_scale(r, factors, 2 * r.size, threads)

    def precondition(self, r: Array, q: Forces, inverse: Inverse, space: Workspace) -> Array:
        """Set q to the homogeneous solution for r; return the sums (2,) of r q: see preconditioner.h."""
        function = self.library.voxelfe_precondition3 if len(r) == 3 else self.library.voxelfe_precondition1
        sums = np.empty((space.plan.pieces, 2))
        self._call(function, {"r": r, **q.arrays, **inverse.arrays, **space.arrays, "sums": sums}, space.plan)
        return np.asarray(sums.sum(axis=0))

    def jacobi_gradients(self, matrix: Any, inverse: Array, force: Array, reduction: float, limit: int) -> Array | None:
        """Return the solution of a symmetric CSR matrix (int32 indices, this dtype); None if it does not converge.

        inverse: of the matrix's diagonal. reduction: of the residual in the preconditioner's norm.
        """
        size, entries = _size(inverse, force), _size(matrix.indices, matrix.data)
        if matrix.shape != (size, size) or len(matrix.indptr) != size + 1 or matrix.indptr[-1] != entries:
            raise ValueError(f"a matrix {matrix.shape} of {entries} entries does not fit a force of {size} numbers")
        x, work = np.empty_like(force), np.empty(3 * size, dtype=self.dtype)
        arrays = (matrix.indptr, matrix.indices, matrix.data, inverse, force, x, work)
        used = self.library.voxelfe_jacobi_gradients(*arrays, size, reduction, limit)
        return None if used < 0 else x


def _size(a: Array, b: Array) -> int:
    """Return the size that two arrays share."""
    if a.size != b.size:
        raise ValueError(f"arrays of {a.size} and {b.size} numbers do not belong together")
    return int(a.size)


def _signatures(dtype: np.dtype[Any]) -> Iterator[tuple[str, list[Any], Any]]:
    """Yield name, argument types and result type of each function of kernels.c."""
    kinds: dict[str, Any] = {"r": dtype, "z": np.result_type(dtype, np.complex64), "Z": np.complex128}
    kinds |= {"l": np.int64, "i": np.int32}
    types: dict[str, Any] = {
        letter: np.ctypeslib.ndpointer(kind, flags="C_CONTIGUOUS") for letter, kind in kinds.items()
    }
    types["f"] = np.ctypeslib.ndpointer(np.float64, shape=(2,), flags="C_CONTIGUOUS")
    types["s"] = np.ctypeslib.ndpointer(np.float64, shape=(2, 2), flags="C_CONTIGUOUS")
    types |= {"N": ctypes.c_long, "D": ctypes.c_double, "c": ctypes.c_void_p}
    calls = [f"{what}_{name}" for what in ("product", "gradients") for name in MATERIALS.values()]
    patterns = {
        **dict.fromkeys([*calls, "precondition1", "precondition3"], "c"),
        **{"products": "ZZNs", "narrow": "ZzfNN", "widen": "zZfNN", "replace": "zZfNN", "scale": "zfNN"},
        **{"jacobi_gradients": "iirrrrrNDN", "memory": "lNNNl", "arrays": ""},
    }
    results = {**dict.fromkeys([*calls, "precondition1", "precondition3", "jacobi_gradients"], ctypes.c_long),
               "arrays": ctypes.c_char_p}  # fmt: skip
    for name, pattern in patterns.items():
        yield name, [types[letter] for letter in pattern], results.get(name)


@lru_cache(maxsize=2)
def kernels(precision: str) -> Kernels | None:
    """Return the kernels for "float32" or "float64"; None where there is no working compiler."""
    dtype = np.dtype(precision)
    headers = [SOURCE.with_name(header) for header in HEADERS]
    library = native_library(SOURCE, headers=headers, definitions=[f"REAL={CTYPES[dtype]}"])
    return None if library is None else Kernels(library, dtype)
