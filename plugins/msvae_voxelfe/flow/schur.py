"""The linear systems of Stokes flow: velocities, the pressure's Schur complement, Darcy's law as its preconditioner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from msvae import Array
from msvae_voxelfe.kernels.compiled import kernels

LIMIT = 10_000  # iterations of a velocity solve
DARCY = 1e-2  # relative residual of a solution of Darcy's problem, which only preconditions
DELAY = 3  # pressure iterations whose gain estimates what is still to come


class StokesError(RuntimeError):
    """The iteration did not converge."""


class DiagonalSolver:
    """x with A x = b for a symmetric A: conjugate gradients with a diagonal preconditioner; compiled if possible."""

    def __init__(self, matrix: sparse.csr_array) -> None:
        self.compiled = kernels("float32")
        self.matrix = matrix.astype(np.float64 if self.compiled is None else np.float32)
        self.matrix.indptr = self.matrix.indptr.astype(np.int32)
        self.matrix.indices = self.matrix.indices.astype(np.int32)
        self.inverse = 1 / self.matrix.diagonal()

    def __call__(self, force: Array, reduction: float) -> Array:
        """Return x (n,) for b (n,), whose residual is reduced so far; StokesError if they do not converge."""
        peak = float(np.abs(force).max(initial=0.0))
        if peak == 0:
            return np.zeros_like(force)
        scaled = np.ascontiguousarray(force / peak, dtype=self.matrix.dtype)
        if self.compiled is not None:
            found = self.compiled.jacobi_gradients(self.matrix, self.inverse, scaled, reduction, LIMIT)
        else:
            preconditioner = sparse.diags_array(self.inverse)
            found, unsolved = sparse.linalg.cg(self.matrix, scaled, rtol=reduction, maxiter=LIMIT, M=preconditioner)
            found = None if unsolved else found
        if found is None:
            raise StokesError("a velocity solve did not converge")
        return peak * found.astype(np.float64)


class DarcySolver:
    """Pressures of Darcy flow through the faces, by conjugate gradients with two levels: voxels, and pieces of pores.

    divergence: from the flows through the faces normal to each axis. permeability: of these faces. place (n,): number
    of the block that each pore voxel lies in.
    """

    def __init__(self, divergence: Sequence[sparse.csr_array], permeability: Sequence[Array], place: Array) -> None:
        flow = sum(d @ sparse.diags_array(k) @ d.T for d, k in zip(divergence, permeability, strict=True))
        self.matrix = sparse.csr_array(flow)
        diagonal = self.matrix.diagonal()  # of a voxel that is its own neighbour everywhere it is zero
        self.inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
        entries = self.matrix.tocoo()
        near = place[entries.row] == place[entries.col]
        kept = sparse.coo_array((np.ones(near.sum()), (entries.row[near], entries.col[near])), shape=flow.shape)
        count, self.piece = sparse.csgraph.connected_components(kept, directed=False)
        ones = np.ones(len(place))
        onto = sparse.csr_array((ones, (np.arange(len(place)), self.piece)), shape=(len(place), count))
        coarse = sparse.csc_array(onto.T @ self.matrix @ onto)
        ground = sparse.diags_array(coarse.diagonal() * 1e-8 + 1e-8 * diagonal.mean() + 1e-300)
        self.coarse = sparse.linalg.splu(sparse.csc_array(coarse + ground), options={"SymmetricMode": True})

    def __call__(self, outflow: Array) -> Array:
        """Return the pressures (n,) with these outflows (n,), to a relative residual of DARCY."""
        operator = sparse.linalg.LinearOperator(self.matrix.shape, matvec=self._precondition, dtype=np.float64)
        return np.asarray(sparse.linalg.cg(self.matrix, outflow, rtol=DARCY, maxiter=LIMIT, M=operator)[0])

    def _precondition(self, r: Array) -> Array:
        pieces = np.bincount(self.piece, r.ravel(), minlength=self.coarse.shape[0])
        return np.asarray(self.inverse * r.ravel() + self.coarse.solve(pieces)[self.piece])


@dataclass(frozen=True, eq=False)
class Schur:
    """The Schur complement S of Stokes flow as a function of pressures (n,), and the solution of Darcy's problem."""

    product: Callable[[Array], Array]
    darcy: Callable[[Array], Array]

    def precondition(self, r: Array) -> Array:
        """Return the pressures that nearly have the outflows r."""
        return r + self.darcy(r - r.mean() if abs(r.sum()) < 1e-6 * np.abs(r).sum() else r)

    def solve(self, right: Array, dissipated: float, *, tolerance: float, limit: int) -> tuple[Array, float, int]:
        """Return the pressure, the estimated relative error of the dissipation, and the iterations.

        Every step of conjugate gradients lowers the dissipation, from its value without pressure (`dissipated`), by a
        known amount; what is still to come is estimated by the last steps (Strakos and Tichy 2002, ETNA 13, 56).
        The preconditioner is not quite the same at every step: Polak and Ribiere's formula allows for that.
        """
        p, r = np.zeros_like(right), right.copy()
        z = self.precondition(r)
        direction, norm = z, float(r @ z)
        steps: list[float] = []
        for step in range(limit):
            recent = sum(steps[-DELAY:])
            if norm <= 1e-24 * max(dissipated, 1e-300) or (len(steps) >= DELAY and recent <= tolerance * dissipated):
                return p, recent / dissipated, step
            image = self.product(direction)
            alpha = norm / float(direction @ image)
            p += alpha * direction
            r -= alpha * image
            steps.append(alpha * norm)
            dissipated -= steps[-1]
            before, z = z, self.precondition(r)
            previous, norm = norm, float(r @ z)
            direction = z + (norm - float(r @ before)) / previous * direction
        raise StokesError(f"not converged to {tolerance:g} in {limit} iterations")
