"""A block of biquadratic (Q2) quadrilaterals, one for each pixel, with some displacements prescribed.

Nodes are numbered along x first, from the bottom row up, so that the stiffness is a band of about four node rows,
which LAPACK factorises.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, solve_banded, solveh_banded

from msvae import Array

POINTS, WEIGHTS = np.polynomial.legendre.leggauss(3)


def _lagrange(x: Array) -> tuple[Array, Array]:
    """Return values and derivatives (3, n) of the quadratic Lagrange polynomials with nodes -1, 0, 1."""
    values = np.stack([x * (x - 1) / 2, 1 - x * x, x * (x + 1) / 2])
    return values, np.stack([x - 0.5, -2 * x, x + 0.5])


@dataclass(frozen=True, eq=False)
class Block:
    """The mesh of an image of ny x nx pixels with edge lengths hy, hx.

    dofs: (elements, 18), numbers of the unknowns of each element, node by node; elements from the bottom row up.
    gradient: (9 nodes, 9 points x 2), derivatives of the shape functions at the Gauss points.
    weight: (9,), area of each Gauss point.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    dofs: Array
    gradient: Array
    weight: Array
    band: Array
    lower: tuple[Array, Array]

    @classmethod
    def of(cls, shape: tuple[int, int], spacing: tuple[float, float]) -> Block:
        """Return the mesh of an image."""
        (ny, nx), (hy, hx) = shape, spacing
        width = 2 * nx + 1
        corner = (2 * np.arange(ny)[:, None] * width + 2 * np.arange(nx)[None]).ravel()
        nodes = corner[:, None] + np.array([b * width + a for b in range(3) for a in range(3)])
        dofs = (2 * nodes[:, :, None] + np.arange(2)).reshape(ny * nx, 18)
        value, slope = _lagrange(POINTS)
        along_x = np.einsum("bq,ap->baqp", value, slope) * (2 / hx)
        along_y = np.einsum("bq,ap->baqp", slope, value) * (2 / hy)
        gradient = np.stack([along_x, along_y], axis=-1).reshape(9, 18)
        weight = np.outer(WEIGHTS, WEIGHTS).ravel() * hx * hy / 4
        rows, columns = np.tril_indices(18)
        size = 2 * width * (2 * ny + 1)
        band = (dofs[:, rows] - dofs[:, columns]) * size + dofs[:, columns]  # dofs ascend with the local number
        return cls(shape, spacing, dofs, gradient, weight, band.ravel(), (rows, columns))

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return 2 * (2 * self.shape[1] + 1) * (2 * self.shape[0] + 1)

    @property
    def bandwidth(self) -> int:
        """Number of subdiagonals of the stiffness."""
        return 2 * (2 * (2 * self.shape[1] + 1) + 2) + 1

    def edge(self, name: str, component: int) -> Array:
        """Return the unknowns of an edge ("bottom", "top", "left", "right"): component 0 along x, 1 along y."""
        grid = np.arange(self.size // 2).reshape(2 * self.shape[0] + 1, 2 * self.shape[1] + 1)
        nodes = {"bottom": grid[0], "top": grid[-1], "left": grid[:, 0], "right": grid[:, -1]}[name]
        return np.asarray(2 * nodes + component)

    def centres(self, u: Array) -> Array:
        """Return the displacement (2, ny, nx) at the pixel centres, the image's first row at the top."""
        grid = u.reshape(2 * self.shape[0] + 1, 2 * self.shape[1] + 1, 2)[1::2, 1::2]
        return np.moveaxis(grid, -1, 0)[:, ::-1]

    def deformation(self, u: Array) -> Array:
        """Return deformation gradients F (elements, 9, 2, 2) at the Gauss points."""
        local = u[self.dofs].reshape(-1, 9, 2).swapaxes(1, 2)
        gradient = (local @ self.gradient).reshape(-1, 2, 9, 2).swapaxes(1, 2)
        return np.asarray(gradient + np.eye(2))

    def forces(self, stress: Array) -> Array:
        """Return the nodal forces (size,) of stresses P (elements, 9, 2, 2)."""
        weighted = (stress * self.weight[:, None, None]).swapaxes(1, 2).reshape(-1, 2, 18)
        local = (weighted @ self.gradient.T).swapaxes(1, 2).reshape(-1, 18)
        return np.bincount(self.dofs.ravel(), local.ravel(), minlength=self.size)

    def stiffness(self, tangent: Array) -> Array:
        """Return the lower band (bandwidth + 1, size) of the stiffness for tangents A (elements, 9, 2, 2, 2, 2)."""
        weighted = tangent * self.weight[:, None, None, None, None]
        points = self.gradient.reshape(9, 9, 2).transpose(1, 2, 0)  # (point, axis, node)
        right = weighted.reshape(-1, 9, 8, 2) @ points  # (element, point, iJk, node)
        right = right.reshape(-1, 9, 2, 2, 2, 9).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 18, 36)  # (point J, i k node)
        local = (self.gradient @ right).reshape(-1, 9, 2, 2, 9).transpose(0, 1, 2, 4, 3).reshape(-1, 18, 18)
        entries = local[:, self.lower[0], self.lower[1]].ravel()
        band = np.bincount(self.band, entries, minlength=(self.bandwidth + 1) * self.size)
        return band.reshape(self.bandwidth + 1, self.size)


def solve_constrained(band: Array, force: Array, fixed: Array) -> Array:
    """Return the solution of K x = force with x = 0 at the fixed unknowns; LinAlgError if K is singular.

    band: of K, which is overwritten. force: (size,), or (size, cases).

    Cholesky's factorisation where K is positive definite, else Gauss's elimination.
    """
    rows, size = band.shape
    for shift in range(rows):  # rows and columns of the fixed unknowns become those of the identity
        band[shift, fixed] = 0.0
        below = fixed - shift
        band[shift, below[below >= 0]] = 0.0
    band[0, fixed] = 1.0
    force = force.copy()
    force[fixed] = 0.0
    try:
        return np.asarray(solveh_banded(band, force, lower=True, check_finite=False))
    except LinAlgError:
        upper = np.zeros_like(band[1:])
        for shift in range(1, rows):
            upper[rows - 1 - shift, shift:] = band[shift, : size - shift]
        return np.asarray(solve_banded((rows - 1, rows - 1), np.concatenate([upper, band]), force, check_finite=False))
