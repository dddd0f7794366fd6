"""Effective properties of periodic voxel structures: batched conjugate gradients, matrix-free, in torch.

For each load case e_l the periodic fluctuation u_l minimises the energy of e_l + B u_l. The preconditioner is the exact
inverse of the same discrete operator for a homogeneous material, by FFT, so that the number of iterations does not grow
with the grid (Ladecky et al. 2023, Appl. Math. Comput. 446, 127835). Full integration keeps the operator's null space to
rigid motions, so pores of exactly zero stiffness converge too (Schneider 2017 and Lebensohn: under-integrated ones do not).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from msvae import Array
from torch import Tensor

from msvae_voxelfe.element import LinearElement, corners


@dataclass(frozen=True, eq=False)
class Effective:
    """Effective tensors (n, L, L), iterations (n,), and for each structure without a result the reason."""

    tensors: Array
    iterations: Array
    failures: dict[int, str]


def homogenize(material: Array, element: LinearElement, *, tolerance: float = 1e-6, limit: int = 2000,
               block_bytes: int = 1 << 26) -> Effective:
    """Return the effective tensors of structures.

    material: (n, m, *grid), the material fields of the element's unit laws, >= 0.
    tolerance: of the residual, in the preconditioner's norm and relative to the load's.
    block_bytes: memory of one vector of unknowns; larger batches are solved in blocks.
    """
    cases = element.load.shape[2]
    single = 8 * cases * element.stiffness.shape[1] * int(np.prod(material.shape[2:]))
    size = max(1, block_bytes // single)
    blocks = [_solve(torch.as_tensor(np.ascontiguousarray(material[i:i + size])), element, tolerance, limit)
              for i in range(0, len(material), size)]
    tensors = np.concatenate([np.zeros((0, cases, cases)), *(b[0] for b in blocks)])
    iterations = np.concatenate([np.zeros(0, dtype=np.int64), *(b[1] for b in blocks)])
    failures = {int(k): f"not converged to {tolerance:g} in {limit} iterations: raise the limit or the tolerance"
                for k in np.flatnonzero(iterations < 0)}
    tensors[iterations < 0] = np.nan
    return Effective(tensors, np.abs(iterations), failures)


def _solve(material: Tensor, element: LinearElement, tolerance: float, limit: int) -> tuple[Array, Array]:
    """Return tensors (n, L, L) and iterations (n,), negative where not converged, of one block."""
    operator = Operator(material, element)
    force = operator.load()
    fluctuation, residual, iterations = conjugate_gradients(operator, -force, tolerance, limit)
    # energy form: symmetric, and its error is quadratic in that of the fluctuation
    coupling = torch.einsum("nkx,nlx->nkl", force.flatten(2), fluctuation.flatten(2))
    defect = torch.einsum("nkx,nlx->nkl", fluctuation.flatten(2), residual.flatten(2))
    tensors = operator.average() + coupling - defect
    volume = element.volume * int(np.prod(material.shape[2:]))
    return (0.5 * (tensors + tensors.mT) / volume).numpy(), iterations.numpy()


class Operator:
    """K u = sum_voxels B^T D B u for unknowns u (n, L, components, *grid), and its homogeneous inverse."""

    def __init__(self, material: Tensor, element: LinearElement) -> None:
        self.material, self.element = material, element
        self.grid = tuple(material.shape[2:])
        self.axes = tuple(range(-len(self.grid), 0))
        self.corners = corners(len(self.grid))
        self.stiffness = torch.as_tensor(element.stiffness)
        self.inverse = self._homogeneous_inverse()

    def __call__(self, unknowns: Tensor) -> Tensor:
        gathered = self._gather(unknowns)
        forces = sum(self.material[:, j, None, None] * torch.einsum("ab,nlb...->nla...", stiffness, gathered)
                     for j, stiffness in enumerate(self.stiffness))
        return self._scatter(forces)  # type: ignore[arg-type]

    def load(self) -> Tensor:
        """Return the nodal forces (n, L, components, *grid) of the load cases without fluctuation."""
        unit = torch.as_tensor(self.element.load)
        return self._scatter(torch.einsum("jal,nj...->nla...", unit, self.material))

    def average(self) -> Tensor:
        """Return the energies (n, L, L) of the load cases without fluctuation."""
        sums = self.material.flatten(2).sum(dim=2)
        return torch.einsum("jkl,nj->nkl", torch.as_tensor(self.element.average), sums)

    def precondition(self, residual: Tensor) -> Tensor:
        """Return the solution of the homogeneous problem for a residual."""
        spectrum = torch.fft.rfftn(residual, dim=self.axes)
        solved = torch.einsum("nab...,nlb...->nla...", self.inverse, spectrum)
        return torch.fft.irfftn(solved, s=self.grid, dim=self.axes)

    def _gather(self, unknowns: Tensor) -> Tensor:
        """Return the unknowns (n, L, corners x components, *grid) at the corners of every voxel."""
        return torch.cat([torch.roll(unknowns, tuple(-o for o in corner), self.axes) for corner in self.corners], dim=2)

    def _scatter(self, forces: Tensor) -> Tensor:
        """Return the sum at every node of the forces at the corners of its voxels."""
        parts = forces.split(self.element.components, dim=2)
        return sum(torch.roll(part, corner, self.axes) for part, corner in zip(parts, self.corners, strict=True))  # type: ignore[return-value]

    def _homogeneous_inverse(self) -> Tensor:
        """Return the inverse symbol (n, components, components, *half grid) for the mean material; 0 for frequency 0."""
        c = self.element.components
        impulse = torch.zeros(1, c, c, *self.grid, dtype=torch.float64)
        impulse[(0, range(c), range(c), *([0] * len(self.grid)))] = 1.0
        gathered = self._gather(impulse)
        columns = [self._scatter(torch.einsum("ab,nlb...->nla...", k, gathered))[0] for k in self.stiffness]
        symbols = torch.stack([torch.fft.rfftn(column, dim=self.axes) for column in columns])  # (m, case, row, *half)
        reference = self.material.flatten(2).mean(dim=2)
        symbol = torch.einsum("nj,jba...->nab...", reference.to(symbols.dtype), symbols).movedim((1, 2), (-2, -1))
        symbol[(slice(None), *([0] * len(self.grid)))] = torch.eye(c, dtype=symbol.dtype)
        inverse = torch.linalg.inv(symbol).movedim((-2, -1), (1, 2)).contiguous()
        inverse[(slice(None), slice(None), slice(None), *([0] * len(self.grid)))] = 0.0
        return inverse


def conjugate_gradients(operator: Operator, force: Tensor, tolerance: float, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Solve K u = force for every structure and load case at once; return u, the residual, and iterations (n,).

    A case that has converged is frozen, so its result does not depend on its neighbours in the batch. The number of
    iterations is negative for structures of which a case did not converge.
    """
    solution, residual = torch.zeros_like(force), force.clone()
    direction = torch.zeros_like(force)
    previous = torch.ones(force.shape[:2], dtype=force.dtype)
    first: Tensor | None = None
    iterations = torch.zeros(len(force), dtype=torch.int64)
    for step in _counted(limit):
        solved = operator.precondition(residual)
        norm = _dot(residual, solved)
        first = norm if first is None else first
        active = norm > tolerance**2 * first
        if step == limit or not active.any():
            break
        iterations += active.any(dim=1)
        direction = solved + _spread(torch.where(active, norm / previous, 0.0), force) * direction
        image = operator(direction)
        length = torch.where(active, norm / _dot(direction, image), 0.0)
        solution = solution + _spread(length, force) * direction
        residual = residual - _spread(length, force) * image
        previous = torch.where(active, norm, 1.0)
    return solution, residual, torch.where(active.any(dim=1), -iterations - 1, iterations)


def _counted(limit: int) -> Iterator[int]:
    yield from range(limit + 1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(2).sum(dim=2)


def _spread(scalars: Tensor, like: Tensor) -> Tensor:
    return scalars.reshape(*scalars.shape, *(1,) * (like.ndim - 2))
