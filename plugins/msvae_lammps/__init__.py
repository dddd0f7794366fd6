"""Atomistic solvers by LAMMPS (https://www.lammps.org); needs `msvae[lammps]`."""

from msvae import Solver, hook
from msvae_lammps.elastic import LammpsElastic
from msvae_lammps.energy import LammpsEnergy
from msvae_lammps.script import LammpsScript


@hook
def msvae_solvers() -> list[type[Solver]]:
    return [LammpsEnergy, LammpsElastic, LammpsScript]
