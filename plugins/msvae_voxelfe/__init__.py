"""Solvers on voxel grids: effective properties of periodic structures, finite strain, flow through pores."""

from msvae import Solver, hook
from msvae_voxelfe.flow.permeability import Permeability
from msvae_voxelfe.linear.conductivity import Conductivity
from msvae_voxelfe.linear.elasticity import Elasticity
from msvae_voxelfe.linear.through_conductivity import ThroughConductivity
from msvae_voxelfe.nonlinear.hyperelasticity import Hyperelasticity
from msvae_voxelfe.nonlinear.periodic_hyperelasticity import PeriodicHyperelasticity
from msvae_voxelfe.nonlinear.plasticity import Plasticity


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
