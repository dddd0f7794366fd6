"""Homogenization with the compiled kernels: two load cases at a time, everything in cache.

The two are the real and the imaginary part of complex fields, which share one complex Fourier transform. Conjugate
gradients run in single precision; the residual, and so the stopping test, is renewed in double precision at each
restart (iterative refinement), and the effective tensor is the double-precision energy of the fluctuations, whose error
is quadratic in theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import fft

from msvae import Array
from msvae_voxelfe.compiled import Kernels
from msvae_voxelfe.element import VOIGT, LinearElement
from msvae_voxelfe.threads import allowed, each

REDUCTION = 1e-4  # of the residual, that single precision can be trusted with before the residual is renewed
ORTHOTROPIC = [(i < 3 and j < 3) or i == j for i in range(6) for j in range(i, 6)]  # places among the 21 parameters


@dataclass(frozen=True, eq=False)
class Fluctuation:
    """Two load cases, as real and imaginary part, of one structure.

    u, force: fluctuation and what it leaves unbalanced (components, *grid). stress (components, 3): integrated over
    the grid. residuals: norms (2,) of the residual, whose squares are energies.
    """

    u: Array
    force: Array
    stress: Array
    residuals: Array
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
        spectrum = transform(residual, self.single)
        self.single.multiply(spectrum, self.symbol)
        return transform(spectrum, self.single, inverse=True)

    def force(self, u: Array, macro: Array, force: Array) -> Array:
        """Set force to B^T D (macro + B u) and return the sum of the stresses (components, 3), in double precision."""
        return self.double.product(u, force, self.fine, self.spacing, macro=macro)[0]

    def fluctuation(self, macro: Array, tolerance: float, limit: int) -> Fluctuation:
        """Return the fluctuations that balance two macroscopic gradients, a complex (components, 3)."""
        u = np.zeros((self.components, *self.grid), dtype=np.complex128)
        force = np.empty_like(u)
        r, peak, stress = self._first_residual(macro)
        energies = (_parts(macro) * _parts(stress)).sum(axis=0)
        goal = tolerance * np.sqrt(np.maximum(energies, 0.0))
        used, before = 0, np.full(2, np.inf)
        while True:
            z = self.precondition(r)
            size = peak * np.sqrt(np.maximum(self.single.dot(r, z), 0.0))
            wanting = size > goal
            if not wanting.any() or used >= limit or (wanting & (size >= before)).any():
                if used == 0:
                    stress = self.force(u, macro, force)
                return Fluctuation(u, force, stress, size, used, not wanting.any())
            reduction = np.where(wanting, np.maximum(0.5 * goal / np.where(size > 0, size, 1.0), REDUCTION), 1.0)
            correction, count = self._gradients(r, z, reduction, limit - used)
            self.single.widen(correction, u, peak)
            used, before = used + count, size
            stress = self.force(u, macro, force)
            peak = self.single.peaks(force)
            r = self.single.narrow(force, -1 / np.where(peak > 0, peak, 1.0))

    def _first_residual(self, macro: Array) -> tuple[Array, Array, Array]:
        """Return the residual without fluctuation, its unit (2,) and the stresses: single precision is enough here."""
        r = np.empty((self.components, *self.grid), dtype=np.complex64)
        stress, _ = self.single.product(np.zeros_like(r), r, self.coarse, self.spacing32, macro=macro)
        return np.negative(r, out=r), np.ones(2), stress

    def _gradients(self, r: Array, z: Array, reduction: Array, limit: int) -> tuple[Array, int]:
        """Return the solutions of K x = r to a reduction (2,) of the residuals, in single precision; and iterations.

        z: r, preconditioned. A part that is there rests while the other goes on.
        """
        x, q, p = np.zeros_like(r), np.empty_like(r), z.copy()
        norm = self.single.dot(r, z)
        goal = reduction**2 * norm
        active = (reduction < 1) & (norm > 0)
        step = 0
        while step < limit and active.any():
            step += 1
            _, curvature = self.single.product(p, q, self.coarse, self.spacing32)
            active &= curvature > 0
            length = np.where(active, norm / np.where(active, curvature, 1.0), 0.0)
            self.single.reduce(r, q, length)
            z = self.precondition(r)
            previous, norm = norm, self.single.dot(r, z)
            active &= norm > goal
            self.single.advance(x, p, z, length, np.where(active, norm / np.where(active, previous, 1.0), 0.0))
        return x, step


def transform(field: Array, single: Kernels, *, inverse: bool = False) -> Array:
    """Return the Fourier transform of a complex64 field (components, *grid) over its grid; it may be the field itself.

    Along an axis of few voxels with a large prime factor, it is a product with the matrix of the transform.
    """
    awkward = [axis for axis in (1, 2, 3) if _is_awkward(field.shape[axis])]
    others = [axis for axis in (1, 2, 3) if axis not in awkward]
    given = field.copy() if awkward and not inverse else field
    for axis in awkward:
        single.fourier(given, axis, _fourier_tables(field.shape[axis], inverse))
    if not others:
        return given
    transformed = (torch.fft.ifftn if inverse else torch.fft.fftn)(torch.from_numpy(given), dim=others)
    return np.ascontiguousarray(transformed.numpy())


def _is_awkward(n: int) -> bool:
    """Return whether a product with a matrix was measured to be faster than a fast Fourier transform."""
    rest = n
    for prime in (2, 3, 5, 7, 11, 13):
        while rest % prime == 0:
            rest //= prime
    return rest > 1 and n <= 128


@lru_cache(maxsize=16)
def _fourier_tables(n: int, inverse: bool) -> tuple[Array, Array]:
    """Return the cosines and sines (n // 2 + 1, blocks of four) of a transform, single precision: see kernels.c."""
    half = n // 2 + 1
    rows, columns = np.arange(half), np.arange(-(-half // 4) * 4)
    phase = 2 * np.pi / n * (np.outer(rows, columns) % n)
    scale = np.where(columns < half, 1 / n if inverse else 1.0, 0.0)
    sign = 1.0 if inverse else -1.0
    return (scale * np.cos(phase)).astype(np.float32), (sign * scale * np.sin(phase)).astype(np.float32)


def _parts(field: Array) -> Array:
    """Return real and imaginary parts (size, 2) of a contiguous complex array, as a view."""
    return np.ascontiguousarray(field).reshape(-1).view(field.real.dtype).reshape(-1, 2)


def _products(u: Array, force: Array) -> Array:
    """Return the products (2, 2) of the real and imaginary parts of u with those of force, summed over all entries.

    From sum u f and sum u conj(f), which stream through memory where products of two-column matrices do not.
    """
    same, other = np.dot(u.ravel(), force.ravel()), np.vdot(force, u)
    return 0.5 * np.array([[(other + same).real, (same - other).imag], [(same + other).imag, (other - same).real]])


def inverse_symbol(
    grid: tuple[int, ...], spacing: tuple[float, ...], components: int, reference: Array, double: Kernels
) -> Array:
    """Return the inverse (1 or 6, *octant), float32, of the homogeneous operator's symbol; 0 at frequency 0.

    Of a general law only the orthotropic part counts: its symbol is known from one octant of the frequencies.
    """
    units = _unit_symbols(grid, spacing, components, len(reference), double)
    symbol = np.tensordot(np.where(ORTHOTROPIC, reference, 0.0) if len(reference) == 21 else reference, units, axes=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / symbol if components == 1 else _inverted(symbol)
    inverse[(slice(None), 0, 0, 0)] = 0.0
    return np.ascontiguousarray(inverse, dtype=np.float32)


@lru_cache(maxsize=8)
def _unit_symbols(
    grid: tuple[int, ...], spacing: tuple[float, ...], components: int, laws: int, double: Kernels
) -> Array:
    """Return the symbols (laws, 1 or 6, *octant) of the unit laws; real, for a brick is its own mirror image."""
    pairs = ((0, 0),) if components == 1 else VOIGT[3]
    octant = (slice(None), *(slice(n // 2 + 1) for n in grid))
    result = []
    for law in range(laws):
        material = np.zeros((laws, *grid))
        material[law] = 1.0
        columns = []
        for c in range(components):
            impulse = np.zeros((components, *grid), dtype=np.complex128)
            impulse[c, 0, 0, 0] = 1.0
            force = np.empty_like(impulse)
            double.product(impulse, force, material, np.array(spacing))
            columns.append(fft.rfftn(force.real, axes=(1, 2, 3)).real[octant])
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


def pairs(macros: Array) -> list[Array]:
    """Return the load cases (L, components, 3) two by two as complex arrays; an odd last one goes with no load."""
    whole = np.concatenate([macros, np.zeros_like(macros[: len(macros) % 2])])
    return list(whole[0::2] + 1j * whole[1::2])


def effective_tensor(operator: Periodic, macros: Array, tolerance: float, limit: int, *, threads: int = 1) -> Tensor:
    """Return the effective tensor of one structure.

    Its error is a product of the fluctuations' errors in the norm of the energy; the residuals' norms stand for them
    where the material is as stiff as its mean.
    """
    loads = pairs(macros)
    solved = each(lambda k: operator.fluctuation(loads[k], tolerance, limit), len(loads), threads)
    volume = float(np.prod(operator.grid) * np.prod(operator.spacing))
    cases = len(macros)
    work = np.block([[_products(f.u, g.force) for g in solved] for f in solved])[:cases, :cases]
    stress = np.concatenate([_parts(f.stress).T for f in solved])[:cases]
    tensor = macros.reshape(cases, -1) @ stress.T + work
    residuals = np.concatenate([f.residuals for f in solved])[:cases]
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
    found = [operator.fluctuation(load, tolerance, limit).u for load in pairs(macros)]
    solved = np.stack([part for u in found for part in (u.real, u.imag)][: len(macros)])
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
