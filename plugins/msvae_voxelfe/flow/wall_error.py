"""Discretisation error of a permeability: an estimate from the flow along the walls.

Inside the pores the staggered grid is exact for parabolic profiles. The error arises at the walls and always has the
same sign: flow is too fast beside them. By kind of wall, per volume of the structure and at unit viscosity:

- a flat wall: u u'', of the velocity u beside it. Between plates u'' is off by a quarter there, and sums of u exceed
  its integral by a twelfth: a third of u u'' is exact for them.
- an edge across the flow, around which it turns, and an edge along it: (u / h)^2, since the velocity grows like r^.54
  and r^.67 from there (Moffatt 1964, J. Fluid Mech. 18, 1), so that the energy that the grid misses is that of the
  nearest face, times a number.

The three numbers were fitted to structures on voxels cut in 2, 4 and 8: `tests/voxelfe/test_permeability.py` measures
them on others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msvae import Array
from msvae_voxelfe.flow.faces import Faces

FLAT, ACROSS, ALONG = 0.45, 0.36, 1.7  # of flat walls, edges across the flow, and edges along it


def overestimate(fluid: Array, faces: Sequence[Faces], velocities: Sequence[Array], density: Array, *,
                 reservoir: int | None) -> float:  # fmt: skip
    """Return the estimated excess of the mean velocity under a unit pressure gradient over its limit on finer voxels.

    fluid: pore voxels (*grid). velocities: through the faces (faces,) of each axis. density: of voxels along each axis
    (d,), over that along the first. reservoir: the axis whose two ends are open, the other sides being walls; None
    where the structure is periodic.
    """
    grid, places = fluid, np.flatnonzero(fluid)
    if reservoir is not None:  # one more layer all around: pores beyond the open ends, else solid
        places = np.flatnonzero(np.pad(fluid, 1))
        grid = np.pad(fluid, [(0, 0) if a == reservoir else (1, 1) for a in range(fluid.ndim)])
        grid = np.pad(grid, [(1, 1) if a == reservoir else (0, 0) for a in range(fluid.ndim)], mode="edge")
    total = 0.0
    for f, u in zip(faces, velocities, strict=True):
        step = int(np.prod(grid.shape[f.axis + 1 :]))
        before, behind = f.cells.T
        where = np.where(behind >= 0, places[behind], places[before] + step)
        speed, passed = np.zeros(grid.size), np.zeros(grid.size, dtype=bool)
        speed[where], passed[where] = u, True
        total += _along_walls(f.axis, grid, speed.reshape(grid.shape), passed.reshape(grid.shape), density)
    return total / fluid.size


def _along_walls(axis: int, pores: Array, speed: Array, passed: Array, density: Array) -> float:
    """Return the sum over the faces normal to an axis of the errors at the walls beside them."""
    before, behind, total = np.roll(pores, 1, axis), pores, 0.0
    for other in (a for a in range(pores.ndim) if a != axis):
        edges = [a for a in range(pores.ndim) if a not in (axis, other)]  # that run along the flow, in 3D
        for side in (1, -1):
            beside = [np.roll(cells, side, other) for cells in (before, behind)]
            opposite = [np.roll(cells, -side, other) for cells in (before, behind)]
            flat = passed & ~beside[0] & ~beside[1]
            across = passed & (beside[0] ^ beside[1])
            away = np.roll(speed, -side, other)
            bend = np.where(opposite[0] & opposite[1], 4 / 3 * (3 * speed - away), 8 * speed)  # -u''
            missed = FLAT * (speed * bend)[flat].sum() + ACROSS * (speed**2)[across].sum()
            for edge in edges:
                for way in (1, -1):
                    free = np.roll(beside[0], way, edge) & np.roll(beside[1], way, edge)
                    missed += ALONG * (speed**2)[flat & free].sum()
            total += float(density[other]) ** 2 * float(missed)
    return total
