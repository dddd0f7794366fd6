"""A part as a study declares it: mesh, loads and quantities of interest, for any field of properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from msvae.errors import DataError
from msvae.part import meshes
from msvae.part.conduction import Conductive, ConductiveSolution, HeldTemperature
from msvae.part.elastic import Elastic, Solution, Support, on_plane, side
from msvae.part.plastic import Hardening, Plastic, Step
from msvae.part.settings import PartSettings
from msvae.structures import Array

__all__ = ["Problem", "Response"]

WEAKEST = 1e-6  # of the stiffest element: what has less, as a window that is all pore, gets this much


@dataclass(frozen=True, eq=False)
class Response:
    """The response of a part. quantities: of interest, by name. curve: (steps, 2) displacement in m and load in N.

    local: (e,) von Mises stress in Pa, or size of the heat flux in W/m^2, of every element. solution: the full
    solution.
    """

    quantities: Mapping[str, float]
    curve: Array
    local: Array
    solution: Solution | ConductiveSolution | list[Step]

    @property
    def last(self) -> Solution | ConductiveSolution | Step:
        """The solution, or that of the last step; its `save` writes the fields in a format of meshio."""
        return self.solution[-1] if isinstance(self.solution, list) else self.solution

    @property
    def work(self) -> Array:
        """Return stress times strain (e,) of every element in J/m^3, or heat flux times gradient in W K/m^3."""
        last = self.last
        if isinstance(last, ConductiveSolution):
            return np.asarray(-(last.flux * last.gradient).sum(axis=1))
        return np.asarray((last.stress * last.strain).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Problem:
    """The part of a study. directory: the folder of the mesh file. given: a mesh that replaces the settings' one."""

    settings: PartSettings
    directory: Path = Path()
    given: Any = None

    @cached_property
    def mesh(self) -> Any:
        """The mesh (of scikit-fem)."""
        mesh = self._made()
        if self.settings.axis >= mesh.dim():
            raise DataError(
                f"part.axis: found {self.settings.axis}, a part in {mesh.dim()}D has axes up to {mesh.dim() - 1}"
            )
        return mesh

    def _made(self) -> Any:
        s = self.settings
        if self.given is not None:
            return self.given
        if s.shape == "file":
            assert s.file is not None
            return meshes.read_mesh(self.directory / s.file)
        if s.shape == "plate-with-hole":
            assert s.radius is not None
            layers = s.cells[1] if len(s.cells) > 1 else 1
            thickness = s.lengths[1] if len(s.lengths) > 1 else None
            return meshes.plate_with_hole(s.lengths[0], s.radius, s.cells[0], thickness=thickness, layers=layers)
        if s.shape == "notched-beam":
            assert s.notch is not None
            return meshes.notched_beam(s.lengths, s.cells, s.notch)
        return meshes.bar(s.lengths, s.cells)

    @cached_property
    def centres(self) -> Array:
        """Centre (e, d) of every element in m."""
        return meshes.centres(self.mesh)

    @property
    def ends(self) -> tuple[float, float]:
        """The coordinates of the part's two ends along the load's axis, m."""
        along = self.mesh.p[self.settings.axis]
        return float(along.min()), float(along.max())

    @cached_property
    def supports(self) -> dict[str, Support]:
        """The supports of an elastic or plastic part."""
        s, d = self.settings, self.mesh.dim()
        first, last = (side(s.axis, at) for at in self.ends)
        if s.load == "bending":
            moved = tuple(-s.displacement if a == d - 1 else None for a in range(d))
            return {"held": Support(first, (0.0,) * d), "moved": Support(last, moved)}
        found = {
            "held": Support(first, self._only(s.axis, 0.0)),
            "moved": Support(last, self._only(s.axis, s.displacement)),
        }
        for axis in (a for a in range(d) if a != s.axis):
            low, high = float(self.mesh.p[axis].min()), float(self.mesh.p[axis].max())
            if s.sides == "fixed":
                found[f"below {axis}"] = Support(side(axis, low), self._only(axis, 0.0))
                found[f"above {axis}"] = Support(side(axis, high), self._only(axis, 0.0))
            else:
                found[f"pin {axis}"] = Support(self._pin(axis), self._only(axis, 0.0))
        return found

    def _only(self, axis: int, value: float) -> tuple[float | None, ...]:
        return tuple(value if a == axis else None for a in range(self.mesh.dim()))

    def _pin(self, axis: int) -> Any:
        """Return the nodes on the first face that keep a part from moving along an axis and from rotating.

        A line of nodes for the first of the other axes, a single node for the second.
        """
        points, d = self.mesh.p, self.mesh.dim()
        others = [a for a in range(d) if a != self.settings.axis]
        rows = on_plane(points[self.settings.axis], self.ends[0])
        for other in others if others.index(axis) == 1 else others[:1]:
            rows &= points[other] <= points[other][rows].min() + 1e-9 * np.ptp(points[other])
        chosen = points[:, rows]
        return lambda x: (np.abs(x[:, :, None] - chosen[:, None]).max(axis=0) < 1e-9 * np.ptp(points)).any(axis=1)

    def respond(self, properties: Mapping[str, Array]) -> Response:
        """Return the response for properties (e, *shape) of the elements; DataError if there is no solution."""
        if self.settings.physics == "conduction":
            return self._conduct(_floored(properties["conductivity"]))
        if self.settings.physics == "plasticity":
            return self._yield(Hardening.of_curves(properties["strain"], properties["stress"]))
        return self._deform(_floored(properties["stiffness"]))

    def _conduct(self, conductivity: Array) -> Response:
        s = self.settings
        first, last = (side(s.axis, at) for at in self.ends)
        held = {"held": HeldTemperature(first, 0.0), "moved": HeldTemperature(last, s.temperature_difference)}
        solution = Conductive(self.mesh, conductivity, held).solve()
        heat = solution.heat["moved"]
        local = np.linalg.norm(solution.flux, axis=1)
        found = {
            "conductance": heat / s.temperature_difference,
            "thermal-resistance": s.temperature_difference / heat,
            "flux-concentration": float(local.max()) * self._area / heat,
            "temperature-difference": (s.heat_flow or np.nan) * s.temperature_difference / heat,
        }
        return self._response(found, np.array([[s.temperature_difference, heat]]), local, solution)

    def _deform(self, stiffness: Array) -> Response:
        s = self.settings
        solution = Elastic(self.mesh, stiffness, self.supports).solve()
        load = self._load(solution.reactions)
        local = von_mises(solution.stress)
        found = {
            "stiffness": load / s.displacement,
            "compliance": s.displacement / load,
            "energy": solution.energy,
            "stress-concentration": float(local.max()) * self._area / load,
            "first-yield-load": load * (s.yield_stress or np.nan) / float(local.max()),
        }
        return self._response(found, np.array([[s.displacement, load]]), local, solution)

    def _yield(self, material: Hardening) -> Response:
        s = self.settings
        steps = Plastic(self.mesh, material, self.supports).solve(s.steps)
        loads = np.array([self._load(step.reactions) for step in steps])
        curve = np.stack([np.array([step.load for step in steps]) * s.displacement, loads], axis=1)
        local = von_mises(steps[-1].stress)
        yielded = [float(load) for step, load in zip(steps, loads, strict=True) if step.plastic_strain.max() > 0]
        found = {
            "stiffness": loads[0] / curve[0, 0],
            "energy": steps[-1].work,
            "peak-load": loads.max(),
            "stress-concentration": float(local.max()) * self._area / loads[-1],
            "first-yield-load": yielded[0] if yielded else np.nan,
        }
        return self._response(found, curve, local, steps)

    def _response(self, found: Mapping[str, Any], curve: Array, local: Array, solution: Any) -> Response:
        return Response({name: float(found[name]) for name in self.settings.quantities}, curve, local, solution)

    def _load(self, reactions: Mapping[str, Array]) -> float:
        s = self.settings
        return abs(float(reactions["moved"][self.mesh.dim() - 1 if s.load == "bending" else s.axis]))

    @cached_property
    def _area(self) -> float:
        """The area of the moved face, m^2 (in 2D: its length, m)."""
        facets = self.mesh.facets
        moved = on_plane(self.mesh.p[self.settings.axis], self.ends[1])[facets].all(axis=0)
        corners = self.mesh.p[:, facets[:, moved]]  # (d, corners, f)
        if len(corners) == 2:
            return float(np.linalg.norm(corners[:, 1] - corners[:, 0], axis=0).sum())
        area = 0.0
        for k in range(1, corners.shape[1] - 1):
            sides = corners[:, k] - corners[:, 0], corners[:, k + 1] - corners[:, 0]
            area += float(np.linalg.norm(np.cross(*sides, axis=0), axis=0).sum()) / 2
        return area


def von_mises(stress: Array) -> Array:
    """Return von Mises' stress (n,) of stresses (n, v), Voigt order; in plane strain without the stress across."""
    if stress.shape[1] == 3:
        a, b, t = stress.T
        return np.asarray(np.sqrt(a * a - a * b + b * b + 3 * t * t))
    a, b, c, *shear = stress.T
    squares = (a - b) ** 2 + (b - c) ** 2 + (c - a) ** 2
    return np.asarray(np.sqrt(squares / 2 + 3 * sum(t * t for t in shear)))


def _floored(tensors: Array) -> Array:
    """Return symmetric tensors (e, v, v) whose eigenvalues are at least a millionth of the largest of all."""
    given = np.asarray(tensors, dtype=np.float64)
    if not np.isfinite(given).all():
        raise DataError("an element has no property: look at the evaluations that failed")
    values, vectors = np.linalg.eigh((given + given.transpose(0, 2, 1)) / 2)
    if values.max() <= 0:
        raise DataError("no element of the part has a positive property")
    floored = np.maximum(values, WEAKEST * values.max())
    return np.asarray(np.einsum("eij,ej,ekj->eik", vectors, floored, vectors))
