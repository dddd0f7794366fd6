"""Permeability of the pore space of voxel structures by Stokes flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from msvae import Array, Count, DataError, Grid, Natural, Properties, Quantity, Share, Solver, Specification, Structures
from msvae_voxelfe.flow.schur import StokesError
from msvae_voxelfe.flow.stokes import Flow, flow_along
from msvae_voxelfe.kernels.threads import allowed, each
from msvae_voxelfe.linear.accuracy import cut_in_two, extrapolated
from msvae_voxelfe.linear.homogenization import Effective
from msvae_voxelfe.voxels.boundary import resolved
from msvae_voxelfe.voxels.percolation import percolating

COSTLY = 10  # a voxel's flow takes that many times as long as its conduction


@dataclass(frozen=True)
class Permeability(Solver):
    """Permeability tensor of the pore space by Stokes flow without slip on a staggered grid.

    pores: the phase that fluid flows in.
    boundary: "periodic" drives flow by a body force in the periodic structure. "pressure" holds two opposite faces at
        fixed pressures and closes the other sides, as a core is measured; only the diagonal is then known, the rest 0.
        "auto" is "periodic" for structures that are, else "pressure": pores of an image mostly end at its sides.
    walls: "stairs" takes voxels literally, as cubes that fluid sticks to on every side: for images of rock it is nearer
        to the solution on refined voxels. "smooth" takes them for samples of a smooth surface: for spheres and fibres.
    tolerance: relative error of the permeability, as estimated, at which iterations stop.
    iterations: largest number of pressure iterations.
    accuracy: "estimate" says how far the permeability is above that on ever finer voxels (for "stairs");
        "extrapolated" solves on voxels that are cut in two as well, and returns what finer voxels tend to.

    Along an axis without a path through the pores it is 0.
    """

    name = "permeability"
    kinds = ("phases",)
    computes = (Quantity("permeability", "m^2", ("d", "d")),)

    pores: Natural = 0
    boundary: Literal["auto", "periodic", "pressure"] = "auto"
    walls: Literal["stairs", "smooth"] = "stairs"
    tolerance: Share = 1e-3
    iterations: Count = 500
    accuracy: Literal["estimate", "extrapolated"] = "estimate"

    def __post_init__(self) -> None:
        if self.accuracy == "extrapolated" and self.walls == "smooth":
            raise ValueError(
                "accuracy = 'extrapolated' is for walls = 'stairs': finer voxels of a smooth wall are unknown"
            )

    def conditions(self, specification: Specification) -> Mapping[str, str]:
        return {"boundary": resolved(self.boundary, specification.grid.periodic, open_sides="pressure")}

    def evaluate(self, structures: Structures) -> Properties:
        grid = structures.specification.grid
        found = self._solved(structures.labels, grid)
        if self.accuracy == "extrapolated":
            half = Grid.of([2 * n for n in grid.shape], [h / 2 for h in grid.spacing], periodic=grid.periodic)
            found = extrapolated(found, self._solved(cut_in_two(structures.labels[:, None])[:, 0], half))
        return Properties(
            {"permeability": found.tensors},
            failures=found.failures,
            errors={"permeability": found.refinement} if self.walls == "stairs" else {},
            iteration_errors={"permeability": found.errors},
            iterations=found.iterations,
        )

    def _solved(self, images: Array, grid: Grid) -> Effective:
        """Return the permeabilities of labels (n, *grid) as they are, with the estimates of their errors."""
        tensors = np.full((len(images), grid.dimensions, grid.dimensions), np.nan)
        errors, left = np.full_like(tensors, np.nan), np.full_like(tensors, np.nan)
        iterations = np.zeros(len(images), dtype=np.int64)
        failures: dict[int, str] = {}
        for k, labels in enumerate(images):
            try:
                tensors[k], errors[k], left[k], iterations[k] = self._tensor(labels == self.pores, grid)
            except StokesError as error:
                failures[k] = str(error)
        return Effective(tensors, left, errors, iterations, failures)

    def _tensor(self, pores: Array, grid: Grid) -> tuple[Array, Array, float, int]:
        """Return the tensor in m^2, the errors of voxels and of iterations, and these; StokesError if there is none."""
        flows = self._flows(pores, grid)
        tensor = grid.spacing[0] ** 2 * np.stack([flow.mean for flow in flows], axis=1)
        closed = np.flatnonzero(np.diag(tensor) == 0)
        tensor[closed] = tensor[:, closed] = 0.0  # what flows through along one of the others is but round-off
        if self._is_between_faces(grid):
            tensor = np.diag(np.diag(tensor))
        sizes = np.sqrt(grid.spacing[0] ** 2 * np.array([flow.overestimate for flow in flows]))
        errors = np.where(np.eye(len(sizes)) > 0, 1.0, tensor != 0) * np.outer(sizes, sizes)  # a semidefinite matrix's
        left = max(flow.error for flow in flows) * float(np.abs(tensor).max())
        return 0.5 * (tensor + tensor.T), errors, left, max(flow.iterations for flow in flows)

    def fields(self, structures: Structures) -> Mapping[str, Array]:
        """Return for each axis the velocity (m/s) that 1 Pa/m along it drives at a viscosity of 1 Pa s."""
        grid = structures.specification.grid
        try:
            flows = self._flows(structures.labels[0] == self.pores, grid)
        except StokesError as error:
            raise DataError(f"no fields: {error}") from None
        square = grid.spacing[0] ** 2
        return {f"velocity {axis}": square * np.moveaxis(flow.velocity, 0, -1) for axis, flow in enumerate(flows)}

    def _is_between_faces(self, grid: Grid) -> bool:
        return resolved(self.boundary, grid.periodic, open_sides="pressure") == "pressure"

    def _flows(self, pores: Array, grid: Grid) -> list[Flow]:
        """Return the flow along each axis, none where no path leads through; StokesError if there is no solution."""
        periodic = not self._is_between_faces(grid)
        if pores.all():
            raise StokesError("there is no solid: nothing resists the flow")
        paths = percolating(pores, range(pores.ndim), periodic=periodic)

        def along(axis: int) -> Flow:
            if not paths[axis].any():
                return Flow(np.zeros(pores.ndim), np.zeros((pores.ndim, *pores.shape)), 0.0, 0.0, 0)
            return flow_along(axis, paths[axis], grid.spacing, periodic=periodic, tolerance=self.tolerance,
                              limit=self.iterations, stairs=self.walls == "stairs")  # fmt: skip

        threads = allowed(COSTLY * pores.size * pores.ndim)
        return each(along, pores.ndim, pores.ndim if threads > 1 else 1)  # they take unequally long

    @classmethod
    def example(cls) -> Permeability:
        return cls(pores=0)
