"""Stiffness and conductivity of one structure: two solvers as one, for designs that have to do with both."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import msvae
from msvae import Quantity, Structures


@dataclass(frozen=True)
class StiffnessAndConductivity(msvae.Solver):
    """Effective stiffness and conductivity of a composite of isotropic phases.

    youngs_moduli: Pa. poissons_ratios: 1. conductivities: W/m/K. Each has a number for every phase.
    """

    name = "stiffness-and-conductivity"
    kinds = ("phases",)
    computes = (Quantity("stiffness", "Pa", ("v", "v")), Quantity("conductivity", "W/m/K", ("d", "d")))
    youngs_moduli: tuple[float, ...] = (70e9, 1e9)
    poissons_ratios: tuple[float, ...] = (0.3, 0.3)
    conductivities: tuple[float, ...] = (1.0, 20.0)

    def evaluate(self, structures: Structures) -> Mapping[str, msvae.Array]:
        moduli, ratios, ks = (getattr(self, f.name) for f in fields(self))
        elastic = [{"youngs_modulus": e, "poissons_ratio": nu} for e, nu in zip(moduli, ratios, strict=True)]
        stiffness = msvae.load_solver("elasticity", phases=elastic).evaluate(structures)
        conduction = msvae.load_solver("conductivity", phases=[{"conductivity": k} for k in ks]).evaluate(structures)
        return {"stiffness": stiffness["stiffness"], "conductivity": conduction["conductivity"]}


@msvae.hook
def msvae_solvers() -> list[type[msvae.Solver]]:
    return [StiffnessAndConductivity]
