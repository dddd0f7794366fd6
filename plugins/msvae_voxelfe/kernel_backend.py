"""Homogenization with the compiled kernels: two load cases at a time, everything in cache.

The two are the real and the imaginary part of complex fields, which share one complex Fourier transform. Conjugate
gradients run in single precision; the residual, and so the stopping test, is renewed in double precision at each
restart (iterative refinement), and the effective tensor is the double-precision energy of the fluctuations, whose error
is quadratic in theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np

from msvae import Array
from msvae_voxelfe.compiled import ALONE, Forces, Kernels, Plan, Workspace
from msvae_voxelfe.discretisation import estimate
from msvae_voxelfe.element import VOIGT, LinearElement, conduction_element
from msvae_voxelfe.memory import side_by_side
from msvae_voxelfe.preconditioner import EVERYWHERE_PERIODIC, Beyond, Preconditioner
from msvae_voxelfe.threads import allowed, each

Anything = TypeVar("Anything")
KEPT = 300_000  # voxels of a grid, up to which its memory is kept from one call to the next
LARGE = 100_000  # voxels, from which on threads share the grid rather than load cases
THICK = 16  # planes of a piece, at least
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
    """An effective tensor (L, L), and iterations, negative if not converged.

    error: estimate of what iterations left undone. refinement: estimate of what finer voxels would take away.
    """

    value: Array
    error: Array
    refinement: Array
    iterations: int


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
    """Memory of solved load cases, for those to come: fresh memory costs as much as iterations do.

    fields: fluctuation and force (components, *grid), complex128.
    """

    vectors: list[Vectors] = field(default_factory=list)
    fields: list[tuple[Array, Array]] = field(default_factory=list)

    @classmethod
    def of(
        cls, grid: tuple[int, ...], components: int, plan: Plan, beyond: tuple[Beyond, ...] = EVERYWHERE_PERIODIC
    ) -> Spare:
        """Return what earlier calls left of a grid, if it is not large: memory is laid out for all that is given."""
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
        return Vectors(r, x, p, Forces(q, layout), Workspace.of(self.grid, self.components, np.float32, self.plan))

    def _fields(self) -> tuple[Array, Array]:
        u, force = side_by_side(*[((self.components, *self.grid), np.complex128)] * 2)
        return u, force

    def _balanced(
        self, macro: Array, tolerance: float, limit: int, vectors: Vectors, fields: tuple[Array, Array]
    ) -> Fluctuation:
        u, force = fields
        vectors.x.fill(0)  # no fluctuation yet: single precision is enough here
        stress, _ = self.single.product(vectors.x, vectors.r, self.coarse, self.spacing32, macro=macro, plan=self.plan)
        energies = (_parts(macro) * _parts(stress)).sum(axis=0)
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


def plan_of(grid: tuple[int, ...], threads: int) -> Plan:
    """Return how threads share a grid: small ones not at all, for then they share the load cases."""
    pieces = 2 * (grid[0] // (2 * THICK)) if np.prod(grid) >= LARGE else 0
    return Plan(min(threads, pieces), pieces) if pieces else ALONE


def effective_tensor(
    operator: Operator, macros: Array, tolerance: float, limit: int, *, refinement: Callable[[list[Array]], Array],
    threads: int = 1,
) -> Tensor:  # fmt: skip
    """Return the effective tensor of one structure; threads share its load cases.

    refinement: from the fluctuations of pairs of load cases, complex, to the estimate of the discretisation's error.
    Its error is a product of the fluctuations' errors in the norm of the energy; the residuals' norms stand for them
    where the material is as stiff as its mean.
    """
    loads, cases = pairs(macros), len(macros)
    solved = each(lambda k: operator.fluctuation(loads[k], tolerance, limit), len(loads), threads)
    volume = float(np.prod(operator.grid) * np.prod(operator.spacing))
    places = [(i, j) for i in range(len(loads)) for j in range(i, len(loads))]
    many = max(threads, operator.plan.threads)
    found = each(lambda k: operator.double.products(solved[places[k][0]].u, solved[places[k][1]].force),
                 len(places), many)  # fmt: skip
    tensor = np.zeros((2 * len(loads), 2 * len(loads)))
    for (i, j), work in zip(places, found, strict=True):  # the energy is symmetric in the load cases
        block = work + _parts(loads[i]).T @ _parts(solved[j].stress)
        tensor[2 * j : 2 * j + 2, 2 * i : 2 * i + 2] = block.T
        tensor[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = block
    finer = refinement([f.u for f in solved])
    operator.spare.fields.extend((f.u, f.force) for f in solved)
    tensor = tensor[:cases, :cases]
    residuals = np.concatenate([f.residuals for f in solved])[:cases]
    count = max(f.iterations for f in solved)
    return Tensor(0.5 * (tensor + tensor.T) / volume, np.outer(residuals, residuals) / volume, finer,
                  count if all(f.converged for f in solved) else -count - 1)  # fmt: skip


def fluctuations(
    material: Array, element: LinearElement, tolerance: float, limit: int, *, backends: tuple[Kernels, Kernels]
) -> Array:
    """Return the fluctuations (L, components, *grid) of one structure's load cases; material: (m, *grid)."""
    dimensions, components = len(element.spacing), _components(element)
    solid, lengths = _in_three_dimensions(material, element.spacing)
    plan = plan_of(solid.shape[1:], allowed())
    operator = Operator(solid / material.max(), lengths, components, backends, Spare(), plan)
    macros = macro_gradients(dimensions, components)
    found = [operator.fluctuation(load, tolerance, limit).u for load in pairs(macros)]
    solved = np.stack([part for u in found for part in (u.real, u.imag)][: len(macros)])
    if dimensions == 3:
        return solved
    return solved[:, :, 0] if components == 1 else solved[:, 1:, 0]


def solve_batch(
    material: Array, element: LinearElement, tolerance: float, limit: int, *, backends: tuple[Kernels, Kernels]
) -> tuple[Array, Array, Array, Array]:
    """Return tensors, their errors by iteration and by refinement (n, L, L), and iterations (n,), negative where not
    converged.

    Structures share the threads; where there are fewer structures than threads, their load cases do, or the pieces of
    their grid if it is large.
    """
    components = _components(element)
    macros = macro_gradients(len(element.spacing), components)
    peak = float(material.max())
    threads = allowed(material[:, 0].size * len(macros))
    within = threads if len(material) < threads else 1
    grid = (1,) * (5 - material.ndim) + material.shape[2:]
    plan = plan_of(grid, within)
    spare = Spare.of(grid, components, plan)

    def one(k: int) -> Tensor:
        solid, lengths = _in_three_dimensions(material[k], element.spacing)
        operator = Operator(solid / peak, lengths, components, backends, spare, plan)
        finer = partial(_refinement, material[k] / peak, element, len(macros))
        return effective_tensor(operator, macros, tolerance, limit, refinement=finer,
                                threads=within if plan.pieces == 1 else 1)  # fmt: skip

    results = each(one, len(material), threads if within == 1 else 1)
    names = ("value", "error", "refinement")
    tensors, errors, finer = (np.stack([getattr(r, name) for r in results]) * peak for name in names)
    return tensors, errors, finer, np.array([r.iterations for r in results])


def _refinement(
    material: Array, element: LinearElement, cases: int, pairs_of_u: list[Array], held: int | None = None
) -> Array:
    """Return the estimate of what finer voxels would take away, from the kernels' fluctuations of pairs of cases."""

    def at(planes: Array) -> Array:
        near = [u[:, planes] if material.ndim == 4 else u[-element.components :, 0, planes] for u in pairs_of_u]
        return np.stack([part for u in near for part in (u.real, u.imag)][:cases])

    return estimate(material, element, at, held=held)


def solve_between_faces(
    material: Array, spacing: tuple[float, ...], tolerance: float, limit: int, *, backends: tuple[Kernels, Kernels]
) -> tuple[Array, Array, Array, Array]:
    """Return conductivities between the two faces of each axis, their errors by iteration and by refinement (n, d), and
    iterations (n, d).

    The other faces are insulated. material (n, *grid). Iterations are negative where not converged.
    """
    count, dimensions = len(material), len(spacing)
    threads = allowed(material.size * dimensions)
    within = threads if count * dimensions < threads or np.prod(material.shape[1:]) >= LARGE else 1
    peak = float(material.max())
    unit = peak * float(np.prod([(n + 1) / n for n in material.shape[1:]]))  # the nodes' volume, with empty voxels

    element = conduction_element(spacing)

    def one(task: int) -> tuple[float, float, float, int]:
        k, axis = divmod(task, dimensions)
        operator, macro = between_faces(material[k] / peak, spacing, axis, within, backends)
        solid = operator.fine if dimensions == 3 else operator.fine[:, 0]
        finer = partial(_refinement, solid, element, 1, held=axis)
        found = effective_tensor(operator, macro[None], tolerance, limit, refinement=finer)
        return unit * found.value.item(), unit * found.error.item(), unit * found.refinement.item(), found.iterations

    results = np.array(each(one, count * dimensions, threads if within == 1 else 1)).reshape(count, dimensions, 4)
    values, errors, finer, used = np.moveaxis(results, 2, 0)
    return values, errors, finer, used.astype(np.int64)


def fluctuations_between_faces(
    material: Array, spacing: tuple[float, ...], tolerance: float, limit: int, *, backends: tuple[Kernels, Kernels]
) -> Array:
    """Return the fluctuations (d, *nodes) of one structure (*grid) between the two faces of each axis."""
    found = []
    for axis in range(len(spacing)):
        operator, macro = between_faces(material / material.max(), spacing, axis, allowed(), backends)
        found.append(operator.fluctuation(macro + 0j, tolerance, limit).u.real)
    return np.stack(found).reshape(-1, *(n + 1 for n in material.shape))


def between_faces(
    material: Array, spacing: tuple[float, ...], axis: int, threads: int, backends: tuple[Kernels, Kernels]
) -> tuple[Operator, Array]:
    """Return the operator of one structure (*grid) whose two faces of an axis are held, the others being insulated.

    There is one node more than voxels along every axis. And the macroscopic gradient from face to face (1, 3).
    """
    first = 3 - material.ndim
    solid = np.pad(material, [(0, 1)] * material.ndim)[(None,) * (first + 1)]
    grid = solid.shape[1:]
    beyond = [Beyond.PERIODIC if k < first else Beyond.EVEN for k in range(3)]
    beyond[first + axis] = Beyond.ODD
    plan = plan_of(grid, threads)
    spare = Spare.of(grid, 1, plan, tuple(beyond))
    operator = Operator(solid, (1.0,) * first + spacing, 1, backends, spare, plan, tuple(beyond))
    return operator, np.eye(3)[first + axis, None]


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
