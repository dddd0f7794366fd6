"""Linear elasticity of a part whose stiffness varies from element to element (scikit-fem).

    -div (C(s) eps(u)) = 0,    u or no traction on the boundary; plane strain in 2D

Stiffnesses and strains are in Voigt notation: 11 22 12 in 2D, 11 22 33 23 13 12 in 3D, shear strains doubled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import linalg

from msvae.errors import DataError
from msvae.part.meshes import element_means, element_of, save_mesh
from msvae.structures import Array

__all__ = ["PAIRS", "Elastic", "Solution", "Support", "Where", "not_among", "on_plane", "side", "solved", "voigt"]

PAIRS = {2: ((0, 0), (1, 1), (0, 1)), 3: ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))}
SINGULAR = 1e-12  # of a diagonal entry: a pivot this small is none
RESIDUAL = 1e-8  # of the equations, relative to the forces, above which a solution is none
Where = Callable[[Array], Array]


@dataclass(frozen=True)
class Support:
    """Nodes with prescribed displacements.

    where: from positions (d, n) in m to a mask (n,) of boundary nodes. displacement: along each axis, m; None for free.
    """

    where: Where
    displacement: tuple[float | None, ...]


def side(axis: int, at: float) -> Where:
    """Return a predicate for the nodes at a coordinate (m) along an axis."""
    return lambda x: on_plane(x[axis], at)


def on_plane(x: Array, at: float) -> Array:
    """Return which coordinates (n,) equal a value, to a billionth of their extent."""
    return np.asarray(np.abs(x - at) <= 1e-9 * max(float(np.ptp(x)), 1e-300))


@dataclass(frozen=True, eq=False)
class Elastic:
    """A part: its mesh (of scikit-fem), the stiffness (e, v, v) of its elements in Pa, and its supports by name.

    quadratic: whether displacements are of second order.
    """

    mesh: Any
    stiffness: Array
    supports: Mapping[str, Support]
    quadratic: bool = False

    def __post_init__(self) -> None:
        v = len(PAIRS[self.mesh.dim()])
        expected = (self.mesh.nelements, v, v)
        if np.shape(self.stiffness) != expected or not np.isfinite(self.stiffness).all():
            raise DataError(f"stiffness has the shape {expected} without NaN, found {np.shape(self.stiffness)}")
        for name, support in self.supports.items():
            if len(support.displacement) != self.mesh.dim():
                raise DataError(f"support '{name}' has a displacement for each of {self.mesh.dim()} axes, or None")

    @cached_property
    def basis(self) -> Any:
        """The finite-element basis of the displacements."""
        import skfem

        return skfem.Basis(self.mesh, skfem.ElementVector(element_of(self.mesh, quadratic=self.quadratic)))

    def solve(self) -> Solution:
        """Solve for the displacements and derived quantities; DataError if the part can move or has no stiffness."""

        matrix = self._matrix().tocsr()
        displacement = np.zeros(self.basis.N)
        held = {name: self.held(name, support) for name, support in self.supports.items()}
        for dofs, values in held.values():
            displacement[dofs] = values
        free = not_among(self.basis.N, [dofs for dofs, _ in held.values()])
        load = -matrix[free] @ displacement
        inner = matrix[free][:, free].tocsc()
        found = solved(inner, load)
        left = np.linalg.norm(inner @ found - load) / max(float(np.linalg.norm(load)), 1e-300)
        if not np.isfinite(found).all() or (load.any() and left > RESIDUAL):
            raise DataError(
                "the part has no equilibrium: hold it against moving and turning, with a stiffness everywhere"
            )
        displacement[free] = found
        forces = matrix @ displacement
        reactions = self.reactions(forces, held)
        return Solution(self, displacement, reactions, float(0.5 * displacement @ forces))

    def _matrix(self) -> Any:
        from skfem import BilinearForm

        pairs, constant = PAIRS[self.mesh.dim()], np.moveaxis(np.asarray(self.stiffness), 0, -1)[..., None]

        @BilinearForm  # type: ignore[untyped-decorator]
        def work(u: Any, v: Any, w: Any) -> Any:
            strains = [voigt(field.grad, pairs) for field in (u, v)]
            return np.einsum("ijeq,jeq,ieq->eq", w["C"], *strains)

        shape = (*constant.shape[:3], self.basis.X.shape[1])
        return work.assemble(self.basis, C=np.broadcast_to(constant, shape))

    def held(self, name: str, support: Support) -> tuple[Array, Array]:
        """Return the degrees of freedom that a support prescribes, and their values."""
        nodes = np.flatnonzero(self._boundary & support.where(self.basis.doflocs))
        if not len(nodes):
            raise DataError(f"support '{name}' holds no node of the boundary: look at its position, in m")
        axes = self._axes[nodes]
        wanted = [support.displacement[a] for a in axes]
        chosen = np.array([value is not None for value in wanted])
        return nodes[chosen], np.array([value for value in wanted if value is not None])

    @cached_property
    def _boundary(self) -> Array:
        """Whether each degree of freedom is on the boundary."""
        return np.isin(np.arange(self.basis.N), self.basis.get_dofs().flatten())

    @cached_property
    def _axes(self) -> Array:
        """The axis of every degree of freedom."""
        axes = np.zeros(self.basis.N, dtype=int)
        for a, indices in enumerate(self.basis.split_indices()):
            axes[indices] = a
        return axes

    def reactions(self, forces: Array, held: Mapping[str, tuple[Array, Array]]) -> dict[str, Array]:
        """Return the sums (d,) of nodal forces, N, at the degrees of freedom that each support holds."""
        d = self.mesh.dim()
        return {name: np.bincount(self._axes[dofs], forces[dofs], minlength=d) for name, (dofs, _) in held.items()}


@dataclass(frozen=True, eq=False)
class Solution:
    """The response of a part. displacement: all degrees of freedom, m. reactions: (d,) N by support. energy: J.

    In 2D forces and energies are per metre of thickness.
    """

    part: Elastic
    displacement: Array
    reactions: Mapping[str, Array]
    energy: float

    @cached_property
    def strain(self) -> Array:
        """Mean strain (e, v) of every element."""
        basis = self.part.basis
        gradient = basis.interpolate(self.displacement).grad
        return element_means(voigt(gradient, PAIRS[self.part.mesh.dim()]), basis.dx).T

    @cached_property
    def stress(self) -> Array:
        """Mean stress (e, v) of every element, Pa."""
        return np.asarray(np.einsum("eij,ej->ei", self.part.stiffness, self.strain))

    @property
    def nodal(self) -> Array:
        """Displacement (n, d) of the mesh's nodes, m."""
        return np.asarray(self.displacement[self.part.basis.nodal_dofs].T)

    def save(self, path: Path) -> None:
        """Write displacement (m), strain and stress (Pa) to a file of any format that meshio writes (.vtu, .xdmf)."""
        moved = np.pad(self.nodal, ((0, 0), (0, 3 - self.nodal.shape[1])))  # viewers want three components
        save_mesh(path, self.part.mesh, {"displacement": moved}, {"strain": self.strain, "stress": self.stress})


def not_among(size: int, chosen: Sequence[Array]) -> Array:
    """Return the degrees of freedom, out of a number of them, that are in none of the arrays."""
    free = np.ones(size, dtype=bool)
    for dofs in chosen:
        free[dofs] = False
    return np.flatnonzero(free)


def voigt(gradient: Array, pairs: tuple[tuple[int, int], ...]) -> Array:
    """Return strains (v, ...) of displacement gradients (d, d, ...)."""
    rows = [gradient[i, i] if i == j else gradient[i, j] + gradient[j, i] for i, j in pairs]
    return np.stack([np.asarray(row) for row in rows])


def solved(matrix: Any, load: Array) -> Array:
    """Return the solution (n,) of symmetric equations; NaN if they are singular, as for a part that can move."""
    nothing = np.full(len(load), np.nan)
    diagonal = matrix.diagonal()
    if not len(load):
        return load
    if not (diagonal > 0).all():
        return nothing
    try:
        factors = linalg.splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0)
    except RuntimeError:  # exactly singular
        return nothing
    pivots = np.abs(factors.U.diagonal())[factors.perm_c]
    return factors.solve(load) if (pivots > SINGULAR * diagonal).all() else nothing
