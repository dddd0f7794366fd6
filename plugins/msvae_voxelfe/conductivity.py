"""Effective conductivity of periodic structures: thermal, electric, or diffusive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae import Properties, Quantity, Settings, Solver, Structures
from msvae_voxelfe.element import conduction_element
from msvae_voxelfe.materials import check_table, effective


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
        table = np.array([[phase.conductivity] for phase in self.phases])
        return effective(
            structures,
            table,
            name="conductivity",
            tolerance=self.tolerance,
            limit=self.iterations,
            element=conduction_element,
        )

    @classmethod
    def example(cls) -> Conductivity:
        return cls(phases=(ConductivePhase(1.0), ConductivePhase(10.0)))
