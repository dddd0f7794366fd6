"""Finite elements on voxel grids: effective properties of periodic structures."""

from msvae import Solver, hook
from msvae_voxelfe.conductivity import Conductivity
from msvae_voxelfe.elasticity import Elasticity


@hook
def msvae_solvers() -> list[type[Solver]]:
    return [Conductivity, Elasticity]
