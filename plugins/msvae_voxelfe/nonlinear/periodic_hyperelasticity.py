"""Finite strain of a periodic Neo-Hookean structure under a prescribed mean deformation gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from msvae import (
    Array,
    Ascending,
    DataError,
    Finite,
    Positive,
    Properties,
    Quantity,
    Rule,
    Solver,
    Specification,
    Structures,
)
from msvae_voxelfe.kernels.threads import allowed, each
from msvae_voxelfe.linear.elasticity import ElasticPhase
from msvae_voxelfe.materials.phases import interpolate, unsolvable


def _is_deformation(rows: Sequence[Sequence[float]]) -> bool:
    sizes = [len(row) for row in rows]
    return sizes in ([2] * 2, [3] * 3) and bool(np.linalg.det(np.array(rows)) > 0)


Invertible = Rule("a 2 x 2 or 3 x 3 matrix with a determinant above 0", _is_deformation)


@dataclass(frozen=True)
class PeriodicHyperelasticity(Solver):
    """Strain energy, mean stress and displacements of a periodic compressible Neo-Hookean structure.

    Plane strain in 2D; bi- or trilinear elements. For all load steps: energy (steps,), per volume; stress
    (steps, d, d), the mean first Piola-Kirchhoff stress; displacement at the voxel centres (steps, d, *grid), whose
    fluctuation has no mean.
    phases: Young's modulus (0 for a pore) and Poisson's ratio of each phase; for grey values those at grey 0 and 1.
    deformation: the mean deformation gradient F at the end, rows of 2 x 2 or 3 x 3 numbers, F_iJ = dx_i / dX_J.
    steps: the parts of F - I at which properties are given, ascending; shorter steps between them where needed.
    tolerance: of the residual, relative to the energy of the load.
    """

    name = "periodic-hyperelasticity"
    kinds = ("phases", "field")
    computes = (
        Quantity("energy", "J/m^3", ("steps",), spacing_exponent=0),
        Quantity("stress", "Pa", ("steps", "d", "d")),
        Quantity("displacement", "m", ("steps", "d", "grid"), spacing_exponent=1),
    )

    phases: Annotated[tuple[ElasticPhase, ...], Field(min_length=1)]
    deformation: Annotated[tuple[tuple[Finite, ...], ...], Invertible]
    steps: Annotated[tuple[Positive, ...], Field(min_length=1), Ascending] = (0.25, 0.5, 0.75, 1.0)
    tolerance: Positive = 1e-5

    def __post_init__(self) -> None:
        if any(phase.stiffness is not None for phase in self.phases):
            raise ValueError("every Neo-Hookean phase is isotropic: give youngs_modulus and poissons_ratio")

    @property
    def materials(self) -> int:
        return len(self.phases)

    def quantities(self, specification: Specification) -> tuple[Quantity, ...]:
        d, steps = specification.grid.dimensions, len(self.steps)
        shapes = ((steps,), (steps, d, d), (steps, d, *specification.grid.shape))
        return tuple(
            Quantity(q.name, q.unit, shape, q.spacing_exponent) for q, shape in zip(self.computes, shapes, strict=True)
        )

    def misfit(self, specification: Specification) -> str | None:
        whole = self.whole_deformation()
        if specification.grid.dimensions == 2 and not np.allclose(whole[2] + whole[:, 2], [0, 0, 2]):
            return "deformation has a part out of the plane of these 2D structures: give a 2 x 2 matrix"
        return super().misfit(specification)

    def evaluate(self, structures: Structures) -> Properties:
        from msvae_voxelfe.nonlinear.hyperelastic_path import StepError, path  # brings torch

        quantities = self.quantities(structures.specification)
        arrays, errors, left = (
            {q.name: np.full((len(structures), *q.sizes), np.nan) for q in quantities} for _ in range(3)
        )
        lame, failures = interpolate(structures, np.array([phase.lame for phase in self.phases]))
        failures |= unsolvable(lame)
        iterations = np.zeros(len(structures), dtype=np.int64)

        whole = self.whole_deformation()

        def solve(k: int) -> None:
            try:
                for step, state in enumerate(
                    path(whole, self.steps, lame[k], structures.specification.grid.spacing, self.tolerance)
                ):
                    d, unit, cell = structures.specification.grid.dimensions, state.unit, state.cell
                    arrays["energy"][k, step] = unit * state.energy()
                    arrays["stress"][k, step] = unit * state.response.stress.mean(dim=(1, 2)).reshape(d, d)
                    arrays["displacement"][k, step] = state.displacement()
                    gain = 0.5 * state.refinement()
                    errors["energy"][k, step] = unit * gain
                    errors["stress"][k, step] = np.abs(arrays["stress"][k, step]) * gain / max(state.energy(), 1e-300)
                    left["energy"][k, step] = 0.5 * unit * cell.residual
                    left["stress"][k, step] = unit * cell.stress_error().reshape(d, d)
                    left["displacement"][k, step] = state.displacement_error()
                    iterations[k] = cell.iterations
            except StepError as error:
                failures[k] = str(error)
                for array in (*arrays.values(), *errors.values(), *left.values()):
                    array[k] = np.nan

        kept = [k for k in range(len(structures)) if k not in failures]
        each(lambda place: solve(kept[place]), len(kept), allowed(lame[:, 0].size))
        return Properties(arrays, failures=failures, errors=errors, iteration_errors=left, iterations=iterations)

    def fields(self, structures: Structures) -> Mapping[str, Array]:
        """Return voxel means of displacement (m), deformation gradient and first Piola-Kirchhoff stress (Pa)."""
        from msvae_voxelfe.nonlinear.hyperelastic_path import StepError, path

        lame, failures = interpolate(structures, np.array([phase.lame for phase in self.phases]))
        failures |= unsolvable(lame)
        if failures:
            raise DataError(f"no fields: {failures[0]}")
        try:
            *_, state = path(
                self.whole_deformation(), self.steps, lame[0], structures.specification.grid.spacing, self.tolerance
            )
        except StepError as error:
            raise DataError(f"no fields: {error}") from None
        grid = structures.specification.grid.shape
        local = {
            "deformation gradient": state.cell.local_gradients(state.cell.u, state.cell.mean),
            "stress": state.unit * state.response.stress,
        }
        found = {name: values.mean(dim=1).T.reshape(*grid, -1).numpy() for name, values in local.items()}
        return {"displacement": np.moveaxis(state.displacement(), 0, -1), **found}

    def whole_deformation(self) -> Array:
        """Return the mean deformation gradient (3, 3)."""
        whole = np.eye(3)
        size = len(self.deformation)
        whole[:size, :size] = self.deformation
        return whole

    @classmethod
    def example(cls) -> PeriodicHyperelasticity:
        return cls((ElasticPhase(1e6, 0.3), ElasticPhase(1e7, 0.3)), ((1.1, 0.2), (0.0, 0.95)), steps=(0.5, 1.0))
