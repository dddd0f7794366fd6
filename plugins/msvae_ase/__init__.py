"""Atomistic solvers by any calculator of ASE (https://ase-lib.org); needs `msvae[ase]`."""

from msvae import Solver, hook
from msvae_ase.energy import AseEnergy


@hook
def msvae_solvers() -> list[type[Solver]]:
    return [AseEnergy]
