"""The figures of generated structures."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from msvae.files.structures import read_structures
from msvae.report.drawing import Drawing, axes_of, picture
from msvae.run.directory import Run
from msvae.structures import Structures

__all__ = ["generated", "targets_and_results"]


def generated(run: Run) -> Drawing | None:
    """Generated structures, one row of samples for each given value."""
    structures = _generated(run)
    if structures is None:
        return None
    asked = structures.properties["asked_0"]
    values = np.unique(asked)
    figure = Figure(figsize=(6.4, 0.8 * len(values) + 0.4))
    for k, axis in enumerate(axes_of(figure, len(values), 8)):
        row = np.flatnonzero(asked == values[k // 8])
        picture(axis, structures, int(row[k % 8 % len(row)]))
        if k % 8 == 0:
            axis.set_ylabel(f"{values[k // 8]:g}", rotation=0, ha="right", va="center")
    return Drawing("generated", f"Generated structures; at the left the asked {run.study.model.conditions[0]}.", figure)


def targets_and_results(run: Run) -> Drawing | None:
    """Given values against those that the predictor and the solver find for the generated structures."""
    structures = _generated(run)
    if structures is None:
        return None
    asked = structures.properties["asked_0"]
    figure = Figure(figsize=(4.4, 3.8))
    axis = figure.subplots()
    for name, label, marker in (("predicted", "structure-space head", "o"), ("solved", "solver", "x")):
        if name in structures.properties:
            axis.scatter(asked, structures.properties[name], s=12, alpha=0.6, marker=marker, label=label)
    axis.plot([asked.min(), asked.max()], [asked.min(), asked.max()], "k--", lw=0.8, label="as asked")
    condition = run.study.model.conditions[0]
    axis.set(
        xlabel=f"asked {condition} ({condition.unit or '1'})", ylabel=f"found {condition} ({condition.unit or '1'})"
    )
    axis.legend()
    return Drawing("targets_and_results", "Asked values, and what was found in the generated structures.", figure)


def _generated(run: Run) -> Structures | None:
    """Return generated structures, with the given and the found values, if there are any."""
    path = run.path / "generated.h5"
    return read_structures(path) if path.exists() else None
