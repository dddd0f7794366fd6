"""The fluctuations of a pair of load cases, with the compiled kernels: everything in cache.

The two are the real and the imaginary part of complex fields, which share one complex Fourier transform. Conjugate
gradients run in single precision; the residual, and so the stopping test, is renewed in double precision at each
restart (iterative refinement).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import numpy as np

from msvae import Array
from msvae_voxelfe.kernels.arguments import Forces, Workspace
from msvae_voxelfe.kernels.compiled import Kernels
from msvae_voxelfe.kernels.memory import side_by_side
from msvae_voxelfe.kernels.plan import ALONE, Plan
from msvae_voxelfe.kernels.preconditioner import EVERYWHERE_PERIODIC, Beyond, Preconditioner

Anything = TypeVar("Anything")
KEPT = 300_000  # voxels of a grid, up to which its memory is kept from one call to the next
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
class Vectors:
    """What conjugate gradients need for a pair of load cases: r, x, p (components, *grid), q; memory of the kernels."""

    r: Array
    x: Array
    p: Array
    q: Forces
    space: Workspace


@dataclass(frozen=True, eq=False)
class Spare:
    """Memory of solved load cases, reused by later ones, because fresh memory costs as much as iterations do.

    fields: fluctuation and force (components, *grid), complex128.
    """

    vectors: list[Vectors] = field(default_factory=list)
    fields: list[tuple[Array, Array]] = field(default_factory=list)

    @classmethod
    def of(
        cls, grid: tuple[int, ...], components: int, plan: Plan, beyond: tuple[Beyond, ...] = EVERYWHERE_PERIODIC
    ) -> Spare:
        """Return memory for such a grid, kept from earlier calls unless the grid is large."""
        return _spare(grid, components, plan, beyond) if np.prod(grid) <= KEPT else cls()


@lru_cache(maxsize=2)
def _spare(grid: tuple[int, ...], components: int, plan: Plan, beyond: tuple[Beyond, ...]) -> Spare:
    return Spare()


class Operator:
    """One structure's operator K = sum B^T D B in both precisions, and the inverse of its homogeneous counterpart."""

    def __init__(
        self, material: Array, spacing: tuple[float, ...], components: int, backends: tuple[Kernels, Kernels],
        spare: Spare, plan: Plan = ALONE, beyond: tuple[Beyond, ...] = EVERYWHERE_PERIODIC,
    ) -> None:  # fmt: skip
        """material: (m, nx, ny, nz), float64; spacing: of the three axes. spare: of structures on the same grid.

        beyond: of the grid's nodes; the last ones of an axis that is not periodic have empty voxels above them.
        """
        self.plan = plan
        single, double = backends
        self.single, self.double, self.components = single, double, components
        self.grid = tuple(int(n) for n in material.shape[1:])
        self.fine = np.ascontiguousarray(material)
        self.coarse = np.ascontiguousarray(material, dtype=np.float32)
        self.spacing = np.array(spacing)
        self.spacing32 = self.spacing.astype(np.float32)
        reference = material.reshape(len(material), -1).mean(axis=1)
        self.preconditioner = Preconditioner(self.grid, spacing, components, reference, backends, beyond)
        self.spare = spare

    def force(self, u: Array, macro: Array, force: Array) -> Array:
        """Set force to B^T D (macro + B u) and return the sum of the stresses (components, 3), in double precision."""
        return self.double.product(u, force, self.fine, self.spacing, macro=macro, plan=self.plan)[0]

    def fluctuation(self, macro: Array, tolerance: float, limit: int) -> Fluctuation:
        """Return the fluctuations that balance two macroscopic gradients, a complex (components, 3)."""
        vectors = _taken(self.spare.vectors, self._vectors)
        found = self._balanced(macro, tolerance, limit, vectors, _taken(self.spare.fields, self._fields))
        self.spare.vectors.append(vectors)
        return found

    def _vectors(self) -> Vectors:
        shape = (self.components, *self.grid)
        room, layout = self.preconditioner.layout()
        q, r, x, p = side_by_side(((room,), np.float32), *[(shape, np.complex64)] * 3)
        return Vectors(r, x, p, Forces(q, layout), self.single.workspace(self.grid, self.components, self.plan))

    def _fields(self) -> tuple[Array, Array]:
        u, force = side_by_side(*[((self.components, *self.grid), np.complex128)] * 2)
        return u, force

    def _balanced(
        self, macro: Array, tolerance: float, limit: int, vectors: Vectors, fields: tuple[Array, Array]
    ) -> Fluctuation:
        u, force = fields
        vectors.x.fill(0)  # no fluctuation yet: single precision is enough here
        stress, _ = self.single.product(vectors.x, vectors.r, self.coarse, self.spacing32, macro=macro, plan=self.plan)
        energies = (parts(macro) * parts(stress)).sum(axis=0)
        goal = tolerance * np.sqrt(np.maximum(energies, 0.0))
        # residuals are in units of their goal: one norm serves both; what has no load is there, but for round-off
        unit = np.where(goal > 0, goal, goal.max() or 1.0)
        self.single.scale(vectors.r, -1 / unit, self.plan.threads)
        used, before = 0, np.full(2, np.inf)
        while True:
            norm = self.preconditioner.apply(vectors.r, vectors.q, vectors.space)
            size = np.sqrt(np.maximum(norm, 0.0))
            wanting = (size > 1) & (goal > 0)
            if not wanting.any() or used >= limit or (size >= before)[wanting].all():
                break
            steps = self._gradients(vectors, float(norm.sum()), limit - used)
            self.single.widen(vectors.x, u, unit, add=used > 0, threads=self.plan.threads)
            used, before = used + steps, size
            stress = self.force(u, macro, force)
            self.single.narrow(force, vectors.r, -1 / unit, self.plan.threads)
        if used == 0:
            u.fill(0)
            stress = self.force(u, macro, force)
        return Fluctuation(u, force, stress, unit * size, used, not wanting.any())

    def _gradients(self, vectors: Vectors, norm: float, limit: int) -> int:
        """Set x to the solutions of K x = r, whose norm (squared) is to fall to a half; return the iterations.

        q is r, preconditioned, but for the preconditioner's scale.
        """
        given, scale = (vectors.p, vectors.q, vectors.x, vectors.r), self.preconditioner.scale
        norms = scale * norm, scale * max(0.5, REDUCTION**2 * norm)
        return self.single.gradients(given, self.coarse, self.spacing32, self.preconditioner.inverse, norms, limit,
                                     vectors.space)  # fmt: skip


def _taken(spare: list[Anything], make: Callable[[], Anything]) -> Anything:
    """Take a spare item, or create one; threads may share the list."""
    try:
        return spare.pop()
    except IndexError:
        return make()


def parts(array: Array) -> Array:
    """Return real and imaginary parts (size, 2) of a contiguous complex array, as a view."""
    return np.ascontiguousarray(array).reshape(-1).view(array.real.dtype).reshape(-1, 2)
