"""Structures that are continued by their mirror images."""

from __future__ import annotations

import numpy as np

from msvae import Array
from msvae_voxelfe.elements.trilinear import VOIGT


def mirrored(material: Array) -> Array:
    """Return material fields (n, m, *grid) continued by their mirror image along every axis: (n, m, *2 grid).

    Of 21 or 6 fields, the upper triangle of a stiffness in Voigt order, those that are odd in an axis change their sign
    with it.
    """
    for axis in range(2, material.ndim):
        image = np.flip(material, axis)
        odd = _odd(material.shape[1], axis - 2)
        if odd.any():
            image = np.where(odd.reshape(1, -1, *(1,) * (material.ndim - 2)), -image, image)
        material = np.concatenate([material, image], axis=axis)
    return material


def _odd(fields: int, axis: int) -> Array:
    """Return which material fields change their sign in a mirror across an axis."""
    pairs = VOIGT[3] if fields == 21 else VOIGT[2] if fields == 6 else ()
    odd = [sum(axis == k for k in (*pairs[i], *pairs[j])) % 2 for i in range(len(pairs)) for j in range(i, len(pairs))]
    return np.array(odd, dtype=bool) if odd else np.zeros(fields, dtype=bool)


def alike(cases: int, dimensions: int) -> Array:
    """Return which pairs (L, L) of load cases a mirrored structure couples: the normal ones, and each with itself."""
    if cases == dimensions:  # potentials along the axes: each is odd across its own axis only
        return np.eye(cases, dtype=bool)
    normal = np.arange(cases) < dimensions
    return np.asarray(np.eye(cases, dtype=bool) | np.outer(normal, normal))
