"""Electrical impedance tomography as a forward model of images, with gradients by the adjoint equations."""

from __future__ import annotations

import math
from typing import Any, final

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from msvae import Array, Grid, PluginError, StudyError
from msvae_inversion.invert import Forward
from msvae_inversion.models.electrodes import System, complete, continuum, corners, facets_of, points
from msvae_inversion.models.forward import ForwardModel

__all__ = ["Solved", "Tomography", "gradient", "sensitivity", "solved", "tomography"]

SAMPLES = 24  # points of an element, at least, over which the image is averaged
LEAST = 1e-3  # conductivity, as a share of the lower one of the settings, below which it is cut

Solved = tuple[Array, Any]  # potentials (N, j), and the factorised matrix


def solved(system: System, conductivity: Array) -> Solved:
    """Return the potentials (N, j) for conductivities (e,), with 0 at the first unknown."""
    size = len(system.loads)
    values = conductivity[:, None, None] * system.local
    b = system.unknowns.shape[1]
    rows, columns = np.repeat(system.unknowns, b, axis=1).ravel(), np.tile(system.unknowns, (1, b)).ravel()
    matrix = sparse.csc_matrix((values.ravel(), (rows, columns)), (size, size)) + system.fixed
    factors = splu(matrix[1:, 1:], permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.0)
    potentials = np.zeros_like(system.loads)
    potentials[1:] = factors.solve(np.ascontiguousarray(system.loads[1:]))
    return potentials, factors


def gradient(system: System, found: Solved, cotangent: Array) -> Array:
    """Return the derivatives (e,) by conductivities of <cotangent, observe u>. cotangent: (q, j)."""
    potentials, factors = found
    adjoint = np.zeros_like(potentials)
    adjoint[1:] = factors.solve(np.ascontiguousarray((system.observe.T @ cotangent)[1:]))
    own, other = potentials[system.unknowns], adjoint[system.unknowns]
    return -np.asarray(np.einsum("eaj,eab,ebj->e", other, system.local, own, optimize=True))


def sensitivity(system: System, found: Solved) -> Array:
    """Return the derivatives (j q, e) of data by conductivities (e,), by the adjoint equations of all sensors."""
    potentials, factors = found
    adjoint = np.zeros((len(potentials), len(system.observe)))
    adjoint[1:] = factors.solve(np.ascontiguousarray(system.observe.T[1:]))
    own, other = potentials[system.unknowns], adjoint[system.unknowns]
    slopes = np.einsum("eaq,eab,ebj->jqe", other, system.local, own, optimize=True)
    return -np.asarray(slopes.reshape(-1, len(own)))


class _Measured(torch.autograd.Function):
    """Forward: what is measured for conductivities of pixels (n, p). Backward: by the adjoint equations."""

    @staticmethod
    def forward(context: Any, conductivity: Tensor, average: Any, system: System) -> Tensor:
        context.found = [solved(system, average @ values) for values in conductivity.detach().double().numpy()]
        context.average, context.system = average, system
        data = np.stack([(system.observe @ u).T.ravel() for u, _ in context.found])
        return torch.as_tensor(data, dtype=conductivity.dtype)

    @staticmethod
    def backward(context: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        system, shape = context.system, (context.system.loads.shape[1], len(context.system.observe))
        slopes = [
            context.average.T @ gradient(system, found, row.reshape(shape).T)
            for found, row in zip(context.found, cotangents[0].double().numpy(), strict=True)
        ]
        return torch.as_tensor(np.stack(slopes), dtype=cotangents[0].dtype), None, None


@final
class Tomography(ForwardModel):
    """The potentials along the boundary under several currents, of images whose values stand for conductivities."""

    def __init__(self, settings: Forward, grid: Grid, cells: int) -> None:
        if grid.dimensions != 2 or grid.shape[0] != grid.shape[1]:
            raise StudyError(f"forward.name = 'tomography' is of square images, found a grid of {list(grid.shape)}")
        self.settings, self.grid = settings, grid
        self.system, mesh = _system(settings, cells)
        self.average = _averages(mesh, grid.shape[0], cells)
        self.low, self.high = settings.conductivity

    def __call__(self, images: Tensor) -> Tensor:
        return _Measured.apply(self._pixels(images), self.average, self.system)  # type: ignore[no-any-return,no-untyped-call]

    @torch.no_grad()
    def derivatives(self, image: Tensor, directions: Tensor) -> Tensor:
        pixels = self._pixels(image[None])[0]
        moved = (self.high - self.low) * directions.flatten(1) * (pixels > self._least)
        by_element = sensitivity(self.system, solved(self.system, self.average @ pixels.double().numpy()))
        return torch.as_tensor(by_element @ (self.average @ moved.double().numpy().T), dtype=image.dtype)

    def _pixels(self, images: Tensor) -> Tensor:
        """Return the conductivities (n, p) of images (n, *grid)."""
        return (self.low + (self.high - self.low) * images.flatten(1)).clamp_min(self._least)

    @property
    def _least(self) -> float:
        return LEAST * min(self.low, self.high)

    def for_data(self) -> ForwardModel:
        return Tomography(self.settings, self.grid, self.settings.cells[1])


def tomography(settings: Forward, grid: Grid) -> ForwardModel:
    """Return the model for reconstructions; PluginError without scikit-fem."""
    try:
        import skfem  # noqa: F401
    except ImportError:
        raise PluginError("forward.name = 'tomography' needs scikit-fem: pip install 'msvae[part]'") from None
    return Tomography(settings, grid, settings.cells[0])


def _system(settings: Forward, cells: int) -> tuple[System, Any]:
    from skfem import ElementTriP2, MeshTri

    line = np.linspace(0, 1, cells + 1)
    mesh, element = MeshTri.init_tensor(line, line), ElementTriP2()
    if settings.electrodes == "continuum":
        return continuum(mesh, element, currents=settings.currents, sensors=settings.sensors), mesh
    if settings.electrodes == "points":
        where = corners(4.0 * (np.arange(settings.sensors) + 0.5) / settings.sensors)
        nodes = np.array([int(((mesh.p - x[:, None]) ** 2).sum(axis=0).argmin()) for x in where.T])
        if len(set(nodes.tolist())) < len(nodes):
            raise StudyError(
                f"forward.cells: {cells} cells along an edge are too few for {settings.sensors} electrodes: take more"
            )
        return points(mesh, element, nodes, currents=settings.currents), mesh
    electrodes = facets_of(mesh, settings.sensors, settings.cover)
    if not all(len(own) for own in electrodes):
        raise StudyError(
            f"forward.cells: {cells} cells along an edge are too few for {settings.sensors} electrodes: take more"
        )
    return complete(mesh, element, electrodes, impedance=settings.impedance, currents=settings.currents), mesh


def _averages(mesh: Any, pixels: int, cells: int) -> Any:
    """Return the shares (e, p) of pixels in the elements of a mesh of the unit square; rows of pixels are along y.

    Two triangles share a cell, and a point in it belongs to that with the nearer centre.
    """
    fine = max(1, math.ceil(math.sqrt(2 * SAMPLES) * cells / pixels))
    place = (np.arange(fine * pixels) + 0.5) / (fine * pixels)
    y, x = (axis.ravel() for axis in np.meshgrid(place, place, indexing="ij"))
    centres = mesh.p[:, mesh.t].mean(axis=1)
    cell = (centres * cells).astype(int)
    pairs = np.argsort(cell[1] * cells + cell[0], kind="stable").reshape(-1, 2)
    own = pairs[(y * cells).astype(int) * cells + (x * cells).astype(int)]
    far = [(centres[0, own[:, k]] - x) ** 2 + (centres[1, own[:, k]] - y) ** 2 for k in (0, 1)]
    elements = own[np.arange(len(x)), (far[1] < far[0]).astype(int)]
    pixel = (y * pixels).astype(int) * pixels + (x * pixels).astype(int)
    counts = sparse.csr_matrix((np.ones(len(x)), (elements, pixel)), (mesh.t.shape[1], pixels**2))
    return sparse.diags(1 / np.maximum(counts.sum(axis=1).A1, 1)) @ counts
