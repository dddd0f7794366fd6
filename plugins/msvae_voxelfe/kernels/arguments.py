"""What the compiled kernels are given: forces, the inverse of the homogeneous problem, memory to work in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from msvae import Array
from msvae_voxelfe.kernels.plan import Plan

LANES, UNIT = 8, 16  # complex numbers of single precision in a vector of kernels.c; vectors of a unit of the spectrum


@dataclass(frozen=True, eq=False)
class Forces:
    """Pairs of forces, whose components and planes lie apart by layout (2,), counted in real numbers."""

    memory: Array
    layout: Array


@dataclass(frozen=True, eq=False)
class Inverse:
    """The inverse of the homogeneous problem as preconditioner.h takes it.

    grid (6,): nodes along the axes, then what is beyond them. tables: of the axes' transforms, forwards and then
    backwards, one after the other; starts (6,): where each begins.
    """

    grid: Array
    symbol: Array
    factors: Array
    tables: Array
    starts: Array


@dataclass(frozen=True, eq=False)
class Workspace:
    """Memory of the kernels for one pair of load cases; see kernels.c. sizes: threads, pieces, of work and of rows."""

    sizes: tuple[int, int, int, int]
    work: Array
    rows: Array
    edges: Array
    sums: Array
    units: Array

    @classmethod
    def of(cls, grid: tuple[int, ...], components: int, dtype: Any, plan: Plan) -> Workspace:
        """Return it for arrays of a precision on a grid."""
        nx, ny, nz = grid
        groups, slabs = -(-nz // LANES), -(-ny // LANES)
        buffers = max(ny, groups * LANES, 3 * nx) + 10 * max(nx, ny, nz) + 2
        work = (slabs * LANES * groups + buffers + 1) * 2 * LANES  # of single precision, which alone transforms
        rows = 30 * (2 * nz + 4 * LANES) + 2 * LANES
        edges = np.empty((plan.pieces if plan.pieces > 1 else 0, components, ny, nz, 2), dtype=dtype)
        return cls((plan.threads, plan.pieces, work, rows), np.empty((plan.threads, work), dtype=np.float32),
                   np.empty((plan.threads, rows), dtype=dtype), edges, np.empty((plan.pieces, 10, 2)),
                   np.empty(slabs * -(-nz // UNIT)))  # fmt: skip

    def plan(self, limit: int = 0) -> Array:
        """Return the sizes as kernels.c takes them, and a limit of steps."""
        return np.array([*self.sizes, limit], dtype=np.int64)
