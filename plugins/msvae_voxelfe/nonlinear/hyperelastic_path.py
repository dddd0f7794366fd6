"""The path of a Neo-Hookean structure: equilibrium at one mean deformation after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from msvae import Array
from msvae_voxelfe.backends.in_torch import Operator
from msvae_voxelfe.elements.stress_surplus import StressSurplus
from msvae_voxelfe.elements.trilinear import elastic_element, shape_gradients
from msvae_voxelfe.materials import neo_hookean
from msvae_voxelfe.nonlinear.cell import Cell, Law, Response, StepError

__all__ = ["State", "StepError", "path"]


def path(
    deformation: Array, steps: Sequence[float], lame: Array, spacing: tuple[float, ...], tolerance: float
) -> Iterator[State]:
    """Yield the structure with Lame's parameters (2, *grid) in Pa in equilibrium at each of the steps.

    deformation: the mean deformation gradient (3, 3) at step 1.
    """
    d = len(spacing)
    state = State.unloaded(lame, spacing)
    rise = torch.as_tensor(deformation[:d, :d] - np.eye(d)).flatten()
    held = torch.ones(d * d, dtype=torch.bool)
    for part in steps:
        state.response = state.cell.reach(state.cell.origin + part * rise, held, tolerance)
        yield state


@dataclass(eq=False)
class State:
    """One structure under load: its cell, its moduli (points, voxels) in units of `unit` (Pa), its last response."""

    cell: Cell
    moduli: list[Array]
    unit: float
    spacing: tuple[float, ...]
    response: Response

    @classmethod
    def unloaded(cls, lame: Array, spacing: tuple[float, ...]) -> State:
        """Return the unloaded structure with Lame's parameters (2, *grid) in Pa."""
        unit, d = float(lame[1].max()), len(spacing)
        scaled = lame / unit
        moduli = [np.broadcast_to(p.reshape(1, -1), (2**d, p.size)) for p in scaled]
        operator = Operator(torch.as_tensor(np.ascontiguousarray(scaled[None])), elastic_element(spacing))
        origin = torch.eye(d, dtype=torch.float64).flatten()
        empty = torch.zeros(0)
        return cls(Cell(_gradient_operator(spacing), operator, _law(*moduli), origin), moduli, unit, spacing,
                   Response(empty, empty))  # fmt: skip

    def energy(self) -> float:
        """Return the mean strain energy per volume, in units of `unit`."""
        return float(neo_hookean.energy(_matrices(self.cell.local_gradients(self.cell.u, self.cell.mean)),
                                        *self.moduli).mean())  # fmt: skip

    def refinement(self) -> float:
        """Return the estimated decrease on finer voxels of twice the energy per volume, in units of `unit`."""
        surplus = StressSurplus(self.cell.gradient, self.cell.grid)
        return surplus.work(self.response.stress, self.response.stress, self.response.tangent)

    def displacement(self) -> Array:
        """Return the displacements (d, *grid) at the voxel centres, in m; the corner of the grid is the origin."""
        d = len(self.spacing)
        fluctuation = self.cell.operator.gather(self.cell.u)[0, 0].unflatten(0, (-1, d)).mean(dim=0)
        shift = (self.cell.mean - self.cell.origin).reshape(d, d).numpy()
        axes = ((np.arange(n) + 0.5) * h for n, h in zip(self.cell.grid, self.spacing, strict=True))
        affine = np.tensordot(shift, np.stack(np.meshgrid(*axes, indexing="ij")), axes=1)
        moved: Array = (fluctuation - fluctuation.flatten(1).mean(dim=1).reshape(d, *(1,) * d)).numpy()
        return np.asarray(affine + moved)

    def displacement_error(self) -> float:
        """Return the estimated error of the displacements, in m: Poincare's bound of that of their gradients."""
        modulus = float(self.cell.stiffness.diagonal().mean())
        longest = max(n * h for n, h in zip(self.cell.grid, self.spacing, strict=True))
        return longest / (2 * np.pi) * float(np.sqrt(self.cell.residual / modulus))


def _gradient_operator(spacing: tuple[float, ...]) -> Tensor:
    """Return the operator (points, d d, A) from the displacements at a voxel's corners to their gradients du_i/dX_J."""
    slopes, d = shape_gradients(spacing), len(spacing)
    whole = np.einsum("qaJ,ik->qiJak", slopes, np.eye(d))
    return torch.as_tensor(np.ascontiguousarray(whole.reshape(len(slopes), d * d, -1)))


def _matrices(gradients: Tensor) -> Array:
    """Return deformation gradients (d d, points, voxels) as (points, voxels, d, d)."""
    d = 2 if len(gradients) == 4 else 3
    whole: Array = gradients.numpy()
    return np.asarray(np.moveaxis(whole.reshape(d, d, *whole.shape[1:]), (0, 1), (-2, -1)))


def _law(lam: Array, mu: Array) -> Law:
    """Return the law of a structure with these moduli (points, voxels)."""

    def law(gradients: Tensor, _: object) -> Response | None:
        f = _matrices(gradients)
        if neo_hookean.determinant(f)[mu > 0].min() <= 0:
            return None
        stress, tangent = neo_hookean.stress_and_tangent(f, lam, mu)
        size = len(gradients)
        stress, tangent = stress.reshape(*lam.shape, size), tangent.reshape(*lam.shape, size, size)
        return Response(
            torch.as_tensor(np.ascontiguousarray(np.moveaxis(stress, -1, 0))),
            torch.as_tensor(np.ascontiguousarray(np.moveaxis(tangent, (-2, -1), (0, 1)))),
        )

    return law
