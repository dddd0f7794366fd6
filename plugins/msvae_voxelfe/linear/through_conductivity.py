"""Conductivity from face to face of an image, and its tortuosity factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from msvae import Array, Properties, Quantity, Specification, Structures
from msvae_voxelfe.elements.trilinear import LinearElement
from msvae_voxelfe.linear.between_faces import conductivities
from msvae_voxelfe.linear.conductivity import ConductivePhase, Conductivity
from msvae_voxelfe.linear.homogenization import Effective
from msvae_voxelfe.materials.phases import EMPTY

NOTHING = 1e-9  # of the largest conductivity: less than that is no path


@dataclass(frozen=True)
class ThroughConductivity(Conductivity):
    """Conductivity between two opposite faces at fixed potentials, the other faces insulated, along each axis.

    The same problem as that of the periodic structure made of the image and its mirror images, an eighth of which is
    solved. The tortuosity factor of axis i is the fraction of conducting voxels times their conductivity over that
    found (for one conducting phase; with several, the arithmetic mean over that found). Along an axis on which nothing
    conducts from face to face the conductivity is 0 and the tortuosity factor infinite.
    phases: the material of each phase, in order; for grey values those at grey 0 and 1, linear between.
    tolerance: relative residual, in the norm of the energy, at which iterations stop. iterations: their largest number.
    boundary: nothing but this problem is solved: "auto" and "mirrored" are the same.
    """

    name = "through-conductivity"
    computes = (Quantity("conductivity", "W/m/K", ("d",)), Quantity("tortuosity", "1", ("d",), unbounded=True))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.boundary not in ("auto", "mirrored"):
            raise ValueError(
                f"boundary '{self.boundary}' is one of 'conductivity': here potentials are held on two faces"
            )
        if self.accuracy == "bounds":
            raise ValueError("accuracy = 'bounds' is one of 'conductivity': take 'estimate' or 'extrapolated'")

    def evaluate(self, structures: Structures) -> Properties:
        found = super().evaluate(structures)
        failures = {k: why for k, why in found.failures.items() if why != EMPTY}
        along = found["conductivity"]
        along[[k for k in found.failures if k not in failures]] = 0.0
        closed = along < NOTHING * max(phase.conductivity for phase in self.phases)
        along[closed] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            tortuosity = np.where(closed, np.inf, self.mean(structures)[:, None] / along)
        slope = np.divide(tortuosity, along, out=np.zeros_like(along), where=~closed)
        return Properties(
            {"conductivity": along, "tortuosity": tortuosity},
            failures=failures,
            errors=_with_tortuosity(found.errors, slope),
            iteration_errors=_with_tortuosity(found.iteration_errors, slope),
            iterations=found.iterations,
            notes=found.notes,
        )

    def conditions(self, specification: Specification) -> Mapping[str, str]:
        return {"boundary": "mirrored"}

    def solved(self, material: Array, element: LinearElement, boundary: str) -> Effective:
        """Return the conductivities (n, d) of structures with material fields (n, 1, *grid)."""
        return conductivities(material, element, tolerance=self.tolerance, limit=self.iterations)

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
            over = np.divide(of_tortuosity, along, out=np.zeros_like(along), where=along > NOTHING * max(low, high))
            own = own - over * mean[:, None] / np.where(over, along, 1.0)
            direct = over.sum(axis=1) * (high - low) / np.prod(structures.specification.grid.shape)
        tensors = own[:, :, None] * np.eye(own.shape[1])  # load cases do not mix
        gradient = super().pullback(structures, {"conductivity": tensors})
        return None if gradient is None else gradient + direct.reshape(-1, *(1,) * (gradient.ndim - 1))

    @classmethod
    def example(cls) -> ThroughConductivity:
        return cls(phases=(ConductivePhase(1.0), ConductivePhase(10.0)))


def _with_tortuosity(errors: Mapping[str, Array], slope: Array) -> dict[str, Array]:
    """Return errors of conductivities with those of tortuosities. slope: of the latter with the former."""
    return {**errors, "tortuosity": slope * errors["conductivity"]}
