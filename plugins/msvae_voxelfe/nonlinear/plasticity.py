"""Stress-strain curve of a periodic structure of elastic-plastic phases along a path of mean stress and strain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from msvae import (
    Array,
    DataError,
    Finite,
    Properties,
    Quantity,
    Settings,
    Share,
    Solver,
    Specification,
    Structures,
    Unit,
)
from msvae_voxelfe.elements.trilinear import VOIGT
from msvae_voxelfe.kernels.threads import allowed, each
from msvae_voxelfe.linear.elasticity import Modulus, PoissonsRatio
from msvae_voxelfe.materials.phases import interpolate

STRAINS = (0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03)


@dataclass(frozen=True)
class PlasticPhase(Settings):
    """An elastic-plastic phase with yield stress y(a) = yield_stress + hardening a + saturation (1 - exp(-rate a)).

    youngs_modulus: Young's modulus, 0 for a pore. poissons_ratio: Poisson's ratio. yield_stress: initial yield stress;
        by default the phase never yields. hardening: linear hardening modulus. saturation: Voce hardening. rate: of the
        saturation, per accumulated plastic strain.
    """

    youngs_modulus: Modulus
    poissons_ratio: PoissonsRatio = 0.0
    yield_stress: Annotated[float, Field(gt=0), Unit("Pa")] = float("inf")
    hardening: Annotated[float, Field(ge=0), Unit("Pa")] = 0.0
    saturation: Annotated[float, Field(ge=0), Unit("Pa")] = 0.0
    rate: Annotated[float, Field(ge=0)] = 0.0

    @property
    def parameters(self) -> tuple[float, ...]:
        """Bulk and shear modulus, yield stress, hardening, saturation, rate; a phase that never yields has 1e30 Pa."""
        e, nu = self.youngs_modulus, self.poissons_ratio
        limit = min(self.yield_stress, 1e30)
        return e / (3 * (1 - 2 * nu)), e / (2 * (1 + nu)), limit, self.hardening, self.saturation, self.rate


@dataclass(frozen=True)
class Plasticity(Solver):
    """Mean stress and strain (steps, v) of a periodic structure of J2 phases; trilinear elements, plane strain in 2D.

    Voigt order 11 22 33 23 13 12 (2D: 11 22 12), engineering shear strains.
    phases: the material of each phase, in order.
    strains: of the driven component, one for each step. component: its place in Voigt order, from 0.
    free: the mean stresses of all other components vanish (uniaxial stress); else their mean strains do.
    tolerance: of the residual, relative to the energy of the driven strain.

    Unloading is a path like any other. The discretisation error is estimated unless a phase is softer than one that
    yields: finer voxels let slip bands pass between soft inclusions, which no estimate on coarse ones sees.
    """

    name = "plasticity"
    kinds = ("phases",)
    computes = (Quantity("stress", "Pa", ("steps", "v")), Quantity("strain", "1", ("steps", "v")))

    phases: Annotated[tuple[PlasticPhase, ...], Field(min_length=1)]
    strains: Annotated[tuple[Finite, ...], Field(min_length=1)] = STRAINS
    component: Annotated[int, Field(ge=0, lt=6)] = 0
    free: bool = True
    tolerance: Share = 1e-4

    @property
    def materials(self) -> int:
        return len(self.phases)

    @property
    def _is_estimated(self) -> bool:
        """Whether the phases are such that estimates of the discretisation error hold (benchmarks/EFFECTIVITY.md)."""
        yielding = [phase.youngs_modulus for phase in self.phases if phase.yield_stress < np.inf]
        return all(phase.youngs_modulus == 0 or phase.youngs_modulus >= max(yielding, default=0.0)
                   for phase in self.phases)  # fmt: skip

    def quantities(self, specification: Specification) -> tuple[Quantity, ...]:
        size = len(VOIGT[specification.grid.dimensions])
        return tuple(Quantity(q.name, q.unit, (len(self.strains), size)) for q in self.computes)

    def evaluate(self, structures: Structures) -> Properties:
        from msvae_voxelfe.nonlinear.plastic_path import Drive, Refinement, StepError, path  # brings torch

        quantities = self.quantities(structures.specification)
        arrays, errors, left = (
            {q.name: np.full((len(structures), *q.sizes), np.nan) for q in quantities} for _ in range(3)
        )
        fields, failures = interpolate(structures, np.array([phase.parameters for phase in self.phases]))
        iterations = np.zeros(len(structures), dtype=np.int64)

        drive = Drive(self.strains, self.component, self.free)

        def solve(k: int) -> None:
            try:
                refinement = Refinement(self.component)
                for step, (cell, response, unit) in enumerate(
                    path(drive, fields[k], structures.specification.grid.spacing, self.tolerance)
                ):
                    stress = unit * response.stress.mean(dim=(1, 2)).numpy()
                    arrays["stress"][k, step], arrays["strain"][k, step] = stress, cell.mean
                    share = unit * refinement.after(cell, response) / max(abs(float(stress[self.component])), 1e-300)
                    errors["stress"][k, step] = share * np.abs(stress)
                    left["stress"][k, step] = unit * cell.stress_error()
                    left["strain"][k, step] = cell.gradient_error(drive.held(cell.size))
                    iterations[k] = cell.iterations
            except StepError as error:
                failures[k] = str(error)
                for array in (*arrays.values(), *errors.values(), *left.values()):
                    array[k] = np.nan

        kept = [k for k in range(len(structures)) if k not in failures]
        each(lambda place: solve(kept[place]), len(kept), allowed(fields[:, 0].size))
        return Properties(arrays, failures=failures, errors={"stress": errors["stress"]} if self._is_estimated else {},
                          iteration_errors=left, iterations=iterations)  # fmt: skip

    def fields(self, structures: Structures) -> Mapping[str, Array]:
        """Return voxel means of strain, stress (Pa) and accumulated plastic strain at the end of the path."""
        from msvae_voxelfe.nonlinear.plastic_path import Drive, StepError, path

        parameters, failures = interpolate(structures, np.array([phase.parameters for phase in self.phases]))
        if failures:
            raise DataError(f"no fields: {failures[0]}")
        drive = Drive(self.strains, self.component, self.free)
        try:
            *_, (cell, response, unit) = path(
                drive, parameters[0], structures.specification.grid.spacing, self.tolerance
            )
        except StepError as error:
            raise DataError(f"no fields: {error}") from None
        found = {
            "strain": cell.local_gradients(cell.u, cell.mean),
            "stress": unit * response.stress,
            "plastic strain": response.memory.accumulated[None],
        }
        grid = structures.specification.grid.shape
        return {name: values.mean(dim=1).T.reshape(*grid, -1).numpy() for name, values in found.items()}

    @classmethod
    def example(cls) -> Plasticity:
        hard, soft = PlasticPhase(70e9, 0.3, 200e6, 1e9), PlasticPhase(20e9, 0.3, 50e6, 0.0, 50e6, 20.0)
        return cls(phases=(hard, soft), strains=(0.002, 0.01))
