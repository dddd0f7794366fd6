"""The path of an elastic-plastic structure: equilibrium at one driven strain after the other, and its refinement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from msvae import Array
from msvae_voxelfe.cell import Cell, Response, StepError
from msvae_voxelfe.element import elastic_element, strain_operator
from msvae_voxelfe.j2 import History, Material, radial_return
from msvae_voxelfe.surplus_stress import StressSurplus
from msvae_voxelfe.tensor_backend import Operator

if TYPE_CHECKING:
    from msvae_voxelfe.plasticity import Plasticity

__all__ = ["Refinement", "StepError", "held", "path"]

PLANE = {2: [0, 1, 5], 3: [0, 1, 2, 3, 4, 5]}  # places of the Voigt components among 11 22 33 23 13 12


def path(solver: Plasticity, parameters: Array, spacing: tuple[float, ...]) -> Iterator[tuple[Cell, Response, float]]:
    """Yield the structure in equilibrium at each strain, its response, and the unit of stress in Pa."""
    unit = float(parameters[1].max())
    if unit <= 0:
        raise StepError("every voxel is empty: nothing carries the load")
    cell = _cell(parameters, spacing, unit)
    if solver.component >= cell.size:
        raise StepError(f"component {solver.component}: there are only {cell.size} in this dimension")
    for value in solver.strains:
        target = torch.zeros(cell.size, dtype=torch.float64)
        target[solver.component] = value
        yield cell, cell.reach(target, held(solver, cell.size), solver.tolerance), unit


def held(solver: Plasticity, size: int) -> Tensor:
    """Return which components (v,) of the mean strain are prescribed."""
    return torch.arange(size) == solver.component if solver.free else torch.ones(size, dtype=torch.bool)


class Refinement:
    """How much too large the driven stress is, step by step: the derivative of the work that finer voxels take away."""

    def __init__(self, component: int) -> None:
        self.component, self.stress, self.strain = component, torch.zeros(()), 0.0

    def after(self, cell: Cell, response: Response) -> float:
        """Return the estimate for the driven stress of one more step, in the unit of the response."""
        surplus = StressSurplus(cell.gradient, cell.grid)
        rise, strain = response.stress - self.stress, float(cell.mean[self.component])
        gain = surplus.work(response.stress, rise, response.tangent) / (strain - self.strain)
        self.stress, self.strain = response.stress, strain
        return abs(gain)


def _cell(parameters: Array, spacing: tuple[float, ...], peak: float) -> Cell:
    """Return the unloaded structure with parameters (6, *grid), stresses in units of `peak`."""
    scaled = parameters / np.array([peak] * 5 + [1.0]).reshape(-1, *(1,) * (parameters.ndim - 1))
    bulk, shear = scaled[0], scaled[1]
    operator = Operator(torch.as_tensor(np.stack([bulk - 2 * shear / 3, shear])[None]), elastic_element(spacing))
    strain = torch.as_tensor(strain_operator(spacing))
    points, places = len(strain), PLANE[len(spacing)]
    material = Material(*(torch.as_tensor(p.reshape(1, -1)).expand(points, bulk.size) for p in scaled))
    zeros = torch.zeros(points, bulk.size, dtype=torch.float64)

    def law(strains: Tensor, history: History) -> Response:
        whole = torch.zeros(6, *zeros.shape, dtype=torch.float64)
        whole[places] = strains
        stress, tangent, new = radial_return(whole, history, material)
        return Response(stress[places], tangent[places][:, places], new)

    unloaded = torch.zeros(strain.shape[1], dtype=torch.float64)
    return Cell(strain, operator, law, unloaded, History(zeros.expand(6, *zeros.shape).clone(), zeros))
