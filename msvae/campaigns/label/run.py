"""Label: evaluate every structure of a data set with the solver."""

from __future__ import annotations

from typing import Any

import numpy as np

from msvae.run.directory import LABEL as STAGE
from msvae.run.journal import most_frequent
from msvae.run.table import Table
from msvae.stages.context import Context
from msvae.stages.labelling import labelled
from msvae.structures import Array, Quantity

__all__ = ["run"]

LONGEST = 36  # components of a property that the table shows one by one


def run(context: Context) -> Table:
    """Return the spread of each property over the data set, and the medians of its errors.

    The evaluations are in the run.
    """
    structures = labelled(context)
    solver = context.study.need_solver()
    symmetric = {q.name for q in solver.computes if q.shape in (("d", "d"), ("v", "v"))}
    table = context.run.store(STAGE).load()
    both, rows, notes = (table.errors, table.iteration_errors), [], []
    for q in solver.quantities(structures.specification):
        for index in _components(q, symmetric=q.name in symmetric):
            place: tuple[Any, ...] = (slice(None), *index)
            known = structures.properties[q.name][place]
            name = q.name + (f"{list(index)}" if index else "")
            infinite, known = int(np.isinf(known).sum()), known[np.isfinite(known)]
            if infinite:
                notes.append(f"{name} is infinite in {infinite} structures, which are left out of its row")
            spread = (f"{f(known):.5g}" if len(known) else "" for f in (np.mean, np.std, np.min, np.max))
            rows.append((name, q.unit, *spread, *(_median(errors.get(q.name), place) for errors in both)))
    reasons = [str(message) for message in table["message"][~table.done]]
    if reasons:
        notes.append(f"{len(reasons)} evaluations failed, {most_frequent(reasons)}")
    return Table(
        f"Properties of {len(structures)} structures",
        ("property", "unit", "mean", "sd", "min", "max", "discretisation error, median", "iteration error, median"),
        tuple(rows),
        tuple(notes),
    )


def _median(errors: Array | None, place: tuple[Any, ...]) -> str:
    """Return the median over structures of the errors (n, *shape) of one component; "" without an estimate."""
    known = np.zeros(0) if errors is None else errors[place]
    known = np.abs(known[np.isfinite(known)])
    return f"{np.median(known):.2g}" if len(known) else ""


def _components(quantity: Quantity, *, symmetric: bool) -> list[tuple[int, ...]]:
    """Return the indices that a table shows: all of a small property, the last one of a field or long curve."""
    if quantity.size > LONGEST:
        return [tuple(n - 1 for n in quantity.sizes)]
    return [i for i in np.ndindex(*quantity.sizes) if not symmetric or list(i) == sorted(i)]
