"""The mean mass density of a composite: replace it by what your code computes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msvae


@dataclass(frozen=True)
class Mine(msvae.Solver):
    """Mean mass density. densities: of each phase, from phase 0."""

    name = "mine"
    kinds = ("phases",)
    computes = (msvae.Quantity("density", "kg/m^3"),)

    densities: tuple[Annotated[msvae.Positive, msvae.Unit("kg/m^3")], ...] = (1000.0, 2700.0)

    def evaluate(self, structures: msvae.Structures) -> Mapping[str, msvae.Array]:
        """Return the density (n,) of n structures, whose phases are structures.labels (n, *grid)."""
        return {"density": structures.fractions @ self.densities}


@msvae.hook
def msvae_solvers() -> list[type[msvae.Solver]]:
    return [Mine]
