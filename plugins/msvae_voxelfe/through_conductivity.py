"""Conductivity from face to face of an image, and its tortuosity factor."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from msvae import Array, Properties, Quantity, Solver, Structures
from msvae_voxelfe.conductivity import ConductivePhase, Conductivity

NOTHING = 1e-9  # of the largest conductivity: less than that is no path


@dataclass(frozen=True)
class ThroughConductivity(Solver):
    """Conductivity between two opposite faces at fixed potentials, the other faces insulated, along each axis.

    The same problem as that of the periodic structure made of the image and its mirror images, which is what is solved.
    The tortuosity factor of axis i is the fraction of conducting voxels times their conductivity over that found
    (for one conducting phase; with several, the arithmetic mean over that found).
    phases: the material of each phase, in order; for grey values those at grey 0 and 1, linear between.
    tolerance: relative residual, in the norm of the energy, at which iterations stop. iterations: their largest number.
    """

    name = "through-conductivity"
    kinds = ("phases", "field")
    computes = (Quantity("conductivity", "W/m/K", ("d",)), Quantity("tortuosity", "1", ("d",)))

    phases: tuple[ConductivePhase, ...]
    tolerance: float = 1e-5
    iterations: int = 2000

    def evaluate(self, structures: Structures) -> Properties:
        inner = Conductivity(self.phases, self.tolerance, self.iterations)
        found = inner.evaluate(mirrored(structures))
        along = np.diagonal(found["conductivity"], axis1=1, axis2=2).copy()
        mean = inner.mean(structures)
        failures = {**found.failures, **structures.damaged}
        for k, values in enumerate(along):
            closed = np.flatnonzero(values < NOTHING * max(phase.conductivity for phase in self.phases))
            if k not in failures and len(closed):
                failures[k] = f"nothing conducts through along axis {' and '.join(map(str, closed))}"
                along[k] = np.nan
        own = np.diagonal(found.errors["conductivity"], axis1=1, axis2=2)
        tortuosity = mean[:, None] / along
        return Properties(
            {"conductivity": along, "tortuosity": tortuosity},
            failures=failures,
            errors={"conductivity": own, "tortuosity": tortuosity * own / along},
            iterations=found.iterations,
        )

    @classmethod
    def example(cls) -> ThroughConductivity:
        return cls(phases=(ConductivePhase(1.0), ConductivePhase(10.0)))


def mirrored(structures: Structures) -> Structures:
    """Return structures continued by their mirror image along every axis: periodic, and twice as long."""
    values: Array = structures.values
    grid = structures.specification.grid
    for axis in range(2, values.ndim):
        values = np.concatenate([values, np.flip(values, axis)], axis=axis)
    doubled = replace(grid, shape=tuple(2 * n for n in grid.shape), periodic=(True,) * grid.dimensions)
    return Structures(values, replace(structures.specification, grid=doubled))
