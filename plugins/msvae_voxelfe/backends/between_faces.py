"""Conduction between two opposite faces of structures with the compiled kernels; the other faces are insulated."""

from __future__ import annotations

from functools import partial

import numpy as np

from msvae import Array
from msvae_voxelfe.backends.effective import effective_tensor, estimated_refinement
from msvae_voxelfe.backends.fluctuation import Operator, Spare
from msvae_voxelfe.elements.trilinear import conduction_element
from msvae_voxelfe.kernels.compiled import Kernels
from msvae_voxelfe.kernels.plan import is_large, plan_of
from msvae_voxelfe.kernels.preconditioner import Beyond
from msvae_voxelfe.kernels.threads import allowed, each


def solve_batch(
    material: Array, spacing: tuple[float, ...], tolerance: float, limit: int, *, backends: tuple[Kernels, Kernels]
) -> tuple[Array, Array, Array, Array]:
    """Return conductivities between the two faces of each axis, their errors by iteration and by refinement (n, d), and
    iterations (n, d).

    material (n, *grid). Iterations are negative where not converged.
    """
    count, dimensions = len(material), len(spacing)
    threads = allowed(material.size * dimensions)
    within = threads if count * dimensions < threads or is_large(material.shape[1:]) else 1
    peak = float(material.max())
    unit = peak * float(np.prod([(n + 1) / n for n in material.shape[1:]]))  # the nodes' volume, with empty voxels

    element = conduction_element(spacing)

    def one(task: int) -> tuple[float, float, float, int]:
        k, axis = divmod(task, dimensions)
        operator, macro = _held(material[k] / peak, spacing, axis, within, backends)
        solid = operator.fine if dimensions == 3 else operator.fine[:, 0]
        finer = partial(estimated_refinement, solid, element, 1, held=axis)
        found = effective_tensor(operator, macro[None], tolerance, limit, refinement=finer)
        return unit * found.value.item(), unit * found.error.item(), unit * found.refinement.item(), found.iterations

    results = np.array(each(one, count * dimensions, threads if within == 1 else 1)).reshape(count, dimensions, 4)
    values, errors, finer, used = np.moveaxis(results, 2, 0)
    return values, errors, finer, used.astype(np.int64)


def fluctuations(
    material: Array, spacing: tuple[float, ...], tolerance: float, limit: int, *, backends: tuple[Kernels, Kernels]
) -> Array:
    """Return the fluctuations (d, *nodes) of one structure (*grid) between the two faces of each axis."""
    found = []
    for axis in range(len(spacing)):
        operator, macro = _held(material / material.max(), spacing, axis, allowed(), backends)
        found.append(operator.fluctuation(macro + 0j, tolerance, limit).u.real)
    return np.stack(found).reshape(-1, *(n + 1 for n in material.shape))


def _held(
    material: Array, spacing: tuple[float, ...], axis: int, threads: int, backends: tuple[Kernels, Kernels]
) -> tuple[Operator, Array]:
    """Return the operator of one structure (*grid) whose two faces of an axis are held, the others being insulated.

    There is one node more than voxels along every axis. And the macroscopic gradient from face to face (1, 3).
    """
    first = 3 - material.ndim
    solid = np.pad(material, [(0, 1)] * material.ndim)[(None,) * (first + 1)]
    grid = solid.shape[1:]
    beyond = [Beyond.PERIODIC if k < first else Beyond.EVEN for k in range(3)]
    beyond[first + axis] = Beyond.ODD
    plan = plan_of(grid, threads)
    spare = Spare.of(grid, 1, plan, tuple(beyond))
    operator = Operator(solid, (1.0,) * first + spacing, 1, backends, spare, plan, tuple(beyond))
    return operator, np.eye(3)[first + axis, None]
