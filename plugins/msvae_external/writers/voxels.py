"""The mesh of a voxel image: its nodes, the nodes of its elements, and its faces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from msvae import Array, Grid

__all__ = ["FACES", "Mesh"]

# corners of an element, counter-clockwise below and above, as Abaqus, VTK and gmsh order them
CORNERS = {2: ((0, 0), (1, 0), (1, 1), (0, 1)),
           3: ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1))}  # fmt: skip
FACES = tuple(
    (axis, side, f"{name}{end}") for axis, name in enumerate("XYZ") for side, end in enumerate(("MIN", "MAX"))
)


@dataclass(frozen=True)
class Mesh:
    """A mesh with an element for every voxel; the first axis is x. factor: turns m into the unit of the points."""

    grid: Grid
    factor: float = 1.0

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Numbers of nodes along the axes."""
        return tuple(n + 1 for n in self.grid.shape)

    @cached_property
    def numbers(self) -> Array:
        """The numbers of the nodes (*counts), from 0."""
        return np.arange(int(np.prod(self.counts))).reshape(self.counts)

    @cached_property
    def points(self) -> Array:
        """Coordinates (nodes, 3); z is 0 in 2D."""
        places = np.stack(np.unravel_index(np.arange(self.numbers.size), self.counts), axis=1)
        found = np.zeros((len(places), 3))
        found[:, : self.grid.dimensions] = places * np.array(self.grid.spacing) * self.factor
        return found

    @cached_property
    def cells(self) -> Array:
        """The nodes (voxels, 4 or 8) of the elements, in the order of the voxels, from 0."""
        corners = CORNERS[self.grid.dimensions]
        slices = ([slice(o, o + n) for o, n in zip(corner, self.grid.shape, strict=True)] for corner in corners)
        return np.stack([self.numbers[tuple(s)].ravel() for s in slices], axis=1)

    def face(self, axis: int, side: int) -> Array:
        """Return the nodes of the first or last face along an axis."""
        return np.asarray(np.take(self.numbers, -side, axis=axis).ravel())

    def sides(self, axis: int, side: int) -> Array:
        """Return the nodes (faces, 2 or 4) of the sides of elements on the first or last face along an axis."""
        plane = np.take(self.numbers, -side, axis=axis)
        steps = ((0,), (1,)) if plane.ndim == 1 else ((0, 0), (1, 0), (1, 1), (0, 1))
        moved = [tuple(slice(o, o - 1 or None) for o in step) for step in steps]
        return np.stack([plane[place].ravel() for place in moved], axis=1)
