"""Effective tensors under uniform conditions on all sides of an image, which bracket that of the material.

Sides that move as in a homogeneous material give an upper bound, sides that bear the stress (or flux) of one a lower
bound (Huet 1990, J. Mech. Phys. Solids 38, 813). A layer of empty voxels closes the periodic grid, so that an image of
n voxels has n + 1 nodes along an axis; torch, in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from msvae import Array
from msvae_voxelfe.backends.in_torch import Operator, conjugate_gradients
from msvae_voxelfe.elements.discretisation import estimate_of_image
from msvae_voxelfe.elements.trilinear import LinearElement, corners
from msvae_voxelfe.kernels.threads import single_threaded_libraries
from msvae_voxelfe.linear.homogenization import Effective, judged, with_affine

OPEN_PORES = "pores reach the sides, which cannot bear a uniform traction or flux: the lower bound is 0"


@dataclass(frozen=True, eq=False)
class Solution:
    """Of one structure: the tensor (L, L), errors (L, L) left by iterations, iterations, negative if not converged.

    fluctuations (L, components, *nodes): of load cases whose mean gradient is a unit.
    """

    tensor: Array
    error: Array
    iterations: int
    fluctuations: Array


def effective(material: Array, element: LinearElement, *, traction: bool, tolerance: float, limit: int) -> Effective:
    """Return the tensors of structures with material fields (n, m, *grid). traction: or flux; else displacement."""
    cases = element.load.shape[2]
    tensors, errors, refinement = np.full((3, len(material), cases, cases), np.nan)
    iterations = np.zeros(len(material), dtype=np.int64)
    closed = [k for k, one in enumerate(material) if not (traction and has_open_pores(one))]
    for k in closed:
        found = solution(material[k], element, traction=traction, tolerance=tolerance, limit=limit)
        tensors[k], errors[k], iterations[k] = found.tensor, found.error, found.iterations
        refinement[k] = estimated_refinement(material[k], element, found, traction=traction)
    failures = {k: OPEN_PORES for k in range(len(material)) if k not in closed}
    return judged(Effective(tensors, errors, refinement, iterations, failures), tolerance, limit)


def estimated_refinement(material: Array, element: LinearElement, found: Solution, *, traction: bool) -> Array:
    """Return the estimated excess (L, L) of the tensor of one structure (m, *grid) over that of finer voxels.

    Under tractions the compliance K^-1 is the energy that grows with the refinement, by d: K^-1 becomes K^-1 + d, and
    the tensor changes by K d K.
    """
    padded = np.pad(material, [(0, 0)] + [(0, 1)] * (material.ndim - 1))
    share = padded[0].size / material[0].size
    stress = found.tensor if traction else None
    return np.asarray(estimate_of_image(padded, element, found.fluctuations, stress) * share)


def has_open_pores(material: Array) -> bool:
    """Return whether a voxel at one of the sides of a structure (m, *grid) is empty."""
    last = material[-1]
    return any((np.take(last, side, axis) <= 0).any() for axis in range(last.ndim) for side in (0, -1))


def displacements(material: Array, element: LinearElement, *, traction: bool, tolerance: float, limit: int) -> Array:
    """Return the unknowns (L, A, *grid) at the corners of every voxel of one structure (m, *grid), under unit means."""
    nodes = solution(material, element, traction=traction, tolerance=tolerance, limit=limit).fluctuations
    shape = material.shape[1:]
    places = (tuple(slice(o, o + n) for o, n in zip(c, shape, strict=True)) for c in corners(len(shape)))
    return with_affine(element, np.concatenate([nodes[(slice(None), slice(None), *place)] for place in places], axis=1))


def solution(material: Array, element: LinearElement, *, traction: bool, tolerance: float, limit: int) -> Solution:
    """Return the solution of one structure with material fields (m, *grid)."""
    with single_threaded_libraries():
        solve = _under_traction if traction else _under_displacement
        return solve(Sides(material, element, fixed=not traction), tolerance, limit)


class Sides(Operator):
    """The operator of a structure within empty voxels. fixed: whether the nodes on its sides are."""

    def __init__(self, material: Array, element: LinearElement, *, fixed: bool = False) -> None:
        padded = np.pad(material, [(0, 0)] + [(0, 1)] * (material.ndim - 1))
        super().__init__(torch.as_tensor(padded[None]), element)
        self.inside = material.shape[1:]
        self.volume = element.volume * float(np.prod(self.inside))
        self.inner = torch.ones(self.grid, dtype=torch.float64)
        if fixed:
            for axis in range(len(self.grid)):
                for side in (0, -1):
                    self.inner.select(axis, side).zero_()

    def __call__(self, unknowns: Tensor) -> Tensor:
        return super().__call__(unknowns) * self.inner

    def precondition(self, residual: Tensor) -> Tensor:
        return super().precondition(residual) * self.inner

    def tractions(self) -> Tensor:
        """Return the nodal forces (1, L, components, *grid) of unit mean stresses on the sides."""
        unit = torch.as_tensor(self.element.volume * self.element.gradient)  # (L, A)
        spread = torch.zeros(1, *unit.shape, *self.grid, dtype=torch.float64)
        spread[(slice(None), slice(None), slice(None), *(slice(n) for n in self.inside))] = unit.reshape(
            1, *unit.shape, *(1,) * len(self.grid)
        )
        return self.scatter(spread)


def _products(a: Tensor, b: Tensor) -> Array:
    return np.asarray(torch.einsum("kx,lx->kl", a[0].flatten(1), b[0].flatten(1)))


def _under_displacement(sides: Sides, tolerance: float, limit: int) -> Solution:
    load, average = sides.load() * sides.inner, sides.average()
    goals = tolerance**2 * average.diagonal(dim1=1, dim2=2)
    u, residual, iterations = conjugate_gradients(sides, -load, goals, limit)
    energies = average[0].numpy() + _products(load, u) - _products(u, residual)
    norms = np.sqrt(np.abs(np.diag(_products(residual, sides.precondition(residual)))))
    return Solution(energies / sides.volume, np.outer(norms, norms) / sides.volume, int(iterations[0]), u[0].numpy())


def _under_traction(sides: Sides, tolerance: float, limit: int) -> Solution:
    load = sides.tractions()
    start = torch.einsum("nlx,nlx->nl", load.flatten(2), sides.precondition(load).flatten(2))
    u, residual, iterations = conjugate_gradients(sides, load, tolerance**2 * start, limit)
    compliance = (_products(load, u) + _products(u, residual)) / sides.volume
    tensor = np.linalg.inv(0.5 * (compliance + compliance.T))
    norms = np.sqrt(np.abs(np.diag(_products(residual, sides.precondition(residual)))))
    error = np.abs(tensor) @ (np.outer(norms, norms) / sides.volume) @ np.abs(tensor)
    unit = torch.einsum("kl,nl...->nk...", torch.as_tensor(tensor), u)[0].numpy()  # of unit mean gradients
    return Solution(tensor, error, int(iterations[0]), unit - _affine(sides))


def _affine(sides: Sides) -> Array:
    """Return the unknowns (L, components, *nodes) of homogeneous unit gradients."""
    d, components = len(sides.grid), sides.element.components
    slope = with_affine(sides.element, np.zeros((sides.element.load.shape[2], 2**d * components, *(1,) * d)))
    last = slope.reshape(len(slope), 2**d, components)
    axes = [last[:, 2 ** (d - 1 - axis)] - last[:, 0] for axis in range(d)]  # from a node to the next along each axis
    places = np.stack(np.meshgrid(*(np.arange(n) for n in sides.grid), indexing="ij"))
    return np.asarray(np.einsum("alc,a...->lc...", np.stack(axes), places))
