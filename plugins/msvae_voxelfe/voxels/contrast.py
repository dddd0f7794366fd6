"""Phases of extreme contrast: which of them carry a load, and which are as good as rigid or empty.

Conjugate gradients in floating point resolve ratios of some ten thousand. Of larger ones only the order matters: with a
load goes the level of the stiffest phases whose connected voxels lead through the structure along it. What is far above
the level is as good as rigid (a perfect conductor): it is solved at two finite ratios, and the property is linear in
their inverse. What is far below is as good as empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae import Array
from msvae_voxelfe.elements.trilinear import VOIGT
from msvae_voxelfe.voxels.percolation import percolating, with_sides

WIDE = 1e4  # ratio of moduli, from which on levels are told apart
RIGID = (1e3, 1e4)  # over the level: what rigid phases are given instead
EMPTY = 1e-9  # over the level: what is less is nothing
MANY = 12  # different moduli, from which on their decades are the levels


@dataclass(frozen=True, eq=False)
class Level:
    """Load cases carried by phases of one modulus. cases: which (L,). modulus: 0 where nothing leads through."""

    cases: Array
    modulus: float

    def limited(self, material: Array, ratio: float) -> Array:
        """Return material fields (m, *grid) with moduli of at most a ratio over the level, and no far lower ones."""
        own = material[-1]
        top = np.minimum(1.0, ratio * self.modulus / np.maximum(own, 1e-300))
        return np.asarray(material * np.where(own < EMPTY * self.modulus, 0.0, top))

    def inverse_excess(self, material: Array) -> float:
        """Return the level over the least of the moduli that are limited; what it is to be extrapolated to."""
        above = material[-1][material[-1] > RIGID[0] * self.modulus]
        return float(self.modulus / above.min()) if above.size else 0.0


def is_wide(material: Array) -> bool:
    """Return whether the moduli above zero of a structure (m, *grid) differ by more than can be solved as they are."""
    own = material[-1][material[-1] > 0]
    return bool(own.size and own.max() > WIDE * own.min())


def levels(material: Array, cases: int) -> list[Level]:
    """Return the levels at which the load cases of a periodic structure (m, *grid) are carried."""
    own, dimensions = material[-1], material.ndim - 1
    level = np.zeros(cases)
    for modulus in _moduli(own):
        if (level > 0).all():
            break
        level[(level == 0) & _carried(own >= modulus, cases, dimensions)] = modulus
    return [Level(level == modulus, float(modulus)) for modulus in np.unique(level)]


def _moduli(own: Array) -> Array:
    """Return the moduli above zero, or decades of them if they are many, in falling order."""
    different = np.unique(own[own > 0])
    if len(different) > MANY:
        different = np.unique(10.0 ** np.floor(np.log10(different)))
    return different[::-1]


def _carried(stiff: Array, cases: int, dimensions: int) -> Array:
    """Return which load cases (L,) connected voxels carry: an axis that they lead along, a shear along two of them."""
    through = percolating(with_sides(stiff), range(dimensions), periodic=True)
    if cases == dimensions:
        return np.array([through[axis].any() for axis in range(dimensions)])
    return np.array([(through[i] & through[j]).any() for i, j in VOIGT[dimensions]])
