"""Conductivity from face to face of an image, and its tortuosity factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from msvae import Array, Properties, Quantity, Structures
from msvae_voxelfe import kernel_backend
from msvae_voxelfe.conductivity import ConductivePhase, Conductivity
from msvae_voxelfe.element import LinearElement, corners
from msvae_voxelfe.homogenization import (
    Effective,
    compiled,
    homogenize,
    judged,
    refuse_what_does_not_fit,
    softness,
    with_affine,
)

NOTHING = 1e-9  # of the largest conductivity: less than that is no path


@dataclass(frozen=True)
class ThroughConductivity(Conductivity):
    """Conductivity between two opposite faces at fixed potentials, the other faces insulated, along each axis.

    The same problem as that of the periodic structure made of the image and its mirror images, an eighth of which is
    solved. The tortuosity factor of axis i is the fraction of conducting voxels times their conductivity over that
    found (for one conducting phase; with several, the arithmetic mean over that found).
    phases: the material of each phase, in order; for grey values those at grey 0 and 1, linear between.
    tolerance: relative residual, in the norm of the energy, at which iterations stop. iterations: their largest number.
    """

    name = "through-conductivity"
    computes = (Quantity("conductivity", "W/m/K", ("d",)), Quantity("tortuosity", "1", ("d",)))

    def evaluate(self, structures: Structures) -> Properties:
        found = super().evaluate(structures)
        along, own, failures = found["conductivity"], found.errors["conductivity"], dict(found.failures)
        for k, values in enumerate(along):
            closed = np.flatnonzero(values < NOTHING * max(phase.conductivity for phase in self.phases))
            if k not in failures and len(closed):
                failures[k] = f"nothing conducts through along axis {' and '.join(map(str, closed))}"
                along[k] = np.nan
        tortuosity = self.mean(structures)[:, None] / along
        return Properties(
            {"conductivity": along, "tortuosity": tortuosity},
            failures=failures,
            errors={"conductivity": own, "tortuosity": tortuosity * own / along},
            iterations=found.iterations,
        )

    def solved(self, material: Array, element: LinearElement) -> Effective:
        """Return the conductivities (n, d) of structures with material fields (n, 1, *grid)."""
        dimensions, backends = len(element.spacing), compiled()
        if len(material) == 0:
            return Effective(np.zeros((0, dimensions)), np.zeros((0, dimensions)), np.zeros(0, dtype=np.int64), {})
        if backends is None:
            whole = homogenize(mirrored(material), element, tolerance=self.tolerance, limit=self.iterations)
            values, errors = (np.diagonal(t, axis1=1, axis2=2).copy() for t in (whole.tensors, whole.errors))
            return Effective(values, errors, whole.iterations, whole.failures)
        refuse_what_does_not_fit((1, *(n + 1 for n in material.shape[2:])), element)
        values, errors, used = kernel_backend.solve_between_faces(
            material[:, 0], element.spacing, self.tolerance, self.iterations, backends=backends
        )
        most = np.where((used < 0).any(axis=1), used.min(axis=1), used.max(axis=1))
        return judged(values, errors * softness(material)[:, None], most, self.tolerance, self.iterations)

    def displacements(self, material: Array, element: LinearElement) -> Array:
        """Return the potentials (d, corners, *grid) at the corners of every voxel of one structure (1, *grid)."""
        backends, shape = compiled(), material.shape[1:]
        if backends is None:
            from msvae_voxelfe import tensor_backend

            image = mirrored(material[None])[0]
            whole = tensor_backend.fluctuations(image, element, self.tolerance, self.iterations)[:, 0]
            nodes = whole[(slice(None), *(slice(n + 1) for n in shape))]
        else:
            nodes = kernel_backend.fluctuations_between_faces(
                material[0], element.spacing, self.tolerance, self.iterations, backends=backends
            )
        places = (tuple(slice(o, o + n) for o, n in zip(c, shape, strict=True)) for c in corners(len(shape)))
        return with_affine(element, np.stack([nodes[(slice(None), *place)] for place in places], axis=1))

    def pullback(self, structures: Structures, cotangents: Mapping[str, Array]) -> Array | None:
        """Return the gradient with respect to grey values; None for phases."""
        if structures.specification.kind != "field":
            return None
        of_conductivity, of_tortuosity = (np.asarray(cotangents[q.name]) for q in self.computes)
        mean, low, high = self.mean(structures), *(phase.conductivity for phase in self.phases)
        own = of_conductivity
        direct = np.zeros(len(structures))
        if of_tortuosity.any():
            along = super().evaluate(structures)["conductivity"]
            own = own - of_tortuosity * mean[:, None] / along**2
            direct = (of_tortuosity / along).sum(axis=1) * (high - low) / np.prod(structures.specification.grid.shape)
        tensors = own[:, :, None] * np.eye(own.shape[1])  # load cases do not mix
        gradient = super().pullback(structures, {"conductivity": tensors})
        return None if gradient is None else gradient + direct.reshape(-1, *(1,) * (gradient.ndim - 1))

    @classmethod
    def example(cls) -> ThroughConductivity:
        return cls(phases=(ConductivePhase(1.0), ConductivePhase(10.0)))


def mirrored(material: Array) -> Array:
    """Return material fields (n, m, *grid) continued by their mirror image along every axis."""
    for axis in range(2, material.ndim):
        material = np.concatenate([material, np.flip(material, axis)], axis=axis)
    return material
