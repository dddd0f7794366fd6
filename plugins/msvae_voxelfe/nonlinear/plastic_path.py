"""The path of an elastic-plastic structure: equilibrium at one driven strain after the other, and its refinement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from msvae import Array
from msvae_voxelfe.backends.in_torch import Operator
from msvae_voxelfe.elements.stress_surplus import StressSurplus
from msvae_voxelfe.elements.trilinear import elastic_element, strain_operator
from msvae_voxelfe.materials.j2 import History, Material, radial_return
from msvae_voxelfe.nonlinear.cell import Cell, Response, StepError

__all__ = ["Drive", "Refinement", "StepError", "path"]

PLANE = {2: [0, 1, 5], 3: [0, 1, 2, 3, 4, 5]}  # places of the Voigt components among 11 22 33 23 13 12


@dataclass(frozen=True)
class Drive:
    """A load path: prescribed strains of one component; the others are free of stress, or of strain."""

    strains: Sequence[float]
    component: int
    free: bool

    def held(self, size: int) -> Tensor:
        """Return which components (v,) of the mean strain are prescribed."""
        return torch.arange(size) == self.component if self.free else torch.ones(size, dtype=torch.bool)


def path(
    drive: Drive, parameters: Array, spacing: tuple[float, ...], tolerance: float
) -> Iterator[tuple[Cell, Response, float]]:
    """Yield the structure in equilibrium at each strain, its response, and the unit of stress in Pa."""
    unit = float(parameters[1].max())
    if unit <= 0:
        raise StepError("every voxel is empty: nothing carries the load")
    cell = _cell(parameters, spacing, unit)
    if drive.component >= cell.size:
        raise StepError(f"component {drive.component}: there are only {cell.size} in this dimension")
    for value in drive.strains:
        target = torch.zeros(cell.size, dtype=torch.float64)
        target[drive.component] = value
        yield cell, cell.reach(target, drive.held(cell.size), tolerance), unit


class Refinement:
    """Discretisation error of the driven stress, step by step: the derivative of the work's estimated decrease."""

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
