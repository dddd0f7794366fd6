"""Permeability and thermal conductivity of one rock: two solvers as one."""

from collections.abc import Mapping
from dataclasses import dataclass

import msvae
from msvae import Quantity, Structures


@dataclass(frozen=True)
class FlowAndHeat(msvae.Solver):
    """Permeability and effective thermal conductivity of a rock whose phase 1 is the pores.

    grain, fluid: conductivities, W/m/K; quartz and water by default.
    """

    name = "flow-and-heat"
    kinds = ("phases",)
    dimensions = (3,)
    computes = (Quantity("permeability", "m^2", ("d", "d")), Quantity("conductivity", "W/m/K", ("d", "d")))
    grain: float = 7.7
    fluid: float = 0.6

    def evaluate(self, structures: Structures) -> Mapping[str, msvae.Array]:
        flow = msvae.load_solver("permeability", pores=1).evaluate(structures)
        phases = [{"conductivity": self.grain}, {"conductivity": self.fluid}]
        heat = msvae.load_solver("conductivity", phases=phases).evaluate(structures)
        return {"permeability": flow["permeability"], "conductivity": heat["conductivity"]}


@msvae.hook
def msvae_solvers() -> list[type[msvae.Solver]]:
    return [FlowAndHeat]
