"""Reproduce: run a run's frozen study again, and compare the two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from msvae.campaigns.design.campaign import InverseDesign
from msvae.campaigns.design.loop.pace import PACE
from msvae.campaigns.design.run import WALL
from msvae.campaigns.launch import launch
from msvae.errors import RunError
from msvae.files.border import fitting
from msvae.run.directory import Run
from msvae.run.outside import check_outside
from msvae.run.table import Table
from msvae.structures import Array
from msvae.structures.evaluations import Evaluations

__all__ = ["compare", "reproduce"]

SAME = 1e-6  # relative difference of properties that other processors and libraries explain


def reproduce(
    directory: Path,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    inputs: Sequence[str] = (),
    resume: bool = False,
    trust: bool = False,
) -> Table | None:
    """Run the study of a run again into another directory, and return the comparison; None on other ranks.

    inputs: settings that name files of the run's archive; those of a data set are data, those of a solver can be
    programs. trust: plugin files and programs that the run brings may be executed. RunError if the results differ.
    """
    original = Run.open(directory, trust=trust)
    if not trust:
        check_outside(
            original.study, directory, [*(text for text in inputs if text.startswith("dataset.")), *overrides]
        )
    overrides = [*inputs, *overrides]
    if output.is_symlink():
        raise RunError(f"'{output}' is a link: give the folder that it leads to as --output, or another one")
    if output.resolve() == original.path.resolve():
        raise RunError(f"'{output}' is the run itself: give another --output for the reproduction")
    for stage in original.stages:
        original.store(stage).load()  # damage is found before anything is computed
    # what the questions depend on, which another machine would measure otherwise
    pace = original.read_json(PACE, dict[str, float], ["call_seconds"])
    design = original.study.find(InverseDesign)
    if pace is not None and design is not None and design.call_seconds is None:
        with fitting(directory, "reading the pace"):
            overrides = [f"design.call_seconds={float(pace['call_seconds'])}", *overrides]
    if launch(original.frozen_study, output, overrides=overrides, resume=resume) is None:
        return None
    with fitting(directory, "comparison"):
        return compare(original, Run.open(output))


def compare(original: Run, again: Run) -> Table:
    """Return the table of differences between two runs of one study; RunError if their results differ."""
    rows, faults = [], []
    for stage in sorted({*original.stages, *again.stages}):
        first, second = (run.store(stage).load() for run in (original, again))
        for what, same, how in _differences(first, second):
            rows.append((stage, what, how))
            if not same:
                faults.append(f"{what} of stage '{stage}': {how}")
    same = _timeless(original.read_json("summary.json", Table)) == _timeless(again.read_json("summary.json", Table))
    rows.append(("", "final table", "identical" if same else "not identical"))
    notes = tuple(_surroundings(*(run.read_json("provenance.json", dict[str, Any]) or {} for run in (original, again))))
    if faults:
        raise RunError(
            f"'{again.path}' does not reproduce '{original.path}': {faults[0]}"
            + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")
            + (f"; what else differs: {'; '.join(notes)}" if notes else "; versions and processor are the same")
        )
    return Table(f"{original.path.name} reproduced", ("stage", "what", "found"), tuple(rows), notes)


def _timeless(table: Table | None) -> Table | None:
    """Return a table without the columns of times, which depend on the machine."""
    if table is None:
        return None
    timed = {k for k, name in enumerate(table.columns) if name == WALL}
    columns, *rows = (
        tuple(cell for k, cell in enumerate(row) if k not in timed) for row in (table.columns, *table.rows)
    )
    return replace(table, columns=columns, rows=tuple(rows))


def _differences(first: Evaluations, second: Evaluations) -> Iterator[tuple[str, bool, str]]:
    """Yield what is compared, whether it is the same, and how."""
    if len(first) != len(second):
        yield "evaluations", False, f"{len(first)} there, {len(second)} here"
        return
    for name in ("index", "structure", "status"):
        changed = int((first[name] != second[name]).sum())
        yield name, changed == 0, "identical" if changed == 0 else f"{changed} of {len(first)} differ"
    for name in sorted({*first.properties, *second.properties}):
        worst = _distance(first.properties.get(name), second.properties.get(name))
        yield name, worst <= SAME, "identical" if worst == 0 else f"largest relative difference {worst:.1e}"


def _distance(first: Array | None, second: Array | None) -> float:
    """Return the largest difference, relative to the largest value; infinity where they cannot be compared."""
    if first is None or second is None or first.shape != second.shape:
        return float("inf")
    if np.array_equal(first, second, equal_nan=True):
        return 0.0
    if (np.isnan(first) != np.isnan(second)).any():
        return float("inf")
    return float(np.nanmax(np.abs(first - second)) / max(np.nanmax(np.abs(first)), 1e-300))


def _surroundings(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences in versions, plugins, processor and MPI of two runs."""
    here, there = (
        packages if isinstance(packages, Mapping) else {} for packages in (v.get("packages") for v in (second, first))
    )
    for name in sorted({*here, *there}):
        if here.get(name) != there.get(name):
            yield f"{name} {there.get(name)} there, {here.get(name)} here"
    for path in (("python",), ("plugins",), ("host", "processor"), ("mpi", "library")):
        values: list[Any] = [first, second]
        for key in path:
            values = [v.get(key) if isinstance(v, Mapping) else None for v in values]
        if values[0] != values[1]:
            yield f"{' '.join(path)}: {values[0]} there, {values[1]} here"
