"""Alloys of a table with a column of formulas: a CSV file, or an Excel sheet."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from msvae import Array, Count, DataError, Dataset, Distinct, Grid, Quantity, Specification, Structures
from msvae_alloys.elements import FEATURES, element_table
from msvae_alloys.formulas import amounts

DEMO = (("Fe", "Ni", "Co", "Cr", "Mn"), ("Al", "Ti", "Mo", "Nb", "Cu"))  # solvents, and what is dissolved in them


@dataclass(frozen=True)
class Compositions(Dataset):
    """Compositions of the alloys in a table, with numbers and classes that are known of them.

    path: a CSV file (.csv, .txt, .tsv) or an Excel sheet (.xlsx), whose first row has the names of the columns.
    formula: the column with the formulas; by default the first one.
    properties: columns with numbers or classes; an empty cell is unknown. units: of these; by default "1".
    features: whether the eight features of elements.py are properties too.
    families: alloys that a split keeps on one side: "none", those of the same "elements", or of the same "base", the
        most abundant element.
    limit: only the first rows.
    """

    name = "compositions"
    kinds = ("composition",)
    dimensions = (0,)

    path: Path
    formula: str | None = None
    properties: Annotated[tuple[str, ...], Distinct] = ()
    units: tuple[str, ...] = ()
    features: bool = False
    families: Literal["none", "elements", "base"] = "none"
    limit: Annotated[Count, Field(ge=2)] | None = None

    def __post_init__(self) -> None:
        if self.units and len(self.units) != len(self.properties):
            raise ValueError(
                f"units names one unit for each of the {len(self.properties)} properties, found {len(self.units)}"
            )

    def load(self, seed: int) -> Structures:
        header, rows = _table(self.path)
        rows = rows[: self.limit]
        column = self.formula or header[0]
        for name in (column, *self.properties):
            if name not in header:
                raise DataError(f"'{self.path}' has no column '{name}' (it has: {', '.join(header)})")
        place = header.index(column)
        found = [_amounts(row[place], f"'{self.path}' row {k + 2}") for k, row in enumerate(rows)]
        if not found:
            raise DataError(f"'{self.path}' has no alloys: its first row has the columns' names, the next ones alloys")
        names = {
            q: _numbers([row[header.index(q)] for row in rows], f"'{self.path}' column '{q}'") for q in self.properties
        }
        units = dict(zip(self.properties, self.units or ("1",) * len(self.properties), strict=True))
        return self._structures(found, names, units)

    def _structures(
        self, found: list[dict[str, float]], columns: dict[str, Array], units: dict[str, str]
    ) -> Structures:
        symbols = tuple(sorted({symbol for row in found for symbol in row}))
        fractions = np.array([[row.get(symbol, 0.0) for symbol in symbols] for row in found])
        fractions /= fractions.sum(axis=1, keepdims=True)
        if self.features:
            table = element_table(symbols).features(fractions)
            columns = {**columns, **dict(zip(FEATURES, table.T, strict=True))}
            units = units | FEATURES
        quantities = tuple(Quantity(name, units[name]) for name in columns)
        specification = Specification("composition", len(symbols), Grid.of((), 1.0), symbols)
        return Structures(fractions.astype(np.float32), specification, columns, quantities, self._families(found))

    def _families(self, found: list[dict[str, float]]) -> Array | None:
        if self.families == "none":
            return None
        if self.families == "base":
            keys = [max(sorted(row), key=row.__getitem__) for row in found]
        else:
            keys = ["-".join(sorted(row)) for row in found]
        return np.unique(keys, return_inverse=True)[1].astype(np.int64).reshape(-1)

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        """Return random solutions of one element in two or three others; single-phase where little is dissolved."""
        rng = np.random.default_rng(seed)
        found = []
        for _ in range(n):
            some = [*rng.choice(DEMO[0], rng.integers(2, 4), replace=False), rng.choice(DEMO[1])]
            found.append(dict(zip(map(str, some), rng.dirichlet(np.full(len(some), 3.0)).tolist(), strict=True)))
        dissolved = np.array([sum(x for symbol, x in row.items() if symbol in DEMO[1]) for row in found])
        return cls(path=Path("example.csv"))._structures(
            [{**dict.fromkeys(sum(DEMO, ()), 0.0), **row} for row in found],
            {"single phase": (dissolved < 0.2).astype(np.float64)},
            {"single phase": "1"},
        )


def _amounts(formula: str, place: str) -> dict[str, float]:
    try:
        return amounts(formula)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None


def _numbers(cells: list[str], place: str) -> Array:
    """Return the numbers in cells; NaN for an empty one."""
    found = []
    for k, cell in enumerate(cells):
        try:
            found.append(float(cell) if cell.strip() else np.nan)
        except ValueError:
            raise DataError(f"{place} row {k + 2}: found '{cell}', expected a number, or nothing") from None
    return np.array(found)


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and the rows of a table, all as texts."""
    if not path.is_file():
        raise DataError(f"dataset.path: '{path}' does not exist: give a CSV file or an Excel sheet")
    try:
        rows = _sheet(path) if path.suffix.lower() in (".xlsx", ".xlsm") else _separated(path)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"dataset.path: '{path}' cannot be read as a table ({error}): restore it") from None
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        raise DataError(f"dataset.path: '{path}' is empty: its first row has the columns' names, the next ones alloys")
    header = [cell.strip() for cell in rows[0]]
    short = next((k for k, row in enumerate(rows) if len(row) < len(header)), None)
    if short is not None:
        raise DataError(f"'{path}' row {short + 1} has {len(rows[short])} columns, expected {len(header)}")
    return header, rows[1:]


def _separated(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        sample = file.read(4096)
        file.seek(0)
        separator = max(",;\t", key=sample.partition("\n")[0].count)
        return list(csv.reader(file, delimiter=separator))


def _sheet(path: Path) -> list[list[str]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise DataError(
            f"'{path}' needs the package openpyxl: pip install 'msvae[alloys]', or save it as CSV"
        ) from None
    book: Any = load_workbook(path, read_only=True, data_only=True)
    return [["" if cell is None else str(cell) for cell in row] for row in book.active.iter_rows(values_only=True)]
