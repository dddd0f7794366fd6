"""Effective properties of periodic voxel structures: conjugate gradients on fully integrated trilinear elements.

For each load case e_l the periodic fluctuation u_l minimises the energy of e_l + B u_l. The preconditioner is the exact
inverse of the same discrete operator for a homogeneous material, by FFT, so that the number of iterations does not grow
with the grid (Ladecky et al. 2023, Appl. Math. Comput. 446, 127835). Full integration leaves the operator no null space
but rigid motions, so pores of exactly zero stiffness converge too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msvae import Array, DataError
from msvae_voxelfe import kernel_backend
from msvae_voxelfe.compiled import Kernels, kernels
from msvae_voxelfe.element import LinearElement, affine_displacements, corners
from msvae_voxelfe.threads import allowed


@dataclass(frozen=True, eq=False)
class Effective:
    """Effective tensors (n, L, L) or conductivities (n, d), iterations (n,), and reasons of failures.

    errors: estimates of what iterations left undone. refinement: of what finer voxels would take away; see
    discretisation.py.
    """

    tensors: Array
    errors: Array
    refinement: Array
    iterations: Array
    failures: dict[int, str]


def homogenize(material: Array, element: LinearElement, *, tolerance: float = 1e-5, limit: int = 2000) -> Effective:
    """Return the effective tensors of structures.

    material: (n, m, *grid), the material fields of the element's unit laws, >= 0.
    tolerance: of the residual in the preconditioner's norm, whose square is an energy, relative to the square root of
        the load case's energy without fluctuation; the effective tensor's own error goes with its square.

    The error of a tensor is that energy of the residuals times the ratio of the mean to the smallest stiffness above
    zero: a bound of what iterations left undone (not of the voxels' own resolution) as long as there are no pores.
    """
    cases = element.load.shape[2]
    if len(material) == 0:
        return nothing(cases, cases)
    refuse_what_does_not_fit(material.shape[1:], element)
    backends = compiled()
    if backends is not None:
        found = kernel_backend.solve_batch(material, element, tolerance, limit, backends=backends)
    else:
        from msvae_voxelfe import tensor_backend

        found = tensor_backend.solve_batch(material, element, tolerance, limit)
    tensors, errors, refinement, iterations = found
    errors = errors * softness(material)[:, None, None]
    return judged(Effective(tensors, errors, refinement, iterations, {}), tolerance, limit)


def nothing(*shape: int) -> Effective:
    """Return the tensors of no structures."""
    empty = np.zeros((0, *shape))
    return Effective(empty, empty, empty, np.zeros(0, dtype=np.int64), {})


def judged(found: Effective, tolerance: float, limit: int) -> Effective:
    """Return the tensors, none of them where iterations are negative: they have not converged."""
    tensors, errors, iterations = found.tensors, found.errors, found.iterations
    lost = np.flatnonzero(iterations < 0)
    reason = f"not converged to {tolerance:g} in {limit} iterations: allow more, or a larger tolerance"
    tensors[lost] = errors[lost] = found.refinement[lost] = np.nan
    failures = {int(k): reason for k in lost}
    return Effective(tensors, errors, found.refinement, np.abs(iterations), found.failures | failures)


def bytes_needed(shape: tuple[int, ...], element: LinearElement) -> int:
    """Return about how many bytes one structure takes; 410 a voxel for elasticity in 3D, if it is large.

    These are material fields (m, *grid) in two precisions, fluctuation and force of each pair of load cases, and the
    vectors of conjugate gradients, of each pair that is solved at a time.
    """
    pairs, components = (int(element.load.shape[2]) + 1) // 2, 1 if element.components == 1 else 3
    shared = kernel_backend.plan_of((1,) * (4 - len(shape)) + shape[1:], allowed()).pieces > 1
    voxel = 12 * shape[0] + components * (32 * pairs + 32 * (1 if shared else min(allowed(), pairs)))
    return voxel * math.prod(shape[1:])


def free_bytes() -> int:
    """Return the memory that the machine has to spare; a terabyte where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, StopIteration):
        return 10**12


def refuse_what_does_not_fit(shape: tuple[int, ...], element: LinearElement) -> None:
    needed, free = bytes_needed(shape, element), free_bytes()
    if needed > free:
        size = " x ".join(map(str, shape[1:]))
        raise DataError(
            f"a structure of {size} voxels needs about {needed:,} bytes, {free:,} are free: cut it to smaller "
            "pieces, or use a larger machine"
        )


def compiled() -> tuple[Kernels, Kernels] | None:
    """Return the compiled kernels in single and double precision, or None where there is no compiler."""
    single, double = kernels("float32"), kernels("float64")
    return None if single is None or double is None else (single, double)


def softness(material: Array) -> Array:
    """Return the ratio (n,) of the mean to the smallest value above zero of each structure's last material field."""
    flat = material[:, -1].reshape(len(material), -1)
    smallest = np.where(flat > 0, flat, np.inf).min(axis=1)
    return np.asarray(flat.mean(axis=1) / smallest)


def pullback(element: LinearElement, cotangent: Array, total: Array) -> Array:
    """Return the gradient (m, *grid) of sum_kl cotangent_kl C_kl with respect to one structure's material fields.

    cotangent (L, L). total: see `total_displacements`. The problem is its own adjoint: with the total field
    U_l = e_l x + u_l of each load case, dC_kl / dp_j (voxel) = U_k^T K_j U_l / volume: no further solve is needed.
    """
    volume = element.volume * int(np.prod(total.shape[2:]))
    weighted = np.tensordot(cotangent, total, axes=(0, 0))
    images = (np.tensordot(stiffness, total, axes=(1, 1)) for stiffness in element.stiffness)  # (A, L, *grid)
    return np.stack([np.einsum("la...,al...->...", weighted, image) for image in images]) / volume


def total_displacements(material: Array, element: LinearElement, *, tolerance: float, limit: int) -> Array:
    """Return the unknowns (L, corners x components, *grid) at the corners of every voxel, the affine part included.

    material: (m, *grid) of one structure. The affine part is that of each voxel by itself: its gradient counts.
    """
    backends = compiled()
    if backends is not None:
        solved = kernel_backend.fluctuations(material, element, tolerance, limit, backends=backends)
    else:
        from msvae_voxelfe import tensor_backend

        solved = tensor_backend.fluctuations(material, element, tolerance, limit)
    axes = tuple(range(2, solved.ndim))
    moved = [np.roll(solved, tuple(-o for o in corner), axes) for corner in corners(len(axes))]
    return with_affine(element, np.concatenate(moved, axis=1))


def with_affine(element: LinearElement, fluctuations: Array) -> Array:
    """Return the unknowns (L, A, *grid) at the corners of every voxel, whose fluctuations are given."""
    affine = affine_displacements(element)
    return np.asarray(fluctuations + affine.reshape(*affine.shape, *(1,) * (fluctuations.ndim - 2)))


def voxel_means(material: Array, element: LinearElement, total: Array) -> tuple[Array, Array]:
    """Return mean gradient (strain) and flux (stress) of every voxel (L, v, *grid), for each load case of a structure.

    material: (m, *grid). total: see `total_displacements`.
    """
    gradient = np.einsum("va,la...->lv...", element.gradient, total)
    pulled = np.einsum("jav,la...->jlv...", element.load, total) / element.volume
    return gradient, np.einsum("j...,jlv...->lv...", material, pulled)
