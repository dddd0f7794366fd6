"""Homogenization with the compiled kernels: two load cases at a time, everything in cache.

The two are the real and the imaginary part of complex fields, which share one complex Fourier transform. Conjugate
gradients run in single precision; the residual, and so the stopping test, is renewed in double precision at each
restart (iterative refinement), and the effective tensor is the double-precision energy of the fluctuations, whose error
is quadratic in theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from msvae import Array
from msvae_voxelfe.compiled import Forces, Kernels
from msvae_voxelfe.element import VOIGT, LinearElement
from msvae_voxelfe.preconditioner import Preconditioner
from msvae_voxelfe.threads import allowed, each

Anything = TypeVar("Anything")
REDUCTION = 1e-4  # of the residual, that single precision can be trusted with before the residual is renewed


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


@dataclass(frozen=True, eq=False)
class Vectors:
    """What conjugate gradients need for a pair of load cases: r, x, p (components, *grid), q; memory of both kernels."""

    r: Array
    x: Array
    p: Array
    q: Forces
    work: tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Spare:
    """Memory of solved load cases, for those to come: fresh memory costs as much as iterations do.

    fields: fluctuation and force (components, *grid), complex128.
    """

    vectors: list[Vectors] = field(default_factory=list)
    fields: list[tuple[Array, Array]] = field(default_factory=list)


class Periodic:
    """One structure's operator K = sum B^T D B in both precisions, and the inverse of its homogeneous counterpart."""

    def __init__(
        self, material: Array, spacing: tuple[float, ...], components: int, backends: tuple[Kernels, Kernels],
        spare: Spare,
    ) -> None:  # fmt: skip
        """material: (m, nx, ny, nz), float64; spacing: of the three axes. spare: of structures on the same grid."""
        single, double = backends
        self.single, self.double, self.components = single, double, components
        self.grid = tuple(int(n) for n in material.shape[1:])
        self.fine = np.ascontiguousarray(material)
        self.coarse = np.ascontiguousarray(material, dtype=np.float32)
        self.spacing = np.array(spacing)
        self.spacing32 = self.spacing.astype(np.float32)
        reference = material.reshape(len(material), -1).mean(axis=1)
        self.preconditioner = Preconditioner(self.grid, spacing, components, reference, backends)
        self.spare = spare

    def force(self, u: Array, macro: Array, force: Array) -> Array:
        """Set force to B^T D (macro + B u) and return the sum of the stresses (components, 3), in double precision."""
        return self.double.product(u, force, self.fine, self.spacing, macro=macro)[0]

    def fluctuation(self, macro: Array, tolerance: float, limit: int) -> Fluctuation:
        """Return the fluctuations that balance two macroscopic gradients, a complex (components, 3)."""
        vectors = _taken(self.spare.vectors, self._vectors)
        found = self._balanced(macro, tolerance, limit, vectors, _taken(self.spare.fields, self._fields))
        self.spare.vectors.append(vectors)
        return found

    def _vectors(self) -> Vectors:
        r, x, p = (np.empty((self.components, *self.grid), dtype=np.complex64) for _ in range(3))
        work = self.preconditioner.workspace(), self.single.rows(self.grid[-1])
        return Vectors(r, x, p, self.preconditioner.forces(), work)

    def _fields(self) -> tuple[Array, Array]:
        u = np.empty((self.components, *self.grid), dtype=np.complex128)
        return u, np.empty_like(u)

    def _balanced(
        self, macro: Array, tolerance: float, limit: int, vectors: Vectors, fields: tuple[Array, Array]
    ) -> Fluctuation:
        u, force = fields
        u.fill(0)
        stress = self._first_residual(macro, vectors)
        energies = (_parts(macro) * _parts(stress)).sum(axis=0)
        goal = tolerance * np.sqrt(np.maximum(energies, 0.0))
        unit = np.where(goal > 0, goal, 1.0)  # residuals are in units of their goal: one norm serves both
        self.single.scale(vectors.r, 1 / unit)
        used, before = 0, np.full(2, np.inf)
        while True:
            norm = self.preconditioner.apply(vectors.r, vectors.q, vectors.work[0])
            size = np.sqrt(np.maximum(norm, 0.0))
            wanting = size > 1
            if not wanting.any() or used >= limit or (wanting & (size >= before)).any():
                if used == 0:
                    stress = self.force(u, macro, force)
                return Fluctuation(u, force, stress, unit * size, used, not wanting.any())
            used += self._gradients(vectors, float(norm.sum()), limit - used)
            before = size
            self.single.widen(vectors.x, u, unit)
            stress = self.force(u, macro, force)
            self.single.narrow(force, vectors.r, -1 / unit)

    def _first_residual(self, macro: Array, vectors: Vectors) -> Array:
        """Set r to the residual without fluctuation, and return the stresses: single precision is enough here."""
        vectors.x.fill(0)
        stress, _ = self.single.product(vectors.x, vectors.r, self.coarse, self.spacing32, macro=macro)
        np.negative(vectors.r, out=vectors.r)
        return stress

    def _gradients(self, vectors: Vectors, norm: float, limit: int) -> int:
        """Set x to the solutions of K x = r, whose norm (squared) is to fall to a half; return the iterations.

        q is r, preconditioned.
        """
        given = (vectors.p, vectors.q, vectors.x, vectors.r)
        norms = norm, max(0.5, REDUCTION**2 * norm)
        return self.single.gradients(given, self.coarse, self.spacing32, self.preconditioner.inverse, norms, limit,
                                     vectors.work)  # fmt: skip


def _taken(spare: list[Anything], make: Callable[[], Anything]) -> Anything:
    """Return one of what is spare, or make another; threads may share the list."""
    try:
        return spare.pop()
    except IndexError:
        return make()


def _parts(array: Array) -> Array:
    """Return real and imaginary parts (size, 2) of a contiguous complex array, as a view."""
    return np.ascontiguousarray(array).reshape(-1).view(array.real.dtype).reshape(-1, 2)


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
    work = np.block([[operator.double.products(f.u, g.force) for g in solved] for f in solved])[:cases, :cases]
    operator.spare.fields.extend((f.u, f.force) for f in solved)
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
    operator = Periodic(solid / material.max(), lengths, components, backends, Spare())
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
    spare = Spare()

    def one(k: int) -> Tensor:
        solid, lengths = _in_three_dimensions(material[k], element.spacing)
        operator = Periodic(solid / peak, lengths, components, backends, spare)
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
