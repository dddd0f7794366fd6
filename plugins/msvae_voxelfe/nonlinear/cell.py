"""Equilibrium of one periodic structure of a nonlinear material along a path of mean stress and strain.

Trilinear elements; Newton's method, whose linear systems conjugate gradients solve with the homogeneous elastic problem
as preconditioner. "Gradient" stands for the argument of the material's law: the strain, or the deformation gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from msvae_voxelfe.backends.in_torch import Operator

NEWTON, KRYLOV, LONGEST = 12, 1e-3, 500


class StepError(RuntimeError):
    """Newton's method finds no equilibrium at the next load."""


@dataclass(frozen=True, eq=False)
class Response:
    """Stress (v, points, voxels), its derivative (v, v, points, voxels), and the memory that the state leaves."""

    stress: Tensor
    tangent: Tensor
    memory: Any = None


Law = Callable[[Tensor, Any], Response | None]
"""From a gradient (v, points, voxels) and the memory of the last equilibrium; None where it is inadmissible."""


class Cell:
    """The state of one periodic structure: fluctuation, mean gradient and memory; `reach` brings it to the next load.

    u: displacement fluctuation (1, 1, d, *grid). mean: mean gradient (v,). residual: squared norm of what is left of
    equilibrium, per volume, in the norm of the homogeneous elastic problem. iterations: of conjugate gradients.
    """

    def __init__(self, gradient: Tensor, operator: Operator, law: Law, origin: Tensor, memory: Any = None) -> None:
        """gradient: (points, v, A), from the displacements at a voxel's corners. origin: (v,), of the unloaded state.

        operator: of the elastic material, in the unit of stress that the law has.
        """
        self.gradient, self.operator, self.law = gradient, operator, law
        self.points, self.size = gradient.shape[:2]
        self.origin, self.mean, self.memory = origin, origin.clone(), memory
        self.grid = operator.grid
        self.u = torch.zeros(1, 1, len(self.grid), *self.grid, dtype=torch.float64)
        self.residual, self.iterations = 0.0, 0
        self.stiffness = torch.eye(self.size, dtype=torch.float64)

    def reach(self, target: Tensor, held: Tensor, tolerance: float, *, halvings: int = 6) -> Response:
        """Bring the held components of the mean gradient to their target, the other mean stresses to zero.

        A step that Newton's method cannot take is taken in halves. tolerance: of the residual's norm, relative to the
        root of the work that the mean stress does on the mean gradient. StepError if there is no equilibrium.
        """
        before = self.u, self.mean, self.memory
        try:
            return self._step(target, held, tolerance)
        except StepError:
            self.u, self.mean, self.memory = before
            if halvings == 0:
                raise
            middle = torch.where(held, (self.mean + target) / 2, target)
            self.reach(middle, held, tolerance, halvings=halvings - 1)
            return self.reach(target, held, tolerance, halvings=halvings - 1)

    def stress_error(self) -> Tensor:
        """Return the estimated errors (v,) of the mean stresses in the last equilibrium."""
        return (self.residual * self.stiffness.diagonal().clamp_min(0)).sqrt()

    def gradient_error(self, held: Tensor) -> Tensor:
        """Return the estimated errors (v,) of the mean gradient in the last equilibrium: none where it is held."""
        return (self.residual * self._loose_inverse(held).diagonal().clamp_min(0)).sqrt()

    def local_gradients(self, u: Tensor, mean: Tensor) -> Tensor:
        """Return the gradient (v, points, voxels) of a fluctuation and a mean."""
        local = self.operator.gather(u)[0, 0].flatten(1)
        own = (self.gradient.flatten(0, 1) @ local).unflatten(0, (self.points, self.size)).movedim(0, 1)
        return cast(Tensor, own + mean[:, None, None])

    def forces(self, stress: Tensor) -> tuple[Tensor, Tensor]:
        """Return nodal forces (1, 1, d, *grid), per volume of a voxel, and the mean stress (v,)."""
        local = self.gradient.flatten(0, 1).T @ stress.movedim(1, 0).flatten(0, 1) / self.points
        return self.operator.scatter(local.unflatten(1, self.grid)[None, None]), stress.mean(dim=(1, 2))

    def _step(self, target: Tensor, held: Tensor, tolerance: float) -> Response:
        self.mean = torch.where(held, target, self.mean)
        work = 0.0
        for _ in range(NEWTON):
            response = self.law(self.local_gradients(self.u, self.mean), self.memory)
            if response is None:
                break
            force, stress = self.forces(response.stress)
            self.stiffness = response.tangent.mean(dim=(2, 3)) + 1e-12 * torch.eye(self.size, dtype=torch.float64)
            rest = torch.where(held, torch.zeros_like(stress), stress)
            work = max(work, float(((self.mean - self.origin) * stress).abs().sum()), 1e-30)
            system = System(self, response.tangent, self._loose_inverse(held), held)
            self.residual = system.product((force, rest), system.precondition((force, rest)))
            if self.residual <= tolerance**2 * work:
                self.memory = response.memory
                return response
            change, used = system.solve((-force, -rest))
            self.iterations += used
            self.u, self.mean = self.u + change[0], self.mean + change[1]
        raise StepError(f"no equilibrium to {tolerance:g} in {NEWTON} Newton iterations: take smaller steps of load")

    def _loose_inverse(self, held: Tensor) -> Tensor:
        """Return the compliance (v, v) of the mean material in the components that are not held, 0 in the others."""
        inverse = torch.zeros_like(self.stiffness)
        loose = torch.nonzero(~held)[:, 0]
        if len(loose):
            inverse[loose[:, None], loose] = torch.linalg.inv(self.stiffness[loose[:, None], loose])
        return inverse


Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class System:
    """The linear system of one Newton step, for the change of the fluctuation and of the mean gradient."""

    cell: Cell
    tangent: Tensor
    compliance: Tensor
    held: Tensor

    def product(self, a: Pair, b: Pair) -> float:
        """Return the product of two vectors per voxel."""
        return float((a[0] * b[0]).sum()) / self.tangent.shape[-1] + float(a[1] @ b[1])

    def precondition(self, r: Pair) -> Pair:
        """Return the change that brings a homogeneous elastic structure to equilibrium."""
        operator = self.cell.operator
        return operator.precondition(r[0]) * operator.element.volume, self.compliance @ r[1]

    def apply(self, p: Pair) -> Pair:
        """Return the change of the forces and of the free mean stresses."""
        change = torch.einsum("kl...,l...->k...", self.tangent, self.cell.local_gradients(*p))
        image, pull = self.cell.forces(change)
        return image, torch.where(self.held, torch.zeros_like(pull), pull)

    def solve(self, right: Pair) -> tuple[Pair, int]:
        """Return the solution by conjugate gradients, and their iterations."""
        x, r = (torch.zeros_like(right[0]), torch.zeros_like(right[1])), right
        z = self.precondition(r)
        norm = first = self.product(r, z)
        p, used = z, 0
        while used < LONGEST and norm > max(KRYLOV**2 * first, 1e-30):
            image = self.apply(p)
            curvature = self.product(p, image)
            if curvature <= 0:  # the material has lost its stability along this direction
                break
            x, r = _moved(x, norm / curvature, p), _moved(r, -norm / curvature, image)
            z = self.precondition(r)
            previous, norm = norm, self.product(r, z)
            p, used = _moved(z, norm / previous, p), used + 1
        return x, used


def _moved(a: Pair, length: float, b: Pair) -> Pair:
    return a[0] + length * b[0], a[1] + length * b[1]
