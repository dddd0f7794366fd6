"""Solvers on voxel grids: effective properties of periodic structures, finite strain, flow through pores."""

from msvae import Solver, hook
from msvae_voxelfe.conductivity import Conductivity
from msvae_voxelfe.elasticity import Elasticity
from msvae_voxelfe.hyperelasticity import Hyperelasticity
from msvae_voxelfe.periodic_hyperelasticity import PeriodicHyperelasticity
from msvae_voxelfe.permeability import Permeability
from msvae_voxelfe.plasticity import Plasticity
from msvae_voxelfe.through_conductivity import ThroughConductivity


@hook
def msvae_solvers() -> list[type[Solver]]:
    return [
        Conductivity,
        Elasticity,
        Hyperelasticity,
        PeriodicHyperelasticity,
        Permeability,
        Plasticity,
        ThroughConductivity,
    ]
