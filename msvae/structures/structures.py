"""A batch of microstructures, with their specification and their known properties.

One type holds all four kinds, so that no part of the core assumes a voxel image:

    kind           values                                   channels              grid
    "phases"       integers, the phase of a voxel           1                     pixels or voxels
    "field"        real numbers, a grey value               components            pixels or voxels
    "composition"  fractions that sum to one                elements              () - a point
    "occupation"   integers, the species on a site          sites of a unit cell  unit cells
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from msvae.errors import DataError
from msvae.structures.grid import Grid
from msvae.structures.positions import Positions
from msvae.structures.properties import Array, Quantity
from msvae.structures.specification import Specification

__all__ = ["Structures"]

MOST = 256  # constituents, for a voxel is a byte


@dataclass(frozen=True, eq=False)
class Structures:
    """A batch of n microstructures, with their known properties.

    values: (n, channels, *grid) in the specification's dtype; never written to.
    properties: by name, (n, *shape) float64; NaN where a property is unknown.
    quantities: the declaration of every property.
    groups: (n,) integers; structures of one group (simulation, specimen) are never on both sides of a split.
    positions: where structures were cut from images; a split then keeps a gap between its sides.

    Raises DataError if values do not fit the specification: wrong shape, a phase that is not declared, fractions that
    do not sum to one. A field may hold NaN, where an image is damaged: such a structure has no properties.
    """

    values: Array
    specification: Specification
    properties: Mapping[str, Array] = field(default_factory=dict)
    quantities: tuple[Quantity, ...] = ()
    groups: Array | None = None
    positions: Positions | None = None

    def __post_init__(self) -> None:
        values = np.array(_checked(np.asarray(self.values), self.specification), order="C")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        known = {q.name: q for q in self.quantities}
        arrays = {
            name: _property(np.asarray(a, dtype=np.float64), known.get(name), name=name, n=len(values))
            for name, a in self.properties.items()
        }
        object.__setattr__(self, "properties", MappingProxyType(arrays))
        if self.groups is not None and np.shape(self.groups) != (len(values),):
            raise DataError(f"groups has shape {np.shape(self.groups)}, expected ({len(values)},)")
        if self.positions is not None:
            _check_positions(self.positions, len(values), self.specification.grid.dimensions)

    def __reduce__(self) -> tuple[Any, ...]:
        properties = dict(self.properties)
        return Structures, (
            self.values, self.specification, properties, self.quantities, self.groups, self.positions
        )  # fmt: skip

    @classmethod
    def from_labels(
        cls,
        labels: ArrayLike,
        spacing: float | Sequence[float] = 1.0,
        *,
        periodic: bool | Sequence[bool] = True,
        phases: int | Sequence[str] | None = None,
    ) -> Structures:
        """Return structures of kind "phases" from integer labels (n, *grid).

        spacing: in m. phases: how many there are, or their names; by default the largest label plus one.

        >>> Structures.from_labels([[[0, 1], [1, 0]]], spacing=1e-6).specification.shape
        (1, 2, 2)
        """
        array = np.asarray(labels)
        if array.ndim < 2 or array.size == 0:
            raise DataError(f"labels need the shape (n, *grid) with at least one structure, found {array.shape}")
        if not np.issubdtype(array.dtype, np.integer) and not np.issubdtype(array.dtype, np.bool_):
            raise DataError(f"labels are integers, found {array.dtype}")
        phases = max(int(array.max()) + 1, 2) if phases is None else phases
        if isinstance(phases, int) and phases > MOST:
            raise DataError(
                f"labels name one of {MOST} phases at most, found {phases}: give grey values as real numbers, or a "
                "threshold"
            )
        names = tuple(f"phase {k}" for k in range(phases)) if isinstance(phases, int) else tuple(phases)
        grid = Grid.of(array.shape[1:], spacing, periodic=periodic)
        return cls(array[:, None], Specification("phases", 1, grid, names))

    @classmethod
    def from_values(
        cls, values: ArrayLike, spacing: float | Sequence[float] = 1.0, *, periodic: bool | Sequence[bool] = True
    ) -> Structures:
        """Return structures of kind "field" with one component from grey values (n, *grid); spacing in m."""
        array = np.asarray(values)
        if array.ndim < 2:
            raise DataError(f"grey values need the shape (n, *grid), found {array.shape}")
        grid = Grid.of(array.shape[1:], spacing, periodic=periodic)
        return cls(array[:, None], Specification("field", 1, grid, ("grey",)))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int | slice | Sequence[int] | Array) -> Structures:
        """Return the chosen structures, always as a batch."""
        if isinstance(index, int | np.integer) and 0 <= index < len(self):
            index = slice(index, index + 1)
        chosen = index if isinstance(index, slice) else np.atleast_1d(np.arange(len(self))[index])
        return Structures(
            self.values[chosen],
            self.specification,
            {k: v[chosen] for k, v in self.properties.items()},
            self.quantities,
            None if self.groups is None else np.asarray(self.groups)[chosen],
            None if self.positions is None else self.positions[chosen],
        )

    @property
    def labels(self) -> Array:
        """The values (n, *grid) of structures with one channel."""
        if self.specification.channels != 1:
            raise DataError(f"only structures with one channel have labels, these have {self.specification.channels}")
        return self.values[:, 0]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """First 16 hex digits of SHA-256 over values and grid: equal structures have equal ids."""
        head = _head(self.specification)
        return tuple(hashlib.sha256(head + v.tobytes()).hexdigest()[:16] for v in self.values)

    @cached_property
    def damaged(self) -> Mapping[int, str]:
        """For the index of each structure that holds NaN or infinity, one sentence that says so.

        >>> Structures.from_values([[[0.0, 1.0]], [[0.5, float("nan")]]]).damaged
        {1: 'it holds NaN or infinity in 1 of 2 voxels: repair or remove it'}
        """
        size = math.prod(self.values.shape[1:])
        bad = (~np.isfinite(self.values)).reshape(len(self), size).sum(axis=1)
        return {
            int(k): f"it holds NaN or infinity in {bad[k]} of {size} voxels: repair or remove it"
            for k in np.flatnonzero(bad)
        }

    @cached_property
    def fractions(self) -> Array:
        """Fraction (n, constituents) of each phase, species or element; mean (n, channels) of a field."""
        axes = tuple(range(2, self.values.ndim))
        if not self.specification.is_discrete:
            return np.asarray(self.values.mean(axis=axes, dtype=np.float64))
        count = len(self.specification.constituents)
        return np.stack([(self.values == k).mean(axis=(1, *axes)) for k in range(count)], axis=1)

    def with_properties(self, properties: Mapping[str, ArrayLike], quantities: Sequence[Quantity]) -> Structures:
        """Return the same structures with these properties added or replaced."""
        replaced = {q.name for q in quantities}
        kept = tuple(q for q in self.quantities if q.name not in replaced)
        merged = {**self.properties, **{k: np.asarray(v) for k, v in properties.items()}}
        quantities = kept + tuple(quantities)
        return Structures(self.values, self.specification, merged, quantities, self.groups, self.positions)

    def quantity(self, name: str) -> Quantity:
        """Return the declaration of a property; KeyError if it has none."""
        return {q.name: q for q in self.quantities}[name]


@lru_cache(maxsize=64)
def _head(specification: Specification) -> bytes:
    """Return the bytes that represent a specification in an id."""
    return json.dumps(dataclasses.asdict(specification), sort_keys=True).encode()


def _checked(values: Array, specification: Specification) -> Array:
    """Return values in the specification's dtype, or raise DataError. Fields may hold NaN: see Structures.damaged."""
    if values.shape[1:] != specification.shape:
        raise DataError(
            f"structures of kind '{specification.kind}' on this grid have the shape "
            f"(n, {', '.join(map(str, specification.shape))}), found {values.shape}"
        )
    if specification.is_discrete and values.size:
        _check_labels(values, specification)
    if specification.kind == "composition" and values.size:
        _check_fractions(values)
    return values.astype(specification.dtype, copy=False)


def _check_labels(values: Array, specification: Specification) -> None:
    count = len(specification.constituents)
    if count > MOST:
        raise DataError(f"at most {MOST} constituents are possible, found {count}")
    if not ((values == np.floor(values)).all() and values.min() >= 0 and values.max() < count):
        raise DataError(
            f"values of kind '{specification.kind}' are integers from 0 to {count - 1}, found "
            f"{values.min():g} to {values.max():g}"
        )


def _check_fractions(values: Array) -> None:
    total = values.sum(axis=1)
    if not (values.min() >= 0 and np.abs(total - 1).max() <= 1e-4):
        worst = int(np.abs(total - 1).argmax())
        raise DataError(
            f"fractions of a composition are >= 0 and sum to 1, found a sum of {total[worst]:g} in "
            f"structure {worst} and a smallest fraction of {values.min():g}"
        )


def _check_positions(positions: Positions, n: int, dimensions: int) -> None:
    axes = positions.corners.shape[1]
    if len(positions) != n or axes < dimensions:
        raise DataError(
            f"positions of {n} structures have at least {dimensions} axes, found those of {len(positions)} in {axes}"
        )


def _property(array: Array, quantity: Quantity | None, *, name: str, n: int) -> Array:
    if quantity is None:
        raise DataError(f"property '{name}' has no Quantity that declares its unit and shape")
    if array.shape != (n, *quantity.sizes):
        raise DataError(f"property '{name}' has shape {array.shape}, expected {(n, *quantity.sizes)}")
    array = array.copy()
    array.flags.writeable = False
    return array
