"""Structures from an HDF5 file: one that a run wrote, or any array with its description in the study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from msvae import (
    DataError,
    Dataset,
    Grid,
    Length,
    Positions,
    Quantity,
    Specification,
    Structures,
    read_structures,
)


@dataclass(frozen=True)
class Hdf5(Dataset):
    """Structures of an HDF5 file.

    path: the file; one that msvae wrote (a run's structures.h5) needs no more.
    values: name of an array (n, *grid), or (n, channels, *grid) for compositions and occupations, of another program.
    kind: of the structures in that array. spacing: edge length of a voxel, one number or one along each axis.
    periodic: whether structures continue on their other side. constituents: names of the phases or species.
    properties: names of arrays (n, *shape). units: of these, in the same order.
    groups: name of an array (n,) of integers, the simulation or specimen of each structure; those of one are not split.
    corners: name of an array (n, axes) of integers, the first voxel of each structure in the image that it was cut
        from; images: of an array (n,), which image that is, where there are several.
    """

    name = "hdf5"
    dimensions = (0, 1, 2, 3)

    path: Path
    values: str | None = None
    kind: Literal["phases", "field", "composition", "occupation"] = "phases"
    spacing: Length | tuple[Length, ...] = 1.0
    periodic: bool = True
    constituents: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    groups: str | None = None
    corners: str | None = None
    images: str | None = None

    def __post_init__(self) -> None:
        if len(self.units) != len(self.properties):
            raise ValueError(
                f"units names one unit for each of the {len(self.properties)} properties, found {len(self.units)}"
            )

    def load(self, seed: int) -> Structures:
        if self.values is None:
            return read_structures(self.path)
        try:
            with h5py.File(self.path, "r") as file:
                return self._read(file)
        except (OSError, KeyError, TypeError) as error:
            raise DataError(
                f"dataset.path: '{self.path}' cannot be read as HDF5 with the array '{self.values}': {error}"
            ) from None

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        rng = np.random.default_rng(seed)
        return Structures.from_labels(rng.integers(0, 2, (n, 8, 8)), 1e-6, phases=2)

    def _read(self, file: Any) -> Structures:
        array = np.asarray(file[self.values])
        if self.kind in ("phases", "field"):
            array = array[:, None]
        grid = Grid.of(array.shape[2:], self.spacing, periodic=self.periodic)
        names = self.constituents or self._default_names(array)
        stored = {name: np.asarray(file[name]) for name in self.properties}
        quantities = tuple(
            Quantity(n, u, stored[n].shape[1:]) for n, u in zip(self.properties, self.units, strict=True)
        )
        specification = Specification(self.kind, array.shape[1], grid, names)
        groups, corners, images = (
            None if name is None else np.asarray(file[name]) for name in (self.groups, self.corners, self.images)
        )
        positions = None if corners is None else Positions(corners, images)
        return Structures(array, specification, stored, quantities, groups, positions)

    def _default_names(self, array: np.ndarray[Any, Any]) -> tuple[str, ...]:
        discrete = self.kind in ("phases", "occupation")
        count = max(int(array.max(initial=0)) + 1, 2) if discrete else array.shape[1]
        word = {"phases": "phase", "field": "component", "composition": "element", "occupation": "species"}[self.kind]
        return tuple(f"{word} {k}" for k in range(count))
