"""The preconditioner of the compiled kernels: the inverse of the homogeneous problem, by Fourier transforms.

The transforms are part of the kernels (fourier.h), so that a plane of the residual stays in the cache
while it is updated and transformed, and while it is transformed back and multiplied.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np

from msvae import Array
from msvae_voxelfe.elements.trilinear import VOIGT
from msvae_voxelfe.kernels.arguments import LANES, Forces, Inverse, Workspace
from msvae_voxelfe.kernels.compiled import Kernels

ORTHOTROPIC = [(i < 3 and j < 3) or i == j for i in range(6) for j in range(i, 6)]  # places among the 21 parameters
BLOCK = 4  # of rows in fourier.h's matrices
SHARED = 300_000  # voxels, up to which inverses are kept for the structures to come


class Beyond(IntEnum):
    """Continuation of a field beyond the first and the last node of an axis: periodic, or by its mirror image.

    An odd image is that of a field that is zero at both ends.
    """

    ODD = -1
    PERIODIC = 0
    EVEN = 1


EVERYWHERE_PERIODIC = (Beyond.PERIODIC,) * 3


class Preconditioner:
    """The inverse of the homogeneous operator of a grid, in single precision, for two load cases at a time.

    inverse: as the kernels have it, the true one's multiple by `scale`: structures of like phases share it.
    """

    def __init__(
        self, grid: tuple[int, ...], spacing: tuple[float, ...], components: int, reference: Array,
        kernels: tuple[Kernels, Kernels], beyond: tuple[Beyond, ...] = EVERYWHERE_PERIODIC,
    ) -> None:  # fmt: skip
        """reference: the homogeneous material's parameters. kernels: in single and double precision.

        beyond: of each axis; of several components it is periodic.
        """
        self.single, self.components = kernels[0], components
        material, self.scale = _like(reference)
        make = _inverse if np.prod(grid) <= SHARED else _inverse.__wrapped__
        self.inverse = make(grid, spacing, components, material, kernels[1], beyond)

    def layout(self) -> tuple[int, Array]:
        """Return the size of the forces in numbers, with the room for their spectrum in `apply`, and their layout."""
        nx, ny, nz = (int(n) for n in self.inverse.grid[:3])
        vectors = -(-ny // LANES) * nz
        step = self.components * vectors | 1  # odd: planes that lie a power of two apart share lines of the cache
        return nx * step * 2 * LANES, np.array([vectors, step]) * 2 * LANES

    def apply(self, r: Array, q: Forces, space: Workspace) -> Array:
        """Set q to `scale` times the homogeneous solution for r (components, *grid); return r q / scale (2,)."""
        return self.single.precondition(r, q, self.inverse, space) / self.scale


def _like(reference: Array) -> tuple[tuple[float, ...], float]:
    """Return a reference material close to this one up to a factor, and the factor.

    Many references have the same: of isotropic ones lambda over mu is rounded, which costs no iterations.
    """
    if len(reference) > 2:
        return tuple(map(float, reference)), 1.0
    ratio = tuple(max(round(float(value), 1), -0.5) for value in reference[:-1] / reference[-1])
    return (*ratio, 1.0), float(reference[-1])


@lru_cache(maxsize=8)
def _inverse(
    grid: tuple[int, ...], spacing: tuple[float, ...], components: int, material: tuple[float, ...], double: Kernels,
    beyond: tuple[Beyond, ...],
) -> Inverse:  # fmt: skip
    """Return the inverse of a homogeneous material's operator as the kernels take it."""
    lengths = tuple(n if b is Beyond.PERIODIC else 2 * (n - 1) for n, b in zip(grid, beyond, strict=True))
    symbol = in_slabs(inverse_symbol(lengths, spacing, components, np.array(material), double), lengths, grid[1])
    own = np.zeros((3, 64), dtype=np.int64)
    for row, n in zip(own, lengths, strict=True):
        row[: len(factors(n))] = factors(n)
    nodes = np.array([*grid, *beyond], dtype=np.int64)
    tables = [table(n, b) for b in (False, True) for n in lengths]
    starts = np.cumsum([0, *(len(t) for t in tables[:-1])])
    return Inverse(nodes, symbol, own, np.concatenate(tables), starts)


@lru_cache(maxsize=64)
def factors(n: int) -> tuple[int, ...]:
    """Return the factors of n with which fourier.h transforms: 8, 4, 2, 3, 5 and other primes, as few as can be.

    >>> factors(32), factors(128), factors(60)
    ((8, 4), (8, 4, 4), (4, 3, 5))
    """
    twos = (n & -n).bit_length() - 1
    found = [8] * ((twos - 2 * (-twos % 3)) // 3) + [4] * (-twos % 3) if twos > 1 else [2] * twos
    rest, candidate = n >> twos, 3
    while rest > 1:
        if rest % candidate == 0:
            found.append(candidate)
            rest //= candidate
        else:
            candidate += 2
    return tuple(found)


@lru_cache(maxsize=64)
def table(n: int, inverse: bool) -> Array:
    """Return the numbers, single precision, that fourier.h needs for a transform of length n, in its order."""
    sign, parts, rest = (1.0 if inverse else -1.0), [np.zeros(1)], n
    for radix in factors(n):
        m = rest // radix
        if radix > 5 and radix != 8:
            half = radix // 2 + 1
            rows, columns = np.arange(half), np.arange(-(-half // BLOCK) * BLOCK)
            phase = 2 * np.pi / radix * (np.outer(rows, columns) % radix)
            parts += [np.where(columns < half, np.cos(phase), 0.0), np.where(columns < half, sign * np.sin(phase), 0.0)]
        phase = sign * 2 * np.pi / rest * np.outer(np.arange(1, m), np.arange(1, radix))
        parts.append(np.stack([np.cos(phase), np.cos(phase), -np.sin(phase), np.sin(phase)], axis=-1))
        rest = m
    return np.concatenate([part.ravel() for part in parts])[1:].astype(np.float32)


def in_slabs(symbol: Array, lengths: tuple[int, ...], ny: int) -> Array:
    """Return a symbol (1 or 6, *octant) over the size of a grid, flat, in the order in which kernels.c takes it.

    That is (slabs, frequencies along z, along x, 1 or 6, LANES), the first ny frequencies along y, a slab of them side
    by side; and a vector of zeros, for vectors are read whole. lengths: of the grid's transforms.
    """
    slabs = -(-ny // LANES)
    mirrored = np.minimum(np.arange(ny), lengths[1] - np.arange(ny))
    whole = np.zeros((*symbol.shape[:2], slabs * LANES, symbol.shape[3]))
    whole[:, :, :ny] = symbol[:, :, mirrored] / np.prod(lengths)
    if len(symbol) == 6:
        sign = np.where(np.arange(ny) > lengths[1] // 2, -1.0, 1.0)
        whole[3, :, :ny] *= sign[:, None]
        whole[5, :, :ny] *= sign[:, None]
    slabbed = whole.reshape(*whole.shape[:2], slabs, LANES, -1)
    return np.append(slabbed.transpose(2, 4, 1, 0, 3).ravel(), np.zeros(2 * LANES)).astype(np.float32)


def inverse_symbol(
    grid: tuple[int, ...], spacing: tuple[float, ...], components: int, reference: Array, double: Kernels
) -> Array:
    """Return the inverse (1 or 6, *octant) of the homogeneous operator's symbol; 0 at frequency 0.

    Of a general law only the orthotropic part counts: its symbol is known from one octant of the frequencies.
    """
    units = _unit_symbols(grid, spacing, components, len(reference), double)
    symbol = np.tensordot(np.where(ORTHOTROPIC, reference, 0.0) if len(reference) == 21 else reference, units, axes=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / symbol if components == 1 else _inverted(symbol)
    inverse[(slice(None), 0, 0, 0)] = 0.0
    return inverse


@lru_cache(maxsize=8)
def _unit_symbols(
    grid: tuple[int, ...], spacing: tuple[float, ...], components: int, laws: int, double: Kernels
) -> Array:
    """Return the symbols (laws, 1 or 6, *octant) of the unit laws; real, for a brick is its own mirror image."""
    pairs = ((0, 0),) if components == 1 else VOIGT[3]
    places = np.array([0, 1, -1])  # of the forces that a node's displacement causes
    waves = [np.exp(-2j * np.pi / n * np.outer(np.arange(n // 2 + 1), places)) for n in grid]
    result = np.empty((laws, len(pairs), *(n // 2 + 1 for n in grid)))
    for law in range(laws):
        material = np.zeros((laws, 3, 3, 3))
        material[law] = 1.0
        for c in range(components):
            impulse = np.zeros((components, 3, 3, 3), dtype=np.complex128)
            impulse[c, 0, 0, 0] = 1.0
            force = np.empty_like(impulse)
            double.product(impulse, force, material, np.array(spacing))
            for number, (i, j) in enumerate(pairs):
                if j == c:
                    planes = np.einsum("yb,zc,abc->ayz", waves[1], waves[2], force[i].real, optimize=True)
                    result[law, number] = np.tensordot(waves[0], planes, axes=1).real
    return result


def _inverted(symbol: Array) -> Array:
    """Return the inverse of symmetric 3 x 3 matrices (6, ...) in the order 11 22 33 23 13 12."""
    a, b, c, d, e, f = symbol
    cofactors = np.stack([b * c - d * d, a * c - e * e, a * b - f * f, e * f - a * d, d * f - b * e, d * e - c * f])
    return np.asarray(cofactors / (a * cofactors[0] + f * cofactors[5] + e * cofactors[4]))
