"""Effective conductivity of structures: thermal, electric, or diffusive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from msvae import Array, NonNegative, Quantity, Settings, Structures, Unit
from msvae_voxelfe.elements.trilinear import LinearElement, conduction_element
from msvae_voxelfe.linear.between_faces import conductivities, potentials
from msvae_voxelfe.linear.homogenization import Effective, with_exact_zeros
from msvae_voxelfe.linear.solver import LinearSolver
from msvae_voxelfe.materials.phases import interpolate
from msvae_voxelfe.voxels.boundary import Potential


@dataclass(frozen=True)
class ConductivePhase(Settings):
    """A phase. conductivity: thermal; or electric, or a diffusivity: the effective one is in the same unit."""

    conductivity: Annotated[NonNegative, Unit("W/m/K")]


@dataclass(frozen=True)
class Conductivity(LinearSolver):
    """Effective conductivity tensor by trilinear finite elements on the voxels.

    phases: the material of each phase, in order; for grey values those at grey 0 and 1, linear between.
    tolerance: relative residual, in the norm of the energy, at which iterations stop. iterations: their largest number.
    boundary: "auto" is "periodic" for structures that are, else "mirrored": potentials are held on two faces, the other
        sides are insulated, and off the diagonal there are zeros. "uniform-gradient" and "uniform-flux" bracket the
        conductivity of the material.
    accuracy: "estimate" says how far the property is from that on ever finer voxels; "extrapolated" solves on voxels
        cut in two as well (8 times the cost in 3D) and gives what finer ones tend to; "bounds" gives the middle of two
        that hold the property for certain, if all voxels conduct, and half their distance as the error.
    """

    name = "conductivity"
    kinds = ("phases", "field")
    computes: ClassVar[tuple[Quantity, ...]] = (Quantity("conductivity", "W/m/K", ("d", "d")),)
    field_names = ("gradient", "flux")

    phases: Annotated[tuple[ConductivePhase, ...], Field(min_length=1)]
    boundary: Potential = "auto"

    def solved(self, material: Array, element: LinearElement, boundary: str) -> Effective:
        if boundary != "mirrored":
            return super().solved(material, element, boundary)
        along = conductivities(material, element, tolerance=self.tolerance, limit=self.iterations)
        unit = np.eye(len(element.spacing))
        tensors, errors, finer = (a[:, None] * unit for a in (along.tensors, along.errors, along.refinement))
        return with_exact_zeros(Effective(tensors, errors, finer, along.iterations, along.failures), material)

    def displacements(self, material: Array, element: LinearElement, boundary: str) -> Array:
        if boundary != "mirrored":
            return super().displacements(material, element, boundary)
        return potentials(material, element, tolerance=self.tolerance, limit=self.iterations)

    def table(self, structures: Structures) -> Array:
        return np.array([[phase.conductivity] for phase in self.phases])

    def element(self, structures: Structures) -> LinearElement:
        return conduction_element(structures.specification.grid.spacing)

    def mean(self, structures: Structures) -> Array:
        """Return the arithmetic mean of the conductivity (n,) of each structure."""
        material, _ = interpolate(structures, self.table(structures))
        return np.asarray(material.mean(axis=tuple(range(1, material.ndim))))

    @classmethod
    def example(cls) -> Conductivity:
        return cls(phases=(ConductivePhase(1.0), ConductivePhase(10.0)))
