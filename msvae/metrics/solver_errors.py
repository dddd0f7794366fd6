"""What a solver says of its own errors, over many structures: of the discretisation, and of what iterations left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from msvae.structures import Array
from msvae.structures.evaluations import ESTIMATES, Evaluations
from msvae.structures.units import in_fitting_unit

__all__ = ["PropertyErrors", "Spread", "property_errors", "relative_errors", "with_unit"]


@dataclass(frozen=True)
class Spread:
    """Errors of one property over the structures that have an estimate: of the largest entry of each.

    structures: how many. median: in the property's unit. relative, largest: median and largest, relative to the entry.
    """

    structures: int
    median: float
    relative: float
    largest: float


@dataclass(frozen=True)
class PropertyErrors:
    """Both errors of one property, None where the solver estimates none. evaluations: of different structures."""

    name: str
    unit: str
    evaluations: int
    discretisation: Spread | None
    iteration: Spread | None

    @property
    def text(self) -> str:
        """Both errors in words."""
        n = self.evaluations
        both = (f"discretisation {self._described(self.discretisation)}, "
                f"iteration {self._described(self.iteration)}")  # fmt: skip
        return f"{self.name}, {n} evaluation{'s' if n > 1 else ''}, errors by the solver's estimate: {both}"

    @property
    def row(self) -> tuple[str, ...]:
        """Name, number of evaluations, and both errors as cells of a table."""
        return (self.name, str(self.evaluations), *map(self._described, (self.discretisation, self.iteration)))

    def _described(self, spread: Spread | None) -> str:
        if spread is None:
            return "not estimated"
        size = f"{with_unit(spread.median, self.unit)} ({percent(spread.relative)})"
        return size if spread.structures == 1 else f"{size} in the median and {percent(spread.largest)} at most"


def with_unit(value: float, unit: str) -> str:
    """Return a number of two digits with its unit, in a fitting size.

    >>> with_unit(1.25e8, "Pa"), with_unit(0.0312, "1")
    ('120 MPa', '0.031')
    """
    shown, fitting = in_fitting_unit(np.array(value), unit)
    text = np.format_float_positional(float(f"{float(shown):.2g}"), trim="-")
    return (text if 1e-4 <= abs(float(shown)) < 1e6 else f"{float(shown):.2g}") + ("" if unit == "1" else f" {fitting}")


def percent(ratio: float) -> str:
    """Return a ratio in percent with two digits; "unknown" for NaN."""
    return f"{100 * ratio:.2g} %" if np.isfinite(ratio) else "unknown"


def relative_errors(values: Array, errors: Array) -> Array:
    """Return the error (n,) of the largest entry of every property (n, *shape), relative to it.

    errors: (n, *shape), absolute. NaN without an estimate, and for properties that are zero.
    """
    entry, error = _largest_entries(values, errors)
    return np.asarray(np.divide(error, entry, out=np.full(len(entry), np.nan), where=entry > 0))


def property_errors(tables: Iterable[Evaluations]) -> list[PropertyErrors]:
    """Return the errors of every property that tables of evaluations have, each structure counted once.

    Samples whose values are no solver's (a head's) have no estimate and are left out.
    """
    parts: dict[str, list[tuple[Array, ...]]] = {}
    units: dict[str, str] = {}
    for table in tables:
        units |= table.units
        for name, values in table.properties.items():
            parts.setdefault(name, []).append(_of_table(table, name, values))
    found = []
    for name, rows in parts.items():
        structure, *columns = (np.concatenate(column) for column in zip(*rows, strict=True))
        kept = _distinct(structure) & ((structure != "") | np.isfinite(columns[1:]).any(axis=0))
        if kept.any():
            entry, *errors = (column[kept] for column in columns)
            spreads = (_spread(entry, error) for error in errors)
            found.append(PropertyErrors(name, units.get(name, "1"), int(kept.sum()), *spreads))
    return found


def _of_table(table: Evaluations, name: str, values: Array) -> tuple[Array, ...]:
    """Return of a table's results (n): ids, the property's largest entry, and both of its errors there."""
    done = table.done
    columns = [np.full(int(done.sum()), np.nan)] * len(ESTIMATES)
    for k, family in enumerate(ESTIMATES):
        errors = getattr(table, family).get(name)
        if errors is not None:
            columns[k] = _largest_entries(values[done], errors[done])[1]
    entry = np.abs(values[done]).reshape(int(done.sum()), -1).max(axis=1, initial=0.0)
    return table["structure"][done], entry, *columns


def _largest_entries(values: Array, errors: Array) -> tuple[Array, Array]:
    """Return the sizes (n,) of the largest entries of properties (n, *shape), and their errors (n,)."""
    flat, own = np.abs(values.reshape(len(values), -1)), np.abs(errors.reshape(len(values), -1))
    if not flat.size:
        return np.zeros(len(flat)), np.full(len(flat), np.nan)
    place = (np.arange(len(flat)), np.nan_to_num(flat, nan=-1.0).argmax(axis=1))
    return flat[place], own[place]


def _distinct(structures: Array) -> Array:
    """Return the mask (n,) of the first row of every structure, and of rows that are of none in particular ("")."""
    first = structures == ""
    first[np.unique(structures, return_index=True)[1]] = True
    return np.asarray(first)


def _spread(entry: Array, errors: Array) -> Spread | None:
    known = np.isfinite(errors)
    if not known.any():
        return None
    relative = relative_errors(entry[known, None], errors[known, None])
    relative = relative[np.isfinite(relative)]
    middle, largest = (float(np.median(relative)), float(relative.max())) if len(relative) else (np.nan, np.nan)
    return Spread(int(known.sum()), float(np.median(errors[known])), middle, largest)
