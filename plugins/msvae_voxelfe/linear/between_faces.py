"""Conduction between two opposite faces of an image at fixed potentials, its other sides insulated.

The same problem as that of the periodic structure made of the image and its mirror images: an eighth of it is solved.
"""

from __future__ import annotations

import numpy as np

from msvae import Array
from msvae_voxelfe.backends import between_faces
from msvae_voxelfe.elements.trilinear import LinearElement, corners
from msvae_voxelfe.linear.homogenization import (
    Effective,
    compiled,
    homogenize,
    judged,
    nothing,
    refuse_what_does_not_fit,
    softness,
    with_affine,
)
from msvae_voxelfe.voxels.contrast import is_wide
from msvae_voxelfe.voxels.mirror import mirrored


def conductivities(material: Array, element: LinearElement, *, tolerance: float, limit: int) -> Effective:
    """Return the conductivities (n, d) along the axes of structures with material fields (n, 1, *grid)."""
    dimensions, backends = len(element.spacing), compiled()
    if len(material) == 0:
        return nothing(dimensions)
    if backends is None or any(is_wide(one) for one in material):
        whole = homogenize(mirrored(material), element, tolerance=tolerance, limit=limit)
        values, errors, finer = (
            np.diagonal(t, axis1=1, axis2=2).copy() for t in (whole.tensors, whole.errors, whole.refinement)
        )
        return Effective(values, errors, finer, whole.iterations, whole.failures)
    refuse_what_does_not_fit((1, *(n + 1 for n in material.shape[2:])), element)
    values, errors, refinement, used = between_faces.solve_batch(
        material[:, 0], element.spacing, tolerance, limit, backends=backends
    )
    most = np.where((used < 0).any(axis=1), used.min(axis=1), used.max(axis=1))
    found = Effective(values, errors * softness(material)[:, None], refinement, most, {})
    return judged(found, tolerance, limit)


def potentials(material: Array, element: LinearElement, *, tolerance: float, limit: int) -> Array:
    """Return the potentials (d, corners, *grid) at the corners of every voxel of one structure (1, *grid)."""
    backends, shape = compiled(), material.shape[1:]
    if backends is None:
        from msvae_voxelfe.backends import in_torch

        image = mirrored(material[None])[0]
        whole = in_torch.fluctuations(image, element, tolerance, limit)[:, 0]
        nodes = whole[(slice(None), *(slice(n + 1) for n in shape))]
    else:
        nodes = between_faces.fluctuations(material[0], element.spacing, tolerance, limit, backends=backends)
    places = (tuple(slice(o, o + n) for o, n in zip(c, shape, strict=True)) for c in corners(len(shape)))
    return with_affine(element, np.stack([nodes[(slice(None), *place)] for place in places], axis=1))
