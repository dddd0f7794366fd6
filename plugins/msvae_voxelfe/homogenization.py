"""Effective properties of periodic voxel structures: conjugate gradients on fully integrated trilinear elements.

For each load case e_l the periodic fluctuation u_l minimises the energy of e_l + B u_l. The preconditioner is the exact
inverse of the same discrete operator for a homogeneous material, by FFT, so that the number of iterations does not grow
with the grid (Ladecky et al. 2023, Appl. Math. Comput. 446, 127835). Full integration leaves the operator no null space
but rigid motions, so pores of exactly zero stiffness converge too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae import Array
from msvae_voxelfe import kernel_backend
from msvae_voxelfe.compiled import kernels
from msvae_voxelfe.element import LinearElement


@dataclass(frozen=True, eq=False)
class Effective:
    """Effective tensors (n, L, L), iterations (n,), and for each structure without a result the reason."""

    tensors: Array
    iterations: Array
    failures: dict[int, str]


def homogenize(material: Array, element: LinearElement, *, tolerance: float = 1e-5, limit: int = 2000) -> Effective:
    """Return the effective tensors of structures.

    material: (n, m, *grid), the material fields of the element's unit laws, >= 0.
    tolerance: of the residual in the preconditioner's norm, whose square is an energy, relative to the square root of
        the load case's energy without fluctuation; the effective tensor's own error goes with its square.
    """
    cases = element.load.shape[2]
    if len(material) == 0:
        return Effective(np.zeros((0, cases, cases)), np.zeros(0, dtype=np.int64), {})
    single, double = kernels("float32"), kernels("float64")
    if single is not None and double is not None:
        components = 1 if element.components == 1 else 3
        tensors, iterations = kernel_backend.solve_batch(
            material, element.spacing, components, tolerance, limit, backends=(single, double)
        )
    else:
        from msvae_voxelfe import tensor_backend

        tensors, iterations = tensor_backend.solve_batch(material, element, tolerance, limit)
    failures = {
        int(k): f"not converged to {tolerance:g} in {limit} iterations: allow more, or a larger tolerance"
        for k in np.flatnonzero(iterations < 0)
    }
    tensors[iterations < 0] = np.nan
    return Effective(tensors, np.abs(iterations), failures)
