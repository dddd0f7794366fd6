"""A solver that several MPI ranks run together: the specific surface area of a structure, each rank on its slices."""

from dataclasses import dataclass

import numpy as np

import msvae


@dataclass(frozen=True)
class SpecificSurface(msvae.Solver):
    """Area between phase 0 and the others per volume, from the faces of voxels; periodic."""

    name = "specific-surface"
    kinds = ("phases",)
    computes = (msvae.Quantity("surface", "1/m"),)
    ranks = 2

    def evaluate(self, structures):
        return {"surface": np.array([self._faces(s, 0, 1) for s in structures.labels > 0]) / self._volume(structures)}

    def evaluate_on(self, communicator, structures):
        rank, size = communicator.Get_rank(), communicator.Get_size()
        mine = np.array([self._faces(solid, rank, size) for solid in structures.labels > 0])
        return {"surface": communicator.allreduce(mine) / self._volume(structures)}

    def _faces(self, solid, rank, size):
        slices = np.arange(rank, len(solid), size)
        return sum((solid != np.roll(solid, 1, axis))[slices].sum() for axis in range(solid.ndim))

    def _volume(self, structures):
        grid = structures.specification.grid
        return float(np.prod(grid.shape)) * grid.spacing[0]  # voxels are cubes


@msvae.hook
def msvae_solvers():
    return [SpecificSurface]
