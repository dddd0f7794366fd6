"""Homogenization in torch: the same mathematics as the compiled kernels, batched, on any device.

It is what runs where there is no C compiler, and the reference that the kernels are tested against.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from msvae import Array
from msvae_voxelfe.elements.discretisation import estimate
from msvae_voxelfe.elements.trilinear import LinearElement, corners


def solve_batch(
    material: Array,
    element: LinearElement,
    tolerance: float,
    limit: int,
    block_bytes: int = 1 << 26,
    *,
    refine: bool = True,
) -> tuple[Array, Array, Array, Array]:
    """Return tensors, errors by iteration and by refinement (n, L, L), iterations (n,) negative where not converged.

    In blocks that fit memory. refine: whether the error by refinement is estimated, else it is 0.
    """
    cases = element.load.shape[2]
    single = 8 * cases * element.stiffness.shape[1] * int(np.prod(material.shape[2:]))
    size = max(1, block_bytes // single)
    blocks = [
        _solve(torch.as_tensor(np.ascontiguousarray(material[i : i + size])), element, tolerance, limit, refine)
        for i in range(0, len(material), size)
    ]
    tensors, errors, finer, iterations = (np.concatenate([block[k] for block in blocks]) for k in range(4))
    return tensors, errors, finer, iterations


def _solve(
    material: Tensor, element: LinearElement, tolerance: float, limit: int, refine: bool
) -> tuple[Array, Array, Array, Array]:
    """Return what `solve_batch` does for one block."""
    operator = Operator(material, element)
    force = operator.load()
    average = operator.average()
    goals = tolerance**2 * average.diagonal(dim1=1, dim2=2)
    fluctuation, residual, iterations = conjugate_gradients(operator, -force, goals, limit)
    # energy form: symmetric, and its error is quadratic in that of the fluctuation
    coupling = torch.einsum("nkx,nlx->nkl", force.flatten(2), fluctuation.flatten(2))
    defect = torch.einsum("nkx,nlx->nkl", fluctuation.flatten(2), residual.flatten(2))
    tensors = average + coupling - defect
    volume = element.volume * int(np.prod(material.shape[2:]))
    norms = _dot(residual, operator.precondition(residual)).clamp_min(0).sqrt()
    errors = norms[:, :, None] * norms[:, None] / volume
    finer = np.stack([
        estimate(one, element, lambda planes, u=u: u[:, :, planes])  # type: ignore[misc]
        for one, u in zip(material.numpy(), fluctuation.numpy(), strict=True)
    ]) if refine else np.zeros(tensors.shape)  # fmt: skip
    return (0.5 * (tensors + tensors.mT) / volume).numpy(), errors.numpy(), finer, iterations.numpy()


def fluctuations(material: Array, element: LinearElement, tolerance: float, limit: int) -> Array:
    """Return the fluctuations (L, components, *grid) of one structure's load cases; material: (m, *grid)."""
    operator = Operator(torch.as_tensor(np.ascontiguousarray(material[None])), element)
    goals = tolerance**2 * operator.average().diagonal(dim1=1, dim2=2)
    solved, _, _ = conjugate_gradients(operator, -operator.load(), goals, limit)
    return np.asarray(solved[0])


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
        gathered = self.gather(unknowns)
        forces = sum(
            self.material[:, j, None, None] * torch.einsum("ab,nlb...->nla...", stiffness, gathered)
            for j, stiffness in enumerate(self.stiffness)
        )
        return self.scatter(cast(Tensor, forces))

    def load(self) -> Tensor:
        """Return the nodal forces (n, L, components, *grid) of the load cases without fluctuation."""
        unit = torch.as_tensor(self.element.load)
        return self.scatter(torch.einsum("jal,nj...->nla...", unit, self.material))

    def average(self) -> Tensor:
        """Return the energies (n, L, L) of the load cases without fluctuation."""
        sums = self.material.flatten(2).sum(dim=2)
        return torch.einsum("jkl,nj->nkl", torch.as_tensor(self.element.average), sums)

    def precondition(self, residual: Tensor) -> Tensor:
        """Return the solution of the homogeneous problem for a residual."""
        spectrum = torch.fft.rfftn(residual, dim=self.axes)
        solved = torch.einsum("nab...,nlb...->nla...", self.inverse, spectrum)
        return cast(Tensor, torch.fft.irfftn(solved, s=self.grid, dim=self.axes))

    def gather(self, unknowns: Tensor) -> Tensor:
        """Return the unknowns (n, L, corners x components, *grid) at the corners of every voxel."""
        return torch.cat([torch.roll(unknowns, tuple(-o for o in corner), self.axes) for corner in self.corners], dim=2)

    def scatter(self, forces: Tensor) -> Tensor:
        """Return the sum at every node of the forces at the corners of its voxels."""
        parts = forces.split(self.element.components, dim=2)
        rolled = [torch.roll(part, corner, self.axes) for part, corner in zip(parts, self.corners, strict=True)]
        return torch.stack(rolled).sum(dim=0)

    def _homogeneous_inverse(self) -> Tensor:
        """Return the inverse symbol (n, components, components, *half) for the mean material; 0 at frequency 0."""
        c = self.element.components
        impulse = torch.zeros(1, c, c, *self.grid, dtype=torch.float64)
        origin: tuple[Any, ...] = (0,) * len(self.grid)
        for k in range(c):
            impulse[(0, k, k, *origin)] = 1.0
        gathered = self.gather(impulse)
        columns = [self.scatter(torch.einsum("ab,nlb...->nla...", k, gathered))[0] for k in self.stiffness]
        symbols = torch.stack([torch.fft.rfftn(column, dim=self.axes) for column in columns])  # (m, case, row, *half)
        reference = self.material.flatten(2).mean(dim=2)
        symbol = torch.einsum("nj,jba...->nab...", reference.to(symbols.dtype), symbols).movedim((1, 2), (-2, -1))
        symbol[(slice(None), *origin)] = torch.eye(c, dtype=symbol.dtype)
        inverse = torch.linalg.pinv(symbol, hermitian=True, rtol=1e-10).movedim((-2, -1), (1, 2)).contiguous()
        inverse[(slice(None), slice(None), slice(None), *origin)] = 0.0
        return cast(Tensor, inverse)


def conjugate_gradients(operator: Operator, force: Tensor, goals: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Solve K u = force for every structure and load case at once; return u, the residual, and iterations (n,).

    goals: squared norm (n, L) of the residual, in the preconditioner's norm, at which a case has converged. It is then
    frozen, so that its result does not depend on its neighbours. Iterations are negative where a case did not converge.
    """
    solution, residual = torch.zeros_like(force), force.clone()
    direction = torch.zeros_like(force)
    previous = torch.ones(force.shape[:2], dtype=force.dtype)
    iterations = torch.zeros(len(force), dtype=torch.int64)
    for step in range(limit + 1):
        solved = operator.precondition(residual)
        norm = _dot(residual, solved)
        active = norm > goals
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


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(2).sum(dim=2)


def _spread(scalars: Tensor, like: Tensor) -> Tensor:
    return scalars.reshape(*scalars.shape, *(1,) * (like.ndim - 2))
