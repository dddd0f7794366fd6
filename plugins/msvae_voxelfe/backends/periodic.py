"""Homogenization of periodic structures with the compiled kernels, two load cases at a time."""

from __future__ import annotations

from functools import partial

import numpy as np

from msvae import Array
from msvae_voxelfe.backends.effective import Tensor, effective_tensor, estimated_refinement, pairs
from msvae_voxelfe.backends.fluctuation import Operator, Spare
from msvae_voxelfe.elements.trilinear import VOIGT, LinearElement
from msvae_voxelfe.kernels.compiled import Kernels
from msvae_voxelfe.kernels.plan import plan_of
from msvae_voxelfe.kernels.threads import allowed, each


def macro_gradients(dimensions: int, components: int) -> Array:
    """Return the macroscopic gradients (L, components, 3) of the load cases; 2D lies in the last two of three axes."""
    first = 3 - dimensions
    if components == 1:
        return np.eye(3)[first:, None]
    cases = np.zeros((len(VOIGT[dimensions]), 3, 3))
    for case, (i, j) in zip(cases, VOIGT[dimensions], strict=True):
        case[first + i, first + j] += 0.5
        case[first + j, first + i] += 0.5
    return cases


def fluctuations(
    material: Array, element: LinearElement, tolerance: float, limit: int, *, backends: tuple[Kernels, Kernels]
) -> Array:
    """Return the fluctuations (L, components, *grid) of one structure's load cases; material: (m, *grid)."""
    dimensions, components = len(element.spacing), _components(element)
    solid, lengths = _in_three_dimensions(material, element.spacing)
    plan = plan_of(solid.shape[1:], allowed())
    operator = Operator(solid / material.max(), lengths, components, backends, Spare(), plan)
    macros = macro_gradients(dimensions, components)
    found = [operator.fluctuation(load, tolerance, limit).u for load in pairs(macros)]
    solved = np.stack([part for u in found for part in (u.real, u.imag)][: len(macros)])
    if dimensions == 3:
        return solved
    return solved[:, :, 0] if components == 1 else solved[:, 1:, 0]


def solve_batch(
    material: Array, element: LinearElement, tolerance: float, limit: int, *, backends: tuple[Kernels, Kernels]
) -> tuple[Array, Array, Array, Array]:
    """Return tensors, their errors by iteration and by refinement (n, L, L), and iterations (n,), negative where not
    converged.

    Structures share the threads; where there are fewer structures than threads, their load cases do, or the pieces of
    their grid if it is large.
    """
    components = _components(element)
    macros = macro_gradients(len(element.spacing), components)
    peak = float(material.max())
    threads = allowed(material[:, 0].size * len(macros))
    within = threads if len(material) < threads else 1
    grid = (1,) * (5 - material.ndim) + material.shape[2:]
    plan = plan_of(grid, within)
    spare = Spare.of(grid, components, plan)

    def one(k: int) -> Tensor:
        solid, lengths = _in_three_dimensions(material[k], element.spacing)
        operator = Operator(solid / peak, lengths, components, backends, spare, plan)
        finer = partial(estimated_refinement, material[k] / peak, element, len(macros))
        return effective_tensor(operator, macros, tolerance, limit, refinement=finer,
                                threads=within if plan.pieces == 1 else 1)  # fmt: skip

    results = each(one, len(material), threads if within == 1 else 1)
    names = ("value", "error", "refinement")
    tensors, errors, finer = (np.stack([getattr(r, name) for r in results]) * peak for name in names)
    return tensors, errors, finer, np.array([r.iterations for r in results])


def _components(element: LinearElement) -> int:
    """Return the unknowns at a node in the kernels, for which 2D displacements have a third component too."""
    return 1 if element.components == 1 else 3


def _in_three_dimensions(material: Array, spacing: tuple[float, ...]) -> tuple[Array, tuple[float, ...]]:
    """Return material fields (m, nx, ny, nz) and the spacing along three axes: 2D is one voxel thick."""
    if material.ndim == 4:
        return material, spacing
    if len(material) == 6:  # in plane; out of it only the shear matters, and is not loaded
        whole = np.zeros((21, *material.shape[1:]))
        entries = [(i, j) for i in range(6) for j in range(i, 6)]
        for place, (i, j) in enumerate([(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)]):
            whole[entries.index((i, j))] = material[place]
        for k in (0, 4, 5):
            whole[entries.index((k, k))] = material[-1]
        material = whole
    return material[:, None], (1.0, *spacing)
