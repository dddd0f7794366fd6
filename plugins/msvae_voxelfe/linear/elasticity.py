"""Effective stiffness of periodic structures of linear elastic phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae import Array, DataError, Quantity, Settings, Structures
from msvae_voxelfe.elements.trilinear import LinearElement, anisotropic_element, elastic_element
from msvae_voxelfe.linear.solver import LinearSolver
from msvae_voxelfe.voxels.boundary import Boundary


@dataclass(frozen=True)
class ElasticPhase(Settings):
    """A phase: isotropic, or of any symmetry.

    youngs_modulus: in Pa, 0 for a pore. poissons_ratio: above -1 and below 0.5.
    stiffness: instead of both, the matrix in Pa in Voigt order (6 x 6, in 2D 3 x 3), symmetric and positive definite.
    """

    youngs_modulus: float = 0.0
    poissons_ratio: float = 0.0
    stiffness: tuple[tuple[float, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.stiffness is not None:
            self._check_stiffness(np.array(self.stiffness, dtype=object))
        if not 0 <= self.youngs_modulus < np.inf:
            raise ValueError(f"youngs_modulus is a finite number of Pa >= 0, found {self.youngs_modulus:g}")
        if not -1 < self.poissons_ratio < 0.5:
            raise ValueError(
                f"poissons_ratio is above -1 and below 0.5 (incompressible), found {self.poissons_ratio:g}"
            )

    def _check_stiffness(self, given: Array) -> None:
        if given.shape not in ((6, 6), (3, 3)):
            raise ValueError(f"stiffness is a matrix of 6 x 6 numbers (in 2D 3 x 3), found the shape {given.shape}")
        matrix = given.astype(float)
        if not np.allclose(matrix, matrix.T, rtol=1e-6) or np.linalg.eigvalsh(matrix).min() <= 0:
            raise ValueError("stiffness is symmetric and positive definite: check its entries")
        if self.youngs_modulus or self.poissons_ratio:
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

    phases: tuple[ElasticPhase, ...]
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
