"""Beyond error estimates: values extrapolated from two grids, and two-sided bounds.

The trilinear solution bounds a conductivity from above, whatever the material. From below it is bounded by fluxes
without sources: the curl of a trilinear vector potential (in 2D of a stream function), whose complementary energy is
minimised in the same way (Vondrejc, Zeman and Marek 2015, SIAM J. Numer. Anal. 53, 1035, with other trial fields).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from msvae import Array, DataError
from msvae_voxelfe.elements.trilinear import (
    LinearElement,
    anisotropic_element,
    conduction_element,
    elastic_element,
    element_of,
    shape_gradients,
)
from msvae_voxelfe.kernels.threads import single_threaded_libraries
from msvae_voxelfe.linear.homogenization import Effective, judged
from msvae_voxelfe.voxels.contrast import is_wide

Accuracy = Literal["estimate", "extrapolated", "bounds"]
NEXT = 0.4  # gain of a refinement over that of the one before: corners of phases make it so
SCATTER = 0.6  # of what is extrapolated, that it may be off


def halved(element: LinearElement) -> LinearElement:
    """Return the element of voxels of half the size."""
    spacing = tuple(h / 2 for h in element.spacing)
    if element.components == 1:
        return conduction_element(spacing)
    return elastic_element(spacing) if len(element.stiffness) == 2 else anisotropic_element(spacing)


def cut_in_two(material: Array) -> Array:
    """Return material fields (n, m, *grid) on voxels of half the size."""
    for axis in range(2, material.ndim):
        material = np.repeat(material, 2, axis)
    return material


def extrapolated(coarse: Effective, fine: Effective) -> Effective:
    """Return the limit on ever finer grids, extrapolated from solutions on voxels and on voxels that are cut in two."""
    step = (coarse.tensors - fine.tensors) * NEXT / (1 - NEXT)
    return Effective(fine.tensors - step, fine.errors, SCATTER * np.abs(step), coarse.iterations + fine.iterations,
                     coarse.failures | fine.failures)  # fmt: skip


def bounded(upper: Effective, material: Array, element: LinearElement, *, tolerance: float, limit: int) -> Effective:
    """Return the middle of the bounds of conductivities (n, d, d); refinement: half of the way between them.

    DataError for a material that has no lower bound of this kind: voxels that do not conduct.
    """
    if element.components != 1:
        raise DataError("solver.accuracy: bounds are for conductivities: take accuracy = 'extrapolated'")
    if (material <= 0).any() or any(is_wide(one) for one in material):
        raise DataError(
            "solver.accuracy: bounds need voxels that all conduct, none 1e4 times better than another: "
            "take accuracy = 'extrapolated'"
        )
    lower = _lower(material, element, tolerance, limit)
    middle, half = (upper.tensors + lower.tensors) / 2, (upper.tensors - lower.tensors) / 2
    sizes = np.sqrt(np.abs(np.diagonal(half, axis1=1, axis2=2)))
    errors = sizes[:, :, None] * sizes[:, None]  # of a semidefinite matrix: no entry is larger
    return Effective(middle, upper.errors, errors, upper.iterations + lower.iterations,
                     upper.failures | lower.failures)  # fmt: skip


def _lower(material: Array, element: LinearElement, tolerance: float, limit: int) -> Effective:
    """Return lower bounds (n, d, d): inverses of the resistivities of the best fluxes without sources."""
    from msvae_voxelfe.backends import in_torch

    dual = flux_element(element.spacing)
    with single_threaded_libraries():
        resistivity, errors, finer, iterations = in_torch.solve_batch(
            1 / material, dual, tolerance, limit, refine=False
        )
    tensors = np.linalg.inv(resistivity)
    return judged(Effective(tensors, errors, finer, iterations, {}), tolerance, limit)


@lru_cache(maxsize=16)
def flux_element(spacing: tuple[float, ...]) -> LinearElement:
    """Return the element of fluxes without sources: curls of potentials (3D), or of a stream function (2D).

    One material field, the resistivity; load cases are unit mean fluxes.
    """
    slopes = shape_gradients(spacing)  # (q, corners, d)
    if len(spacing) == 2:
        curl = np.stack([slopes[..., 1], -slopes[..., 0]], axis=1)  # (q, d, corners)
        return element_of(curl, np.eye(2)[None], spacing, components=1)
    curl = np.zeros((len(slopes), 3, slopes.shape[1], 3))
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        curl[:, i, :, k] += slopes[:, :, j]
        curl[:, i, :, j] -= slopes[:, :, k]
    return element_of(curl.reshape(len(slopes), 3, -1), np.eye(3)[None], spacing, components=3)
