"""Effective conductivity of periodic structures: thermal, electric, or diffusive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from msvae import Array, Properties, Quantity, Settings, Solver, Structures
from msvae_voxelfe.element import conduction_element
from msvae_voxelfe.materials import check_table, effective, effective_fields, effective_pullback, interpolate


@dataclass(frozen=True)
class ConductivePhase(Settings):
    """A phase. conductivity: in W/m/K (or S/m, or m^2/s: the effective one is in the same unit)."""

    conductivity: float

    def __post_init__(self) -> None:
        if not 0 <= self.conductivity < np.inf:
            raise ValueError(f"conductivity is a finite number >= 0, found {self.conductivity:g}")


@dataclass(frozen=True)
class Conductivity(Solver):
    """Effective conductivity tensor of periodic structures by trilinear finite elements on the voxels.

    phases: the material of each phase, in order; for grey values those at grey 0 and 1, linear between.
    tolerance: relative residual, in the norm of the energy, at which iterations stop. iterations: their largest number.
    """

    name = "conductivity"
    kinds = ("phases", "field")
    computes = (Quantity("conductivity", "W/m/K", ("d", "d")),)

    phases: tuple[ConductivePhase, ...]
    tolerance: float = 1e-5
    iterations: int = 2000

    def __post_init__(self) -> None:
        check_table(self.phases, self.tolerance, self.iterations)

    def evaluate(self, structures: Structures) -> Properties:
        return effective(
            structures,
            self.table,
            name="conductivity",
            tolerance=self.tolerance,
            limit=self.iterations,
            element=conduction_element,
        )

    def pullback(self, structures: Structures, cotangents: Mapping[str, Array]) -> Array | None:
        """Return the gradient with respect to grey values, by the adjoint; None for phases."""
        given = np.asarray(cotangents["conductivity"])
        return effective_pullback(
            structures, self.table, given, tolerance=self.tolerance, limit=self.iterations, element=conduction_element
        )

    def mean(self, structures: Structures) -> Array:
        """Return the arithmetic mean of the conductivity (n,) of each structure."""
        material = interpolate(structures, self.table)
        return np.asarray(material.mean(axis=tuple(range(1, material.ndim))))

    def fields(self, structures: Structures) -> dict[str, Array]:
        """Return gradient and flux of every voxel, for a unit of each macroscopic load case."""
        return effective_fields(
            structures,
            self.table,
            names=("gradient", "flux"),
            tolerance=self.tolerance,
            limit=self.iterations,
            element=conduction_element,
        )

    @property
    def table(self) -> Array:
        """Material parameters (phases, m)."""
        return np.array([[phase.conductivity] for phase in self.phases])

    @classmethod
    def example(cls) -> Conductivity:
        return cls(phases=(ConductivePhase(1.0), ConductivePhase(10.0)))
