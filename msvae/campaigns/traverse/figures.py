"""The figures of traversals: structures of one, and the solver's values of all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from msvae.campaigns.traverse.run import FILE, STRUCTURES
from msvae.files.structures import read_structures
from msvae.report.drawing import Drawing, check_panels, picture
from msvae.run.directory import Run
from msvae.structures import Array, Structures

__all__ = ["traversals"]

DECADES = 30.0  # largest over smallest value


def traversals(run: Run) -> Iterator[Drawing]:
    """Yield a figure for each property that is moved."""
    if not (run.path / FILE).exists():
        return
    told = run.read_json(FILE, dict, ("numbers", "shape", "asked", "found"))
    structures = read_structures(run.path / STRUCTURES)
    numbers, shape = told["numbers"], tuple(told["shape"])
    found = np.array(told["found"], dtype=float).reshape(*shape, len(numbers))
    asked = np.array(told["asked"], dtype=float).reshape(found.shape)
    units = [number.unit for number in run.study.model.axes]
    labels = [f"{n} ({u})" if u else n for n, u in zip(numbers, units, strict=True)]
    for k, name in enumerate(numbers):
        first = structures[k * shape[2] + np.arange(shape[2])]
        figure = _figure(first, asked[k, ..., k], found[k], labels, k)
        yield Drawing(
            f"traversal_{k}",
            f"{name} is moved, the others are held: structures of one traversal above the solver's values of all; "
            "the first one's in black.",
            figure,
        )


def _figure(structures: Structures, asked: Array, found: Array, names: list[str], moved: int) -> Figure:
    """Draw a strip of structures over one panel for each property; asked (traversals, steps), found (..., k)."""
    columns = len(structures)
    check_panels(columns + len(names))
    figure = Figure(figsize=(6.4, 1.0 + 2.0 * len(names)))
    grid: Any = figure.add_gridspec(1 + len(names), columns, height_ratios=[1] + [2] * len(names))
    for j in range(columns):
        picture(figure.add_subplot(grid[0, j]), structures, j)
    for j, name in enumerate(names):
        axis = figure.add_subplot(grid[1 + j, :])
        for t in range(len(asked))[::-1]:
            colour: dict[str, Any] = {"color": "k", "lw": 1.4} if t == 0 else {"color": "C0", "lw": 0.6, "alpha": 0.5}
            axis.plot(asked[t], found[t, :, j], marker=".", ms=3, **colour)
        if spans_decades(found[..., j]):
            axis.set_yscale("log")
        if spans_decades(asked):
            axis.set_xscale("log")
        axis.set(ylabel=name, xlabel=f"asked {names[moved]}" if j == len(names) - 1 else "")
    return figure


def spans_decades(values: Array) -> bool:
    """Return whether positive values are better drawn by their logarithm."""
    known = values[np.isfinite(values) & (values > 0)]
    return len(known) > 0 and bool((values[np.isfinite(values)] >= 0).all()) and known.max() > DECADES * known.min()
