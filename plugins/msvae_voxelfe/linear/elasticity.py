"""Effective stiffness of periodic structures of linear elastic phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from msvae import Array, DataError, Finite, NonNegative, Quantity, Rule, Settings, Structures, Unit
from msvae_voxelfe.elements.trilinear import LinearElement, anisotropic_element, elastic_element
from msvae_voxelfe.linear.solver import LinearSolver
from msvae_voxelfe.voxels.boundary import Boundary


def _is_square(rows: Sequence[Sequence[float]]) -> bool:
    return np.array(rows, dtype=object).shape in ((6, 6), (3, 3))


def _is_positive_definite(rows: Sequence[Sequence[float]]) -> bool:
    matrix = np.array(rows, dtype=float)
    return np.allclose(matrix, matrix.T, rtol=1e-6) and float(np.linalg.eigvalsh(matrix).min()) > 0


Modulus = Annotated[NonNegative, Unit("Pa")]
PoissonsRatio = Annotated[float, Field(gt=-1, lt=0.5)]
Stiffness = Annotated[
    tuple[tuple[Annotated[Finite, Unit("Pa")], ...], ...],
    Rule("a matrix of 6 x 6 numbers (in 2D 3 x 3)", _is_square),
    Rule("symmetric and positive definite", _is_positive_definite),
]


@dataclass(frozen=True)
class ElasticPhase(Settings):
    """A phase: isotropic, or of any symmetry.

    youngs_modulus: Young's modulus, 0 for a pore. poissons_ratio: Poisson's ratio.
    stiffness: instead of both, the matrix in Voigt order (6 x 6, in 2D 3 x 3).
    """

    youngs_modulus: Modulus = 0.0
    poissons_ratio: PoissonsRatio = 0.0
    stiffness: Stiffness | None = None

    def __post_init__(self) -> None:
        if self.stiffness is not None and (self.youngs_modulus or self.poissons_ratio):
            raise ValueError("give a stiffness, or youngs_modulus and poissons_ratio, not both")

    def matrix(self, dimensions: int) -> Array:
        """Return the stiffness (v, v) in Pa; DataError if it is given for another number of dimensions."""
        if self.stiffness is not None:
            size = dimensions * (dimensions + 1) // 2
            if len(self.stiffness) != size:
                shape = f"{len(self.stiffness)} x {len(self.stiffness)}"
                raise DataError(
                    f"solver.phases: structures in {dimensions}D need a stiffness of {size} x {size} numbers, "
                    f"found {shape}"
                )
            return np.array(self.stiffness)
        lam, mu = self.lame
        normal = np.array([1.0] * dimensions + [0.0] * (dimensions * (dimensions - 1) // 2))
        return lam * np.outer(normal, normal) + mu * np.diag(1 + normal)

    @property
    def lame(self) -> tuple[float, float]:
        """Lame's lambda and mu in Pa."""
        e, nu = self.youngs_modulus, self.poissons_ratio
        return e * nu / ((1 + nu) * (1 - 2 * nu)), e / (2 * (1 + nu))


@dataclass(frozen=True)
class Elasticity(LinearSolver):
    """Effective stiffness by trilinear finite elements on the voxels; plane strain in 2D.

    Voigt order 11 22 33 23 13 12 (2D: 11 22 12), engineering shear strains.
    phases: the material of each phase, isotropic or not, in order; for grey values those at grey 0 and 1, with moduli
        linear between.
    tolerance: relative residual, in the norm of the energy, at which iterations stop. iterations: their largest number.
    boundary: "auto" is "periodic" for structures that are, else "mirrored", whose sides slide along rigid walls;
        "uniform-displacement" and "uniform-traction" bracket the stiffness of the material.
    accuracy: "estimate" says how far the property is from that on ever finer voxels; "extrapolated" solves on voxels
        cut in two as well (8 times the cost in 3D) and gives what finer ones tend to.
    """

    name = "elasticity"
    kinds = ("phases", "field")
    computes = (Quantity("stiffness", "Pa", ("v", "v")),)
    field_names = ("strain", "stress")

    phases: Annotated[tuple[ElasticPhase, ...], Field(min_length=1)]
    boundary: Boundary = "auto"

    @property
    def is_isotropic(self) -> bool:
        """Whether every phase is."""
        return all(phase.stiffness is None for phase in self.phases)

    def table(self, structures: Structures) -> Array:
        if self.is_isotropic:
            return np.array([phase.lame for phase in self.phases])
        matrices = np.stack([phase.matrix(structures.specification.grid.dimensions) for phase in self.phases])
        rows, columns = np.triu_indices(matrices.shape[1])
        return matrices[:, rows, columns]

    def element(self, structures: Structures) -> LinearElement:
        spacing = structures.specification.grid.spacing
        return elastic_element(spacing) if self.is_isotropic else anisotropic_element(spacing)

    @classmethod
    def example(cls) -> Elasticity:
        return cls(phases=(ElasticPhase(1e9, 0.2), ElasticPhase(1e10, 0.3)))
