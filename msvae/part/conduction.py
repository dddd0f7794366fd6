"""Steady conduction in a part whose conductivity varies from element to element (scikit-fem).

-div (k(s) grad T) = 0,    T given or no flux on the boundary
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from msvae.errors import DataError
from msvae.part.elastic import Where, not_among, solved
from msvae.part.meshes import element_means, element_of, save_mesh
from msvae.structures import Array

__all__ = ["Conductive", "ConductiveSolution", "HeldTemperature"]


@dataclass(frozen=True)
class HeldTemperature:
    """Nodes held at a temperature. where: from positions (d, n) in m to a mask (n,). temperature: K."""

    where: Where
    temperature: float


@dataclass(frozen=True, eq=False)
class Conductive:
    """A part: its mesh, the conductivity (e, d, d) of its elements in W/m/K, and held temperatures by name."""

    mesh: Any
    conductivity: Array
    supports: Mapping[str, HeldTemperature]

    def __post_init__(self) -> None:
        d = self.mesh.dim()
        if np.shape(self.conductivity) != (self.mesh.nelements, d, d) or not np.isfinite(self.conductivity).all():
            raise DataError(
                f"conductivity has the shape {(self.mesh.nelements, d, d)} without NaN, found "
                f"{np.shape(self.conductivity)}"
            )

    @cached_property
    def basis(self) -> Any:
        """The finite-element basis of the temperature."""
        import skfem

        return skfem.Basis(self.mesh, element_of(self.mesh))

    def solve(self) -> ConductiveSolution:
        """Solve for the temperatures and derived quantities; DataError if no temperature is held."""
        from skfem import BilinearForm

        k = np.moveaxis(np.asarray(self.conductivity), 0, -1)[..., None]

        @BilinearForm  # type: ignore[untyped-decorator]
        def flow(u: Any, v: Any, w: Any) -> Any:
            return np.einsum("ijeq,jeq,ieq->eq", w["k"], u.grad, v.grad)

        matrix = flow.assemble(self.basis, k=np.broadcast_to(k, (*k.shape[:3], self.basis.X.shape[1]))).tocsr()
        temperature, held = np.zeros(self.basis.N), {}
        for name, support in self.supports.items():
            held[name] = np.flatnonzero(support.where(self.basis.doflocs))
            if not len(held[name]):
                raise DataError(f"temperature '{name}' is held at no node: look at its position, in m")
            temperature[held[name]] = support.temperature
        free = not_among(self.basis.N, list(held.values()))
        found = solved(matrix[free][:, free].tocsc(), -matrix[free] @ temperature)
        if not np.isfinite(found).all():
            raise DataError("the part has no steady temperature: hold it somewhere, with a conductivity everywhere")
        temperature[free] = found
        flows = matrix @ temperature
        return ConductiveSolution(self, temperature, {name: float(flows[nodes].sum()) for name, nodes in held.items()})


@dataclass(frozen=True, eq=False)
class ConductiveSolution:
    """temperature: of the nodes, K. heat: inflow at each held temperature, W (in 2D: per metre of thickness)."""

    part: Conductive
    temperature: Array
    heat: Mapping[str, float]

    @cached_property
    def gradient(self) -> Array:
        """Mean temperature gradient (e, d) of every element, K/m."""
        basis = self.part.basis
        return element_means(basis.interpolate(self.temperature).grad, basis.dx).T

    @cached_property
    def flux(self) -> Array:
        """Mean heat flux (e, d) of every element, W/m^2."""
        return np.asarray(-np.einsum("eij,ej->ei", self.part.conductivity, self.gradient))

    def save(self, path: Path) -> None:
        """Write temperature (K), gradient (K/m) and flux (W/m^2) to a file of any format that meshio writes."""
        save_mesh(path, self.part.mesh, {"temperature": self.temperature},
                  {"gradient": self.gradient, "flux": self.flux})  # fmt: skip
