"""Crystals whose sites are occupied: data sets of occupations, and cluster expansions of their energies."""

from msvae import Dataset, Solver, hook
from msvae_crystals.atomic_files import AtomicFiles
from msvae_crystals.cluster_expansion import ClusterExpansion
from msvae_crystals.derivatives import DerivativeStructures
from msvae_crystals.quasirandom import SpecialQuasirandom
from msvae_crystals.solid_solution import SolidSolution
from msvae_crystals.supercells import SupercellOccupations


@hook
def msvae_datasets() -> list[type[Dataset]]:
    return [SolidSolution, SpecialQuasirandom, DerivativeStructures, SupercellOccupations, AtomicFiles]


@hook
def msvae_solvers() -> list[type[Solver]]:
    return [ClusterExpansion]
