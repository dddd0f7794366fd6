"""Partition functions of disordered crystals: the campaign, random occupations, and models with exact answers."""

from msvae import Campaign, Dataset, Solver, hook
from msvae_partition.campaign import Partition
from msvae_partition.lattice import RandomOccupation
from msvae_partition.models.ising import Ising, LatticeGas


@hook
def msvae_datasets() -> list[type[Dataset]]:
    return [RandomOccupation]


@hook
def msvae_solvers() -> list[type[Solver]]:
    return [Ising, LatticeGas]


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    return [Partition]
