"""The fully integrated (bi- or trilinear, Q1) element of a voxel: the one place that states the discretisation.

A node of the periodic grid sits at the lowest corner of the voxel with the same index; the corners of a voxel are the
nodes at offsets {0, 1}^d. Integrals are exact: 2^d Gauss points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from msvae import Array

VOIGT = {2: ((0, 0), (1, 1), (0, 1)), 3: ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))}


@dataclass(frozen=True, eq=False)
class LinearElement:
    """Element matrices of a problem whose material is a sum of fields p_j (one number per voxel) times unit laws.

    stiffness: (m, A, A), integral of B^T D_j B over the voxel; A = corners x components, corner slowest.
    load: (m, A, L), integral of B^T D_j e_l for each of the L macroscopic load cases e_l.
    average: (m, L, L), integral of e_k^T D_j e_l.
    gradient: (L, A), mean of B over the voxel.
    spacing: edge lengths of the voxel. components: unknowns at a node.
    """

    stiffness: Array
    load: Array
    average: Array
    gradient: Array
    spacing: tuple[float, ...]
    components: int

    @property
    def volume(self) -> float:
        """Volume of the voxel; its area in 2D."""
        return float(np.prod(self.spacing))


def corners(dimensions: int) -> list[tuple[int, ...]]:
    """Return the offsets of a voxel's corners, in the order of the element matrices."""
    return list(product((0, 1), repeat=dimensions))


def shape_gradients(spacing: Sequence[float]) -> Array:
    """Return the gradients (q, corners, d) of the shape functions at the Gauss points, whose weights are equal."""
    d = len(spacing)
    points = np.array(list(product((0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3)), repeat=d)))
    gradients = np.empty((len(points), 2**d, d))
    for a, corner in enumerate(corners(d)):
        factors = np.where(np.array(corner), points, 1 - points)
        for axis in range(d):
            sign = 1.0 if corner[axis] else -1.0
            others = np.prod(np.delete(factors, axis, axis=1), axis=1)
            gradients[:, a, axis] = sign * others / spacing[axis]
    return gradients


def element_of(strain: Array, laws: Array, spacing: tuple[float, ...], components: int) -> LinearElement:
    """Return the matrices for strain operators B (q, L, A) at the Gauss points and unit laws D (m, L, L)."""
    weights = np.full(len(strain), np.prod(spacing) / len(strain))
    loaded = np.einsum("q,qka,jkl->jal", weights, strain, laws)
    return LinearElement(
        stiffness=np.einsum("q,qka,jkl,qlb->jab", weights, strain, laws, strain),
        load=loaded,
        average=weights.sum() * laws,
        gradient=strain.mean(axis=0),
        spacing=spacing,
        components=components,
    )


@lru_cache(maxsize=16)
def conduction_element(spacing: tuple[float, ...]) -> LinearElement:
    """Return the element of Fourier's (Ohm's, Fick's) law q = -k grad T; one material field, k."""
    return element_of(shape_gradients(spacing).swapaxes(1, 2), np.eye(len(spacing))[None], spacing, components=1)


@lru_cache(maxsize=16)
def anisotropic_element(spacing: tuple[float, ...]) -> LinearElement:
    """Return the element of Hooke's general law; material fields: the upper triangle of the stiffness, row by row."""
    size = len(VOIGT[len(spacing)])
    laws = []
    for i in range(size):
        for j in range(i, size):
            unit = np.zeros((size, size))
            unit[i, j] = unit[j, i] = 1.0
            laws.append(unit)
    return element_of(strain_operator(spacing), np.stack(laws), spacing, components=len(spacing))


def strain_operator(spacing: tuple[float, ...]) -> Array:
    """Return B (points, v, A): strains in Voigt order, engineering shear, from the displacements at the corners."""
    gradients = shape_gradients(spacing)
    d = len(spacing)
    pairs = VOIGT[d]
    strain = np.zeros((2**d, len(pairs), 2**d, d))
    for k, (i, j) in enumerate(pairs):
        strain[:, k, :, i] += gradients[:, :, j]
        if i != j:
            strain[:, k, :, j] += gradients[:, :, i]
    return strain.reshape(2**d, len(pairs), -1)


@lru_cache(maxsize=16)
def elastic_element(spacing: tuple[float, ...]) -> LinearElement:
    """Return the element of Hooke's isotropic law; material fields: Lame's lambda and mu. 2D is plane strain."""
    pairs = VOIGT[len(spacing)]
    normal = np.array([float(i == j) for i, j in pairs])
    laws = np.stack([np.outer(normal, normal), np.diag(1.0 + normal)])
    return element_of(strain_operator(spacing), laws, spacing, components=len(spacing))


def affine_displacements(element: LinearElement) -> Array:
    """Return the unknowns (L, A) at a voxel's corners under each macroscopic load case without fluctuation."""
    d = len(element.spacing)
    places = np.array(corners(d)) * np.array(element.spacing)
    if element.components == 1:
        return np.ascontiguousarray(places.T)
    cases = []
    for i, j in VOIGT[d]:
        strain = np.zeros((d, d))
        strain[i, j] += 0.5
        strain[j, i] += 0.5
        cases.append((places @ strain).ravel())
    return np.stack(cases)
