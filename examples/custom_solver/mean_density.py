"""A solver of one's own: the mean mass density of a composite."""

from dataclasses import dataclass

import msvae


@dataclass(frozen=True)
class MeanDensity(msvae.Solver):
    """Mean mass density. densities: of each phase in kg/m^3."""

    name = "mean-density"
    kinds = ("phases",)
    computes = (msvae.Quantity("density", "kg/m^3"),)

    densities: tuple[float, ...] = (1000.0, 2700.0)

    def evaluate(self, structures):
        return {"density": structures.fractions @ self.densities}


@msvae.hook
def msvae_solvers():
    return [MeanDensity]
