"""Effective properties of periodic voxel structures: conjugate gradients on fully integrated trilinear elements.

For each load case e_l the periodic fluctuation u_l minimises the energy of e_l + B u_l. The preconditioner is the exact
inverse of the same discrete operator for a homogeneous material, by FFT, so that the number of iterations does not grow
with the grid (Ladecky et al. 2023, Appl. Math. Comput. 446, 127835). Full integration leaves the operator no null space
but rigid motions, so pores of exactly zero stiffness converge too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from msvae import Array, DataError
from msvae_voxelfe.backends import periodic
from msvae_voxelfe.elements.trilinear import LinearElement, affine_displacements, corners
from msvae_voxelfe.kernels.compiled import Kernels, kernels
from msvae_voxelfe.kernels.plan import plan_of
from msvae_voxelfe.kernels.threads import allowed
from msvae_voxelfe.voxels.contrast import RIGID, is_wide, levels

ACCURATE = 1e-4  # of a tensor's diagonal, that iterations may leave undone
FINEST = 1e-10  # tolerance
FAR_SOFTER = 1e-6  # than the stiffest phase
FLOPPY = 1e-7  # of the modulus of what leads through: less is no stiffness


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
    wide = np.array([is_wide(one) for one in material])
    found = nothing(cases, cases) if wide.all() else _converged(material[~wide], element, tolerance, limit)
    if not wide.any():
        return found
    parts = [_of_wide_contrast(one, element, tolerance, limit) for one in material[wide]]
    return _merged(wide, found, parts)


def _converged(material: Array, element: LinearElement, tolerance: float, limit: int) -> Effective:
    """Return effective tensors (n >= 1), solved to tolerances that their accuracy needs; the others are failures.

    The residual is measured against the load on the mean material. Where stiff phases do not carry it, it is large
    beside what is left of the tensor.
    """
    found = _solved(material, element, tolerance, limit)
    while True:
        left, own = (np.diagonal(a, axis1=1, axis2=2) for a in (found.errors, found.tensors))
        mean = material[:, -1].reshape(len(material), -1).mean(axis=1)
        poor = np.flatnonzero((left > np.maximum(ACCURATE * own, 1e-9 * mean[:, None])).any(axis=1))
        poor = np.array([k for k in poor if k not in found.failures], dtype=int)
        if not len(poor):
            return found
        tolerance *= 0.03
        if tolerance < FINEST:
            reason = f"its error is not below {ACCURATE:g} at the finest tolerance: phases differ too much"
            found.tensors[poor] = found.errors[poor] = found.refinement[poor] = np.nan
            return replace(found, failures=found.failures | {int(k): reason for k in poor})
        _put(found, poor, _solved(material[poor], element, tolerance, limit))


def _put(found: Effective, places: Array, better: Effective) -> None:
    """Replace the results of some structures."""
    for name in ("tensors", "errors", "refinement", "iterations"):
        getattr(found, name)[places] = getattr(better, name)
    found.failures.update({int(places[k]): reason for k, reason in better.failures.items()})


def _of_wide_contrast(material: Array, element: LinearElement, tolerance: float, limit: int) -> Effective:
    """Return the tensor of one structure (m, *grid) level by level; see contrast.py."""
    cases = element.load.shape[2]
    tensor, error, finer = np.zeros((3, 1, cases, cases))
    whole = Effective(tensor, error, finer, np.zeros(1, dtype=np.int64), {})
    for level in levels(material, cases):
        if level.modulus == 0:
            continue
        ratios = np.array(RIGID)
        limited = np.stack([level.limited(material, ratio) for ratio in ratios])
        found = _converged(limited, element, tolerance, limit)
        if found.failures:
            return replace(found, tensors=found.tensors[:1] * np.nan, errors=found.errors[:1] * np.nan,
                           refinement=found.refinement[:1] * np.nan, iterations=found.iterations[:1],
                           failures={0: next(iter(found.failures.values()))})  # fmt: skip
        beyond = (1 / ratios[1] - level.inverse_excess(material)) / (1 / ratios[0] - 1 / ratios[1])
        own = np.outer(level.cases, level.cases)
        for name in ("tensors", "errors", "refinement"):
            soft, stiff = getattr(found, name)
            getattr(whole, name)[0][own] = (stiff + (beyond * (stiff - soft) if name == "tensors" else 0))[own]
        whole.iterations[0] = max(whole.iterations[0], found.iterations.max())
        carried = np.diag(whole.tensors[0])[level.cases]
        if (carried < FLOPPY * level.modulus).any():
            whole.failures[0] = "its stiff phase leads through but bears nothing, as a chain of hinges does"
    return whole


def _merged(wide: Array, others: Effective, parts: list[Effective]) -> Effective:
    """Return ordinary structures and those of wide contrast in their order."""
    places, narrow = np.flatnonzero(wide), np.flatnonzero(~wide)
    arrays = {}
    for name in ("tensors", "errors", "refinement", "iterations"):
        own = getattr(others, name)
        arrays[name] = np.zeros((len(wide), *own.shape[1:]), dtype=own.dtype)
        arrays[name][narrow] = own
        arrays[name][places] = np.concatenate([getattr(part, name) for part in parts])
    failures = {int(narrow[k]): reason for k, reason in others.failures.items()}
    failures |= {int(places[k]): part.failures[0] for k, part in enumerate(parts) if part.failures}
    for k in failures:
        for name in ("tensors", "errors", "refinement"):
            arrays[name][k] = np.nan
    return Effective(**arrays, failures=failures)


def _solved(material: Array, element: LinearElement, tolerance: float, limit: int) -> Effective:
    """Return effective tensors by the compiled kernels, or in torch, before any judgement of their convergence."""
    if len(material) == 0:
        return nothing(*[element.load.shape[2]] * 2)
    backends = compiled()
    if backends is not None:
        solved = periodic.solve_batch(material, element, tolerance, limit, backends=backends)
    else:
        from msvae_voxelfe.backends import in_torch

        solved = in_torch.solve_batch(material, element, tolerance, limit)
    tensors, errors, refinement, iterations = solved
    errors = errors * softness(material)[:, None, None]
    found = Effective(tensors, errors, refinement, iterations, {})
    return judged(with_exact_zeros(found, material), tolerance, limit)


def nothing(*shape: int) -> Effective:
    """Return the tensors of no structures."""
    empty = np.zeros((0, *shape))
    return Effective(empty, empty, empty, np.zeros(0, dtype=np.int64), {})


def judged(found: Effective, tolerance: float, limit: int) -> Effective:
    """Return the tensors; those that have not converged (negative iterations) become failures."""
    tensors, errors, iterations = found.tensors, found.errors, found.iterations
    lost = np.flatnonzero(iterations < 0)
    reason = f"not converged to {tolerance:g} in {limit} iterations: allow more, or a larger tolerance"
    tensors[lost] = errors[lost] = found.refinement[lost] = np.nan
    failures = {int(k): reason for k in lost}
    return Effective(tensors, errors, found.refinement, np.abs(iterations), found.failures | failures)


def bytes_needed(shape: tuple[int, ...], element: LinearElement) -> int:
    """Return the approximate number of bytes that a structure takes; 410 a voxel for elasticity in 3D, if it is large.

    These are material fields (m, *grid) in two precisions, fluctuation and force of each pair of load cases, and the
    vectors of conjugate gradients, of each pair that is solved at a time.
    """
    pairs, components = (int(element.load.shape[2]) + 1) // 2, 1 if element.components == 1 else 3
    shared = plan_of((1,) * (4 - len(shape)) + shape[1:], allowed()).pieces > 1
    voxel = 12 * shape[0] + components * (32 * pairs + 32 * (1 if shared else min(allowed(), pairs)))
    return voxel * math.prod(shape[1:])


def free_bytes() -> int:
    """Return the free memory in bytes; a terabyte where the system does not report it."""
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
    """Return the ratio (n,) of the mean to the smallest value above zero of each structure's last material field.

    What is far softer than the rest of a structure bears no load, and counts as empty here.
    """
    flat = material[:, -1].reshape(len(material), -1)
    smallest = np.where(flat > FAR_SOFTER * flat.max(axis=1, keepdims=True), flat, np.inf).min(axis=1)
    return np.asarray(flat.mean(axis=1) / smallest)


def with_exact_zeros(found: Effective, material: Array) -> Effective:
    """Return tensors (n, L, L) with zeros for their rounding errors, where no solid path leads along an axis.

    Any path bears much more than this share of the softest solid's modulus, in as many voxels as memory holds.
    """
    solid = np.where(material[:, -1] > 0, material[:, -1], np.inf)
    softest = solid.min(axis=tuple(range(1, solid.ndim)))
    bare = np.diagonal(found.tensors, axis1=1, axis2=2) < FLOPPY * softest[:, None]
    for array in (found.tensors, found.errors, found.refinement):
        array[bare[:, :, None] | bare[:, None, :]] = 0.0
    return found


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
        solved = periodic.fluctuations(material, element, tolerance, limit, backends=backends)
    else:
        from msvae_voxelfe.backends import in_torch

        solved = in_torch.fluctuations(material, element, tolerance, limit)
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
