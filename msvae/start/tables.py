"""A look at a table of compositions: CSV or Excel."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from msvae.errors import DataError
from msvae.start.seen import Key, Seen, dataset_of
from msvae.structures import Array

__all__ = ["SUFFIXES", "look_at_table"]

SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm")
LEAST = 10  # alloys that a model can be fitted to
CLASSES = 5  # different whole numbers, up to which they are classes


def look_at_table(path: Path) -> Seen:
    """Return what a table of compositions holds; DataError, in one sentence, if it holds none."""
    table: dict[str, Any] = {"name": "compositions", "path": path}
    dataset_of(table).load(0)  # says what is wrong with the file, or with its formulas
    header, rows = _table(path)
    numbers = [name for name, cells in zip(header[1:], zip(*(row[1:] for row in rows), strict=True), strict=True)
               if _are_numbers(cells)]  # fmt: skip
    structures = dataset_of(table | {"properties": numbers}).load(0)
    elements = structures.specification.constituents
    if len(structures) < LEAST:
        raise DataError(f"'{path}' has {len(structures)} alloys, expected {LEAST} at least: give more of them")
    if len(set(structures.ids)) == 1:
        raise DataError(f"'{path}': its {len(structures)} alloys are all alike, so there is nothing to learn")
    parts = (structures.values > 0).sum(axis=1)
    said = [f"{len(structures)} alloys of {len(elements)} elements ({', '.join(elements[:12])}"
            f"{', ...' * (len(elements) > 12)}), {parts.min()} to {parts.max()} in each; formulas in column "
            f"'{header[0]}'"]  # fmt: skip
    said += [_described(name, structures.properties[name]) for name in numbers]
    if not numbers:
        said.append("no column of numbers beside the formulas: the model learns compositions alone")
    keys = {"name": Key("compositions"), "path": Key(str(path.resolve())),
            "formula": Key(header[0], "column with the formulas")}  # fmt: skip
    if numbers:
        keys["properties"] = Key(numbers, "columns that are learnt; dataset.units gives their units")
    if _in_families(structures.values):
        keys["families"] = Key("elements", "alloys of the same elements stay on one side of the split")
    return Seen(tuple(said), keys, tuple(numbers), "perceptron")


def _in_families(fractions: Array) -> bool:
    """Return whether there are enough families of alloys (n, elements) of the same elements to hold some back."""
    _, counts = np.unique(fractions > 0, axis=0, return_counts=True)
    return bool(counts.max() < 0.5 * len(fractions))


def _described(name: str, values: Array) -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return f"column '{name}': no number"
    missing = f", unknown of {len(values) - len(known)}" if len(known) < len(values) else ""
    kinds = np.unique(known)
    if len(kinds) <= CLASSES and np.array_equal(kinds, np.rint(kinds)):
        shares = ", ".join(f"{100 * np.mean(known == kind):.0f} % are {kind:g}" for kind in kinds)
        return f"column '{name}': classes, {shares}{missing}"
    return f"column '{name}': {known.min():.4g} to {known.max():.4g}, mean {known.mean():.4g}{missing}"


def _are_numbers(cells: tuple[str, ...]) -> bool:
    try:
        return bool(np.isfinite([float(cell) for cell in cells if cell.strip()]).any())
    except ValueError:
        return False


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and the rows, all as texts, of a table that has been read before."""
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        from openpyxl import load_workbook

        book: Any = load_workbook(path, read_only=True, data_only=True)
        rows = [["" if cell is None else str(cell) for cell in row] for row in book.active.iter_rows(values_only=True)]
    else:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = list(csv.reader(file, delimiter=max(",;\t", key=first.count)))
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    return [cell.strip() for cell in rows[0]], rows[1:]
