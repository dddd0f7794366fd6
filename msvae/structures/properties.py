"""Properties of structures: how one is declared, and the arrays that a solver returns for a batch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from msvae.errors import DataError

__all__ = ["Array", "Properties", "Quantity"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Quantity:
    """The declaration of a property: its name, its SI unit, and its shape.

    shape: integers, or the letters "d" (number of dimensions) and "v" (Voigt components: 3 in 2D in the order
        11 22 12; 6 in 3D in the order 11 22 33 23 13 12), which `resolve` replaces.
    spacing_exponent: the power of the voxel spacing that the value scales with; None reads it from a unit
        that is a pure power of the metre ("m^2" gives 2) and takes 0 for any other.
    unbounded: whether infinity is a valid value, such as the resistance of a structure that does not conduct.
    """

    name: str
    unit: str = "1"
    shape: tuple[int | str, ...] = ()
    spacing_exponent: int | None = None
    unbounded: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.unit, str) or not self.unit.strip():
            raise DataError(f"'{self.name}' has the unit {self.unit!r}: give an SI unit, or '1' for a pure number")

    def resolve(self, dimensions: int) -> Quantity:
        """Return the same quantity with the letters of its shape replaced by numbers.

        >>> Quantity("stiffness", "Pa", ("v", "v")).resolve(3).shape
        (6, 6)
        """
        sizes = {"d": dimensions, "v": dimensions * (dimensions + 1) // 2}
        shape = tuple(sizes[s] if isinstance(s, str) else s for s in self.shape)
        return dataclasses.replace(self, shape=shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of a resolved quantity; DataError if letters are left in it."""
        if any(isinstance(s, str) for s in self.shape):
            raise DataError(f"the shape {self.shape} of '{self.name}' depends on the dimensions: resolve it first")
        return tuple(int(s) for s in self.shape)

    @property
    def size(self) -> int:
        """Number of components of a resolved quantity."""
        return int(np.prod(self.sizes, dtype=int))

    @property
    def scaling(self) -> int:
        """The power of the spacing that the value scales with.

        >>> Quantity("permeability", "m^2").scaling, Quantity("conductivity", "W/m/K").scaling
        (2, 0)
        """
        if self.spacing_exponent is not None:
            return self.spacing_exponent
        match = re.fullmatch(r"(1/)?m(?:\^(-?\d+))?", self.unit)
        return 0 if match is None else int(match[2] or 1) * (-1 if match[1] else 1)


@dataclass(frozen=True, eq=False)
class Properties(Mapping[str, Array]):
    """Properties of a batch of n structures, as a mapping from name to an array (n, *shape).

    failures: for the index of a structure without a result, one sentence that gives the reason; its rows are NaN.
    errors: estimated absolute error of the discretisation of each property, arrays of the same shape: the distance from
    the limit of the same structure on ever finer grids.
    iteration_errors: estimated absolute error of the unfinished solver iterations, on the given grid.
    iterations: number of solver iterations of each structure (n,).
    notes: for the index of a structure with a result, one sentence that qualifies it, where needed.
    statuses: for the index of a failure, how it ended if that is known: "timeout", "crashed" or "invalid".
    """

    arrays: Mapping[str, Array]
    failures: Mapping[int, str] = field(default_factory=dict)
    errors: Mapping[str, Array] = field(default_factory=dict)
    iteration_errors: Mapping[str, Array] = field(default_factory=dict)
    iterations: Array | None = None
    notes: Mapping[int, str] = field(default_factory=dict)
    statuses: Mapping[int, Literal["failed", "timeout", "crashed", "invalid"]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)
