"""Stress-strain curve of a periodic structure of elastic-plastic phases along a path of mean stress and strain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from msvae import Array, Properties, Quantity, Settings, Solver, Specification, Structures
from msvae_voxelfe.element import VOIGT, elastic_element, strain_operator
from msvae_voxelfe.j2 import History, Material, radial_return
from msvae_voxelfe.materials import interpolate
from msvae_voxelfe.tensor_backend import Operator

PLANE = {2: [0, 1, 5], 3: [0, 1, 2, 3, 4, 5]}  # places of the Voigt components among 11 22 33 23 13 12
NEWTON, KRYLOV = 12, 1e-3


class PlasticityError(RuntimeError):
    """Newton's method did not converge."""


@dataclass(frozen=True)
class PlasticPhase(Settings):
    """An elastic-plastic phase with yield stress y(a) = yield_stress + hardening a + saturation (1 - exp(-rate a)).

    youngs_modulus: in Pa, 0 for a pore. yield_stress, hardening, saturation: in Pa. rate: 1.
    """

    youngs_modulus: float
    poissons_ratio: float = 0.0
    yield_stress: float = float("inf")
    hardening: float = 0.0
    saturation: float = 0.0
    rate: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.youngs_modulus < np.inf or not -1 < self.poissons_ratio < 0.5:
            raise ValueError("youngs_modulus is a finite number of Pa >= 0, poissons_ratio above -1 and below 0.5")
        if not self.yield_stress > 0 or min(self.hardening, self.saturation, self.rate) < 0:
            raise ValueError("yield_stress is above 0; hardening, saturation and rate are not negative")

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
    tolerance: of the residual, relative to the energy of the driven strain. Unloading is a path like any other.
    """

    name = "plasticity"
    kinds = ("phases",)
    computes = (Quantity("stress", "Pa", ("steps", "v")), Quantity("strain", "1", ("steps", "v")))

    phases: tuple[PlasticPhase, ...]
    strains: tuple[float, ...] = (0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03)
    component: int = 0
    free: bool = True
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not self.phases or not self.strains:
            raise ValueError("phases and strains need at least one entry each")
        if not 0 <= self.component < 6 or not 0 < self.tolerance < 1:
            raise ValueError("component is a place from 0 to 5, tolerance between 0 and 1")

    def quantities(self, specification: Specification) -> tuple[Quantity, ...]:
        size = len(VOIGT[specification.grid.dimensions])
        return tuple(Quantity(q.name, q.unit, (len(self.strains), size)) for q in self.computes)

    def evaluate(self, structures: Structures) -> Properties:
        arrays = {q.name: np.full((len(structures), *q.sizes), np.nan)
                  for q in self.quantities(structures.specification)}  # fmt: skip
        fields = interpolate(structures, np.array([phase.parameters for phase in self.phases]))
        failures: dict[int, str] = {}
        iterations = np.zeros(len(structures), dtype=np.int64)
        for k, parameters in enumerate(fields):
            try:
                if parameters[1].max() <= 0:
                    raise PlasticityError("every voxel is empty: nothing carries the load")
                cell = Cell(parameters, structures.specification.grid.spacing)
                arrays["stress"][k], arrays["strain"][k], iterations[k] = self._curve(cell)
            except PlasticityError as error:
                failures[k] = str(error)
        return Properties(arrays, failures=failures, iterations=iterations)

    def _curve(self, cell: Cell) -> tuple[Array, Array, int]:
        if self.component >= cell.size:
            raise PlasticityError(f"component {self.component}: there are only {cell.size} in this dimension")
        fixed = np.ones(cell.size, dtype=bool) if not self.free else np.arange(cell.size) == self.component
        held = torch.as_tensor(fixed)
        stresses, strains = [], []
        for value in self.strains:
            target = torch.zeros(cell.size, dtype=torch.float64)
            target[self.component] = value
            stresses.append(cell.reach(target, held, self.tolerance).numpy() * cell.peak)
            strains.append(cell.mean.numpy().copy())
        return np.stack(stresses), np.stack(strains), cell.iterations

    @classmethod
    def example(cls) -> Plasticity:
        hard, soft = PlasticPhase(70e9, 0.3, 200e6, 1e9), PlasticPhase(20e9, 0.3, 50e6, 0.0, 50e6, 20.0)
        return cls(phases=(hard, soft), strains=(0.002, 0.01))


class Cell:
    """The state of one periodic structure: fluctuation, mean strain and history; `reach` takes it to the next load."""

    def __init__(self, parameters: Array, spacing: tuple[float, ...]) -> None:
        """parameters: (6, *grid); stresses are scaled by the largest shear modulus."""
        self.peak = float(parameters[1].max())
        scaled = parameters / np.array([self.peak] * 5 + [1.0]).reshape(-1, *(1,) * (parameters.ndim - 1))
        bulk, shear = scaled[0], scaled[1]
        self.operator = Operator(
            torch.as_tensor(np.stack([bulk - 2 * shear / 3, shear])[None]), elastic_element(spacing)
        )
        self.strain = torch.as_tensor(strain_operator(spacing))  # (points, v, A)
        self.size, self.places = self.strain.shape[1], PLANE[len(spacing)]
        points, voxels = self.strain.shape[0], int(np.prod(parameters.shape[1:]))
        self.material = Material(*(torch.as_tensor(p.reshape(1, -1)).expand(points, voxels) for p in scaled))
        zeros = torch.zeros(points, voxels, dtype=torch.float64)
        self.history = History(zeros.expand(6, points, voxels).clone(), zeros)
        d = len(spacing)
        self.u = torch.zeros(1, 1, d, *parameters.shape[1:], dtype=torch.float64)
        self.mean = torch.zeros(self.size, dtype=torch.float64)
        self.iterations = 0

    def reach(self, target: Tensor, held: Tensor, tolerance: float, *, halvings: int = 6) -> Tensor:
        """Bring the held mean strains to their target, the other mean stresses to zero; return the mean stress.

        A step that Newton's method cannot take is taken in halves.
        """
        before = self.u, self.mean, self.history
        try:
            return self._step(target, held, tolerance)
        except PlasticityError:
            if halvings == 0:
                raise
            self.u, self.mean, self.history = before
            middle = torch.where(held, (self.mean + target) / 2, target)
            self.reach(middle, held, tolerance, halvings=halvings - 1)
            return self.reach(target, held, tolerance, halvings=halvings - 1)

    def _step(self, target: Tensor, held: Tensor, tolerance: float) -> Tensor:
        self.mean = torch.where(held, target, self.mean)
        energy = 0.0
        for _ in range(NEWTON):
            stress, tangent, history = self.respond()
            force, mean_stress = self.forces(stress)
            rest = torch.where(held, torch.zeros_like(mean_stress), mean_stress)
            solved, first = self._linear(tangent, -force, -rest, held)
            energy = max(energy, float((self.mean * mean_stress).abs().sum()), 1e-30)
            if first <= tolerance**2 * energy:
                self.history = history
                return mean_stress
            self.u, self.mean = self.u + solved[0], self.mean + solved[1]
        raise PlasticityError(
            f"no equilibrium to {tolerance:g} in {NEWTON} Newton iterations: take smaller steps of strain"
        )

    def respond(self) -> tuple[Tensor, Tensor, History]:
        """Return stress (6, points, voxels), tangent (6, 6, points, voxels) and history at the present strain."""
        strain = torch.zeros(6, *self.history.accumulated.shape, dtype=torch.float64)
        strain[self.places] = self.strains(self.u, self.mean)
        return radial_return(strain, self.history, self.material)

    def strains(self, u: Tensor, mean: Tensor) -> Tensor:
        """Return the strain (v, points, voxels) of a fluctuation and a mean strain."""
        local = self.operator.gather(u)[0, 0].flatten(1)
        strain = (self.strain.flatten(0, 1) @ local).unflatten(0, self.strain.shape[:2]).movedim(0, 1)
        return cast(Tensor, strain + mean[:, None, None])

    def forces(self, stress: Tensor) -> tuple[Tensor, Tensor]:
        """Return nodal forces, per volume of a voxel and Gauss point, and the mean stress (v,)."""
        used = stress[self.places] if len(stress) == 6 else stress
        local = self.strain.flatten(0, 1).T @ used.movedim(1, 0).flatten(0, 1) / self.strain.shape[0]
        nodal = self.operator.scatter(local.unflatten(1, self.u.shape[3:])[None, None])
        return nodal, used.mean(dim=(1, 2))

    def _linear(
        self, tangent: Tensor, force: Tensor, rest: Tensor, held: Tensor
    ) -> tuple[tuple[Tensor, Tensor], float]:
        """Return the change of fluctuation and mean strain by conjugate gradients, and the residual's squared norm."""
        reduced = tangent[self.places][:, self.places]
        voxels = self.history.accumulated.shape[1]
        stiffness = reduced.mean(dim=(2, 3)) + 1e-12 * torch.eye(self.size, dtype=torch.float64)
        inverse = torch.zeros_like(stiffness)
        loose = torch.nonzero(~held)[:, 0]
        if len(loose):
            inverse[loose[:, None], loose] = torch.linalg.inv(stiffness[loose[:, None], loose])

        def precondition(r: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
            return self.operator.precondition(r) * self.operator.element.volume, inverse @ s

        x, e = torch.zeros_like(force), torch.zeros_like(rest)
        r, s = force, rest
        z, t = precondition(r, s)
        norm = first = float((r * z).sum()) / voxels + float(s @ t)
        p, q = z, t
        for _ in range(500):
            if norm <= KRYLOV**2 * first or norm <= 1e-30:
                break
            change = torch.einsum("kl...,l...->k...", reduced, self.strains(p, q))
            image, pull = self.forces(change)
            pull = torch.where(held, torch.zeros_like(pull), pull)
            length = norm / (float((p * image).sum()) / voxels + float(q @ pull))
            x, e = x + length * p, e + length * q
            r, s = r - length * image, s - length * pull
            z, t = precondition(r, s)
            previous, norm = norm, float((r * z).sum()) / voxels + float(s @ t)
            p, q = z + norm / previous * p, t + norm / previous * q
            self.iterations += 1
        return (x, e), first
