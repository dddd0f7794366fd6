"""Effective stiffness of periodic structures of linear elastic phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from msvae import Array, Properties, Quantity, Settings, Solver, Structures
from msvae_voxelfe.element import elastic_element
from msvae_voxelfe.materials import check_table, effective, effective_fields, effective_pullback


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
class Elasticity(Solver):
    """Effective stiffness of periodic structures by trilinear finite elements on the voxels; plane strain in 2D.

    Voigt order 11 22 33 23 13 12 (2D: 11 22 12), engineering shear strains.
    phases: the material of each phase, in order; for grey values those at grey 0 and 1, with moduli linear between.
    tolerance: relative residual, in the norm of the energy, at which iterations stop. iterations: their largest number.
    """

    name = "elasticity"
    kinds = ("phases", "field")
    computes = (Quantity("stiffness", "Pa", ("v", "v")),)

    phases: tuple[ElasticPhase, ...]
    tolerance: float = 1e-5
    iterations: int = 2000

    def __post_init__(self) -> None:
        check_table(self.phases, self.tolerance, self.iterations)

    def evaluate(self, structures: Structures) -> Properties:
        return effective(
            structures,
            self.table,
            name="stiffness",
            tolerance=self.tolerance,
            limit=self.iterations,
            element=elastic_element,
        )

    def pullback(self, structures: Structures, cotangents: Mapping[str, Array]) -> Array | None:
        """Return the gradient with respect to grey values, by the adjoint; None for phases."""
        given = np.asarray(cotangents["stiffness"])
        return effective_pullback(
            structures, self.table, given, tolerance=self.tolerance, limit=self.iterations, element=elastic_element
        )

    def fields(self, structures: Structures) -> dict[str, Array]:
        """Return strain and stress of every voxel, for a unit of each macroscopic load case."""
        return effective_fields(
            structures,
            self.table,
            names=("strain", "stress"),
            tolerance=self.tolerance,
            limit=self.iterations,
            element=elastic_element,
        )

    @property
    def table(self) -> Array:
        """Material parameters (phases, m)."""
        return np.array([phase.lame for phase in self.phases])

    @classmethod
    def example(cls) -> Elasticity:
        return cls(phases=(ElasticPhase(1e9, 0.2), ElasticPhase(1e10, 0.3)))
