"""Homogenization with the compiled kernels: one load case at a time, everything in cache.

Conjugate gradients run in single precision; the residual, and so the stopping test, is renewed in double precision at
each restart (iterative refinement), and the effective tensor is the double-precision energy of the fluctuations, whose
error is quadratic in theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft

from msvae import Array
from msvae_voxelfe.compiled import Kernels
from msvae_voxelfe.element import VOIGT, LinearElement
from msvae_voxelfe.threads import allowed, each

REDUCTION = 1e-4  # of the residual, that single precision can be trusted with before the residual is renewed


@dataclass(frozen=True, eq=False)
class Fluctuation:
    """u (components, *grid), the norm of its residual (whose square is an energy), iterations, and if it converged."""

    u: Array
    residual: float
    iterations: int
    converged: bool


@dataclass(frozen=True, eq=False)
class Tensor:
    """An effective tensor (L, L), the estimate of its numerical error, and iterations, negative if not converged."""

    value: Array
    error: Array
    iterations: int


class Periodic:
    """One structure's operator K = sum B^T D B in both precisions, and the inverse of its homogeneous counterpart."""

    def __init__(
        self, material: Array, spacing: tuple[float, ...], components: int, single: Kernels, double: Kernels
    ) -> None:
        """material: (m, nx, ny, nz), float64; spacing: of the three axes."""
        self.single, self.double, self.components = single, double, components
        self.grid = tuple(int(n) for n in material.shape[1:])
        self.fine = np.ascontiguousarray(material)
        self.coarse = np.ascontiguousarray(material, dtype=np.float32)
        self.spacing = np.array(spacing)
        self.spacing32 = self.spacing.astype(np.float32)
        reference = material.reshape(len(material), -1).mean(axis=1)
        self.symbol = inverse_symbol(self.grid, spacing, components, reference, double)

    def precondition(self, residual: Array) -> Array:
        """Return the homogeneous solution (components, *grid) for a residual in single precision."""
        spectrum = fft.rfftn(residual, axes=(1, 2, 3))
        self.single.multiply(spectrum, self.symbol)
        return np.ascontiguousarray(fft.irfftn(spectrum, s=self.grid, axes=(1, 2, 3), overwrite_x=True))

    def residual(self, u: Array, macro: Array) -> tuple[Array, Array]:
        """Return -(B^T D (macro + B u)) and the sum of the stresses (components, 3), in double precision."""
        force = np.zeros_like(u)
        stress = self.double.product(u, force, self.fine, self.spacing, macro=macro)
        return -force, stress

    def fluctuation(self, macro: Array, tolerance: float, limit: int) -> Fluctuation:
        """Return the fluctuation that balances a macroscopic gradient."""
        u = np.zeros((self.components, *self.grid))
        rest, stress = self.residual(u, macro)
        goal = tolerance * float(np.sqrt(max((macro * stress).sum(), 0.0)))
        size, used = self._norm(rest), 0
        while size > goal and used < limit:
            correction, count = self._gradients(rest, max(0.5 * goal / size, REDUCTION), limit - used)
            u, used = u + correction, used + count
            rest, _ = self.residual(u, macro)
            before, size = size, self._norm(rest)
            if not size < before:
                break
        return Fluctuation(u, size, used, bool(size <= goal))

    def _norm(self, residual: Array) -> float:
        peak = float(np.abs(residual).max())
        if peak == 0:
            return 0.0
        scaled = (residual / peak).astype(np.float32)
        return peak * float(np.sqrt(max(self.single.dot(scaled, self.precondition(scaled)), 0.0)))

    def _gradients(self, force: Array, reduction: float, limit: int) -> tuple[Array, int]:
        """Return the solution of K u = force to a reduction of the residual, in single precision; and iterations."""
        peak = float(np.abs(force).max())
        r = (force / peak).astype(np.float32)
        z = self.precondition(r)
        x, q, p = np.zeros_like(r), np.zeros_like(r), z.copy()
        norm = self.single.dot(r, z)
        goal = reduction**2 * norm
        step = 0
        while step < limit:
            step += 1
            self.single.product(p, q, self.coarse, self.spacing32)
            curvature = self.single.dot(p, q)
            if not curvature > 0:
                break
            self.single.advance(x, r, p, q, norm / curvature)
            z = self.precondition(r)
            previous, norm = norm, self.single.dot(r, z)
            if norm <= goal:
                break
            self.single.redirect(p, z, norm / previous)
        return peak * x.astype(np.float64), step


def inverse_symbol(
    grid: tuple[int, ...], spacing: tuple[float, ...], components: int, reference: Array, double: Kernels
) -> Array:
    """Return the inverse (1 or 6, *half grid), float32, of the homogeneous operator's symbol; 0 at frequency 0."""
    units = _unit_symbols(grid, spacing, components, len(reference), double)
    symbol = np.tensordot(reference, units, axes=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / symbol if components == 1 else _inverted(symbol)
    inverse[(slice(None), 0, 0, 0)] = 0.0
    return np.ascontiguousarray(inverse, dtype=np.float32)


@lru_cache(maxsize=8)
def _unit_symbols(
    grid: tuple[int, ...], spacing: tuple[float, ...], components: int, laws: int, double: Kernels
) -> Array:
    """Return the symbols (laws, 1 or 6, *half) of the unit laws; real, for a brick is its own mirror image."""
    pairs = ((0, 0),) if components == 1 else VOIGT[3]
    result = []
    for law in range(laws):
        material = np.zeros((laws, *grid))
        material[law] = 1.0
        columns = []
        for c in range(components):
            impulse = np.zeros((components, *grid))
            impulse[c, 0, 0, 0] = 1.0
            force = np.zeros_like(impulse)
            double.product(impulse, force, material, np.array(spacing))
            columns.append(fft.rfftn(force, axes=(1, 2, 3)).real)
        result.append(np.stack([columns[j][i] for i, j in pairs]))
    return np.stack(result)


def _inverted(symbol: Array) -> Array:
    """Return the inverse of symmetric 3 x 3 matrices (6, ...) in the order 11 22 33 23 13 12."""
    a, b, c, d, e, f = symbol
    cofactors = np.stack([b * c - d * d, a * c - e * e, a * b - f * f, e * f - a * d, d * f - b * e, d * e - c * f])
    return np.asarray(cofactors / (a * cofactors[0] + f * cofactors[5] + e * cofactors[4]))


def macro_gradients(dimensions: int, components: int) -> Array:
    """Return the macroscopic gradients (L, components, 3) of the load cases; 2D lies in the last two of three axes."""
    first = 3 - dimensions
    if components == 1:
        return np.eye(3)[first:, None]
    cases = np.zeros((len(VOIGT[dimensions]), 3, 3))
    for case, (i, j) in zip(cases, VOIGT[dimensions], strict=True):
        case[first + i, first + j] += 0.5
        case[first + j, first + i] += 0.5
    return cases


def effective_tensor(operator: Periodic, macros: Array, tolerance: float, limit: int, *, threads: int = 1) -> Tensor:
    """Return the effective tensor of one structure.

    Its error is a product of the fluctuations' errors in the norm of the energy; the residuals' norms stand for them
    where the material is as stiff as its mean.
    """
    solved = each(lambda k: operator.fluctuation(macros[k], tolerance, limit), len(macros), threads)
    volume = float(np.prod(operator.grid) * np.prod(operator.spacing))
    tensor = np.empty((len(macros), len(macros)))
    for column, (macro, balanced) in enumerate(zip(macros, solved, strict=True)):
        rest, stress = operator.residual(balanced.u, macro)
        for row, (other, against) in enumerate(zip(macros, solved, strict=True)):
            tensor[row, column] = (other * stress).sum() - (against.u * rest).sum()
    residuals = np.array([f.residual for f in solved])
    count = max(f.iterations for f in solved)
    return Tensor(0.5 * (tensor + tensor.T) / volume, np.outer(residuals, residuals) / volume,
                  count if all(f.converged for f in solved) else -count - 1)  # fmt: skip


def fluctuations(
    material: Array, element: LinearElement, tolerance: float, limit: int, *, backends: tuple[Kernels, Kernels]
) -> Array:
    """Return the fluctuations (L, components, *grid) of one structure's load cases; material: (m, *grid)."""
    dimensions, components = len(element.spacing), _components(element)
    solid, lengths = _in_three_dimensions(material, element.spacing)
    operator = Periodic(solid / material.max(), lengths, components, *backends)
    macros = macro_gradients(dimensions, components)
    solved = np.stack([operator.fluctuation(macro, tolerance, limit).u for macro in macros])
    if dimensions == 3:
        return solved
    return solved[:, :, 0] if components == 1 else solved[:, 1:, 0]


def solve_batch(
    material: Array, element: LinearElement, tolerance: float, limit: int, *, backends: tuple[Kernels, Kernels]
) -> tuple[Array, Array, Array]:
    """Return tensors and their errors (n, L, L), and iterations (n,), negative where not converged.

    Structures share the threads; where there are fewer structures than threads, their load cases do.
    """
    components = _components(element)
    macros = macro_gradients(len(element.spacing), components)
    peak = float(material.max())
    threads = allowed()
    within = threads if len(material) < threads else 1

    def one(k: int) -> Tensor:
        solid, lengths = _in_three_dimensions(material[k], element.spacing)
        operator = Periodic(solid / peak, lengths, components, *backends)
        return effective_tensor(operator, macros, tolerance, limit, threads=within)

    results = each(one, len(material), threads if within == 1 else 1)
    tensors, errors = (np.stack([getattr(r, name) for r in results]) * peak for name in ("value", "error"))
    return tensors, errors, np.array([r.iterations for r in results])


def _components(element: LinearElement) -> int:
    """Return the unknowns at a node in the kernels, for which 2D displacements have a third component too."""
    return 1 if element.components == 1 else 3


def _in_three_dimensions(material: Array, spacing: tuple[float, ...]) -> tuple[Array, tuple[float, ...]]:
    """Return material fields (m, nx, ny, nz) and the spacing along three axes: 2D is one voxel thick."""
    if material.ndim == 4:
        return material, spacing
    if len(material) == 6:  # in plane; out of it only the shear matters, and is not loaded
        whole = np.zeros((21, *material.shape[1:]))
        entries = [(i, j) for i in range(6) for j in range(i, 6)]
        for place, (i, j) in enumerate([(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)]):
            whole[entries.index((i, j))] = material[place]
        for k in (0, 4, 5):
            whole[entries.index((k, k))] = material[-1]
        material = whole
    return material[:, None], (1.0, *spacing)
