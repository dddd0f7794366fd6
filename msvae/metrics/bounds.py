"""Bounds of effective tensors; a design outside them reveals an error in the solver or in its materials.

Every tensor lies between the harmonic and the arithmetic mean of its phases (Reuss 1929, Voigt 1889). A polycrystal of
randomly oriented grains of the composite is itself an isotropic composite, with moduli between the Reuss and the Voigt
mean over orientations. For any composite of isotropic phases these means therefore obey the bounds of Hashin and
Shtrikman (1962, 1963; for phases that are not well ordered: Walpole 1966).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from msvae.structures import Array, Structures

__all__ = ["Bounds", "hashin_shtrikman"]

SLACK = 1e-3  # of a bound, for the solver's own error
COARSE = 0.03  # of Voigt's mean, by which a mesh of few voxels in a feature is too stiff


@dataclass(frozen=True, eq=False)
class Bounds:
    """Effective tensors of a solver's pure phases, by property: (phases, v, v); none where bounds do not apply."""

    phases: Mapping[str, Array]

    @classmethod
    def of(cls, properties: Mapping[str, Array]) -> Bounds:
        """Return the bounds from properties (phases, *shape) of pure phases.

        NaN marks an empty phase, which counts as zero. Where all known phases are zero there are no bounds: what is
        unknown then is infinite, as the permeability of a pore without walls.
        """
        found = {name: np.nan_to_num(np.asarray(array)) for name, array in properties.items()
                 if array.ndim == 3 and array.shape[1] == array.shape[2] and np.nan_to_num(array).any()}  # fmt: skip
        return cls(found)

    def excess(self, structures: Structures, properties: Mapping[str, Array]) -> Array:
        """Return how far (n,) tensors are outside the bounds, relative to Voigt's; 0 inside."""
        worst = np.zeros(len(structures))
        for name, pure in self.phases.items():
            voigt = np.einsum("np,pij->nij", structures.fractions, pure)
            size = np.maximum(np.linalg.eigvalsh(voigt)[:, -1], 1e-300)
            tensors = np.asarray(properties[name])
            known = np.isfinite(tensors).all(axis=(1, 2))
            tensors = np.where(known[:, None, None], tensors, voigt)
            above = np.linalg.eigvalsh(tensors - voigt)[:, -1]
            below = np.linalg.eigvalsh(_harmonic(structures.fractions, pure) - tensors)[:, -1]
            beyond = _beyond_isotropic(structures, pure, tensors)
            found = np.maximum(np.maximum(above, below), beyond - COARSE * size) / size
            worst = np.maximum(worst, np.where(known, found, 0.0))
        return np.asarray(np.where(worst > SLACK, worst, 0.0))


def _harmonic(fractions: Array, pure: Array) -> Array:
    """Return the harmonic means (n, v, v); zero for structures that contain an empty phase."""
    solid = np.array([np.linalg.matrix_rank(p) == len(p) for p in pure])
    inverse = np.stack([np.linalg.inv(p) if ok else np.zeros_like(p) for p, ok in zip(pure, solid, strict=True)])
    bare = fractions[:, ~solid].sum(axis=1) > 0
    mean = np.einsum("np,pij->nij", fractions, inverse)
    result = np.zeros_like(mean)
    result[~bare] = np.linalg.inv(mean[~bare])
    return np.asarray(result)


def _beyond_isotropic(structures: Structures, pure: Array, tensors: Array) -> Array:
    """Return how far (n,) orientation means exceed Hashin and Shtrikman's bounds; 0 for anisotropic phases."""
    d = structures.specification.grid.dimensions
    moduli = _conductivities if pure.shape[1] == d else _moduli if pure.shape[1] == d * (d + 1) // 2 else None
    if moduli is None:
        return np.zeros(len(tensors))
    reuss, voigt = moduli(pure, d)
    if not np.allclose(reuss, voigt, rtol=1e-4, atol=1e-9 * max(float(np.abs(voigt).max()), 1e-300)):
        return np.zeros(len(tensors))
    low, high = hashin_shtrikman(structures.fractions, voigt, d)
    least, most = moduli(tensors, d)
    return np.asarray(np.maximum(least - high, low - most).max(axis=1))


def hashin_shtrikman(fractions: Array, moduli: Array, dimensions: int) -> tuple[Array, Array]:
    """Return the lower and upper bounds (n, m) of isotropic composites of phases with fractions (n, p).

    moduli: (p, 1) conductivities, or (p, 2) bulk and shear moduli, of plane strain in two dimensions.
    """
    ends = []
    for end in (moduli.min(axis=0), moduli.max(axis=0)):
        if moduli.shape[1] == 1:
            aids = (dimensions - 1) * end
        else:
            bulk, shear = end
            rigid = (9 * bulk + 8 * shear) / 6 if dimensions == 3 else bulk
            aids = np.array([4 * shear / 3 if dimensions == 3 else shear,
                             shear * rigid / (bulk + 2 * shear) if shear > 0 else 0.0])  # fmt: skip
        with np.errstate(divide="ignore"):
            mean = 1 / np.einsum("np,pm->nm", fractions, 1 / np.maximum(moduli + aids, 1e-300))
        ends.append(np.maximum(mean - aids, 0.0))
    return ends[0], ends[1]


def _conductivities(tensors: Array, dimensions: int) -> tuple[Array, Array]:
    """Return the Reuss and Voigt means (n, 1) of conductivity tensors (n, d, d) over all orientations."""
    values = np.maximum(np.linalg.eigvalsh((tensors + tensors.transpose(0, 2, 1)) / 2), 0.0)
    with np.errstate(divide="ignore"):
        reuss = np.where(values.min(axis=1) > 0, 1 / (1 / np.maximum(values, 1e-300)).mean(axis=1), 0.0)
    return reuss[:, None], values.mean(axis=1)[:, None]


def _moduli(tensors: Array, dimensions: int) -> tuple[Array, Array]:
    """Return the Reuss and Voigt means (n, 2) of bulk and shear moduli of stiffnesses (n, v, v) over orientations."""
    axial, bulk, shear = _invariants(tensors, dimensions)
    voigt = [(axial + 2 * bulk) / dimensions**2]
    voigt += [(axial - bulk + 3 * shear) / 15 if dimensions == 3 else (axial - 2 * bulk + 4 * shear) / 8]
    values = np.linalg.eigvalsh((tensors + tensors.transpose(0, 2, 1)) / 2)
    firm = values[:, 0] > 1e-9 * np.maximum(values[:, -1], 1e-300)
    reuss = np.zeros((len(tensors), 2))
    if firm.any():
        axial, bulk, shear = _invariants(np.linalg.inv(tensors[firm]), dimensions)
        reuss[firm, 0] = 1 / (axial + 2 * bulk)
        reuss[firm, 1] = 15 / (4 * (axial - bulk) + 3 * shear) if dimensions == 3 else 2 / (axial - 2 * bulk + shear)
    return reuss, np.stack(voigt, axis=1)


def _invariants(tensors: Array, dimensions: int) -> tuple[Array, Array, Array]:
    """Return the sums (n,) of the axial, the mixed and the shear components of tensors in Voigt's notation."""
    normal = tensors[:, :dimensions, :dimensions]
    axial = np.trace(normal, axis1=1, axis2=2)
    mixed = (normal.sum(axis=(1, 2)) - axial) / 2
    return axial, mixed, np.trace(tensors[:, dimensions:, dimensions:], axis1=1, axis2=2)
