"""Effective stiffness of periodic structures of linear elastic phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae import Array, Quantity, Settings, Structures
from msvae_voxelfe.element import LinearElement, elastic_element
from msvae_voxelfe.linear import LinearSolver


@dataclass(frozen=True)
class ElasticPhase(Settings):
    """An isotropic phase. youngs_modulus: in Pa, 0 for a pore. poissons_ratio: above -1 and below 0.5."""

    youngs_modulus: float
    poissons_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.youngs_modulus < np.inf:
            raise ValueError(f"youngs_modulus is a finite number of Pa >= 0, found {self.youngs_modulus:g}")
        if not -1 < self.poissons_ratio < 0.5:
            raise ValueError(
                f"poissons_ratio is above -1 and below 0.5 (incompressible), found {self.poissons_ratio:g}"
            )

    @property
    def lame(self) -> tuple[float, float]:
        """Lame's lambda and mu in Pa."""
        e, nu = self.youngs_modulus, self.poissons_ratio
        return e * nu / ((1 + nu) * (1 - 2 * nu)), e / (2 * (1 + nu))


@dataclass(frozen=True)
class Elasticity(LinearSolver):
    """Effective stiffness of periodic structures by trilinear finite elements on the voxels; plane strain in 2D.

    Voigt order 11 22 33 23 13 12 (2D: 11 22 12), engineering shear strains.
    phases: the material of each phase, in order; for grey values those at grey 0 and 1, with moduli linear between.
    tolerance: relative residual, in the norm of the energy, at which iterations stop. iterations: their largest number.
    """

    name = "elasticity"
    kinds = ("phases", "field")
    computes = (Quantity("stiffness", "Pa", ("v", "v")),)
    field_names = ("strain", "stress")

    phases: tuple[ElasticPhase, ...]

    @property
    def table(self) -> Array:
        return np.array([phase.lame for phase in self.phases])

    def element(self, structures: Structures) -> LinearElement:
        return elastic_element(structures.specification.grid.spacing)

    @classmethod
    def example(cls) -> Elasticity:
        return cls(phases=(ElasticPhase(1e9, 0.2), ElasticPhase(1e10, 0.3)))
