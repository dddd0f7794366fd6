"""What the linear solvers have in common: from a table of phases and an element to the effective tensor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from msvae import Array, Count, DataError, Properties, Share, Solver, Specification, Structures
from msvae_voxelfe.elements.trilinear import LinearElement
from msvae_voxelfe.linear.accuracy import Accuracy, bounded, cut_in_two, extrapolated, halved
from msvae_voxelfe.linear.homogenization import Effective, homogenize, pullback, total_displacements, voxel_means
from msvae_voxelfe.materials.phases import interpolate, unsolvable
from msvae_voxelfe.voxels.boundary import TRACTIONS, resolved
from msvae_voxelfe.voxels.mirror import alike, mirrored
from msvae_voxelfe.voxels.percolation import hinges


@dataclass(frozen=True)
class LinearSolver(Solver):
    """A linear problem: its effective tensor, the gradient of that, and its fields.

    field_names: of the gradient and the flux that a unit of each load case causes.
    """

    field_names: ClassVar[tuple[str, str]]

    phases: Annotated[tuple[Any, ...], Field(min_length=1)]
    tolerance: Share = 1e-5
    iterations: Count = 2000
    boundary: str = "auto"
    accuracy: Accuracy = "estimate"

    def __post_init__(self) -> None:
        if self.accuracy == "bounds" and self.boundary.startswith("uniform"):
            raise ValueError("accuracy = 'bounds' is for periodic and mirrored boundaries")

    @property
    def materials(self) -> int:
        return len(self.phases)

    @abstractmethod
    def table(self, structures: Structures) -> Array:
        """Return material parameters (phases, m), one for each unit law of the element."""

    @abstractmethod
    def element(self, structures: Structures) -> LinearElement:
        """Return the element of the structures' voxels."""

    def conditions(self, specification: Specification) -> Mapping[str, str]:
        return {"boundary": resolved(self.boundary, specification.grid.periodic)}

    def accurate(self, material: Array, element: LinearElement, boundary: str) -> Effective:
        """Return the effective tensors of structures with material fields (n, m, *grid), as accurate as asked for."""
        found = self.solved(material, element, boundary)
        if self.accuracy == "extrapolated":
            return extrapolated(found, self.solved(cut_in_two(material), halved(element), boundary))
        if self.accuracy == "bounds" and len(material):
            image = mirrored(material) if boundary == "mirrored" else material
            bounds = bounded(found, image, element, tolerance=self.tolerance, limit=self.iterations)
            return uncoupled(bounds, element) if boundary == "mirrored" else bounds
        return found

    def solved(self, material: Array, element: LinearElement, boundary: str) -> Effective:
        """Return the effective tensors of structures with material fields (n, m, *grid)."""
        if boundary.startswith("uniform"):
            from msvae_voxelfe.linear import uniform_sides  # brings torch

            return uniform_sides.effective(material, element, traction=boundary in TRACTIONS, tolerance=self.tolerance,
                                           limit=self.iterations)  # fmt: skip
        image = mirrored(material) if boundary == "mirrored" else material
        found = homogenize(image, element, tolerance=self.tolerance, limit=self.iterations)
        return uncoupled(found, element) if boundary == "mirrored" else found

    def displacements(self, material: Array, element: LinearElement, boundary: str) -> Array:
        """Return the unknowns (L, A, *grid) at the corners of every voxel of one structure (m, *grid)."""
        if boundary.startswith("uniform"):
            from msvae_voxelfe.linear import uniform_sides

            traction = boundary in TRACTIONS
            if traction and uniform_sides.has_open_pores(material):
                raise DataError(f"no fields: {uniform_sides.OPEN_PORES}")
            return uniform_sides.displacements(material, element, traction=traction, tolerance=self.tolerance,
                                               limit=self.iterations)  # fmt: skip
        image = mirrored(material[None])[0] if boundary == "mirrored" else material
        found = total_displacements(image, element, tolerance=self.tolerance, limit=self.iterations)
        octant: tuple[slice, ...] = tuple(slice(n) for n in found.shape[:2] + material.shape[1:])
        return found[octant]

    def evaluate(self, structures: Structures) -> Properties:
        """Return the effective tensor of each structure; one without is a failure that the others do not notice."""
        name = self.computes[0].name
        material, failures = interpolate(structures, self.table(structures))
        failures |= unsolvable(material)
        kept = np.array([k for k in range(len(structures)) if k not in failures], dtype=int)
        boundary = self.conditions(structures.specification)["boundary"]
        result = self.accurate(material[kept], self.element(structures), boundary)
        tensors, errors, left = np.full((3, len(structures), *result.tensors.shape[1:]), np.nan)
        iterations = np.zeros(len(structures), dtype=np.int64)
        tensors[kept], errors[kept], iterations[kept] = result.tensors, np.abs(result.refinement), result.iterations
        left[kept] = result.errors
        failures |= {int(kept[k]): reason for k, reason in result.failures.items()}
        said = {k: hinges(material[k], tensors[k], periodic=boundary == "periodic")
                for k in range(len(structures)) if k not in failures}  # fmt: skip
        return Properties({name: tensors}, failures=failures, errors={name: errors}, iteration_errors={name: left},
                          iterations=iterations, notes={k: note for k, note in said.items() if note})  # fmt: skip

    def pullback(self, structures: Structures, cotangents: Mapping[str, Array]) -> Array | None:
        """Return the gradient with respect to grey values, by the adjoint; None for phases."""
        if structures.specification.kind != "field":
            return None
        table, element = self.table(structures), self.element(structures)
        material, failures = interpolate(structures, table)
        if failures:
            raise DataError(f"no gradient: {next(iter(failures.values()))}")
        cotangent = np.asarray(cotangents[self.computes[0].name])
        boundary = self.conditions(structures.specification)["boundary"]
        if boundary == "mirrored":
            cotangent = cotangent * alike(cotangent.shape[1], len(element.spacing))
        gradient = np.stack([pullback(element, c, self.displacements(one, element, boundary))
                             for c, one in zip(cotangent, material, strict=True)])  # fmt: skip
        slope = (table[1] - table[0]).reshape(1, -1, *(1,) * structures.specification.grid.dimensions)
        return np.asarray((gradient * slope).sum(axis=1, keepdims=True))

    def fields(self, structures: Structures) -> dict[str, Array]:
        """Return gradient and flux of every voxel (*grid, v) of one structure, for a unit of each load case.

        The number of the load case, from 0, is appended to their names.
        """
        material, failures = interpolate(structures, self.table(structures))
        if failures:
            raise DataError(f"no fields: {failures[0]}")
        element = self.element(structures)
        boundary = self.conditions(structures.specification)["boundary"]
        found = voxel_means(material[0], element, self.displacements(material[0], element, boundary))
        return {
            f"{name} {case}": np.moveaxis(values, 0, -1)
            for name, cases in zip(self.field_names, found, strict=True)
            for case, values in enumerate(cases)
        }


def uncoupled(found: Effective, element: LinearElement) -> Effective:
    """Return tensors of mirrored structures, with exact zeros for load cases that symmetry uncouples."""
    apart = ~alike(element.load.shape[2], len(element.spacing))
    for array in (found.tensors, found.errors, found.refinement):
        array[:, apart] = 0.0
    return found
