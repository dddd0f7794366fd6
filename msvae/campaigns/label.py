"""Label: evaluate every structure of a data set with the solver."""

from __future__ import annotations

import numpy as np

from msvae.campaigns.context import Context, Table
from msvae.dispatch.tasks import Task
from msvae.errors import DataError, StudyError
from msvae.run.directory import LABEL as STAGE
from msvae.seeds import seed_of
from msvae.structures import Structures

__all__ = ["labelled", "run", "the_structures"]


def run(context: Context) -> Table:
    """Return the spread of each property over the data set; the evaluations are in the run."""
    structures = labelled(context)
    rows = []
    for q in context.study.need_solver().quantities(structures.specification):
        array = structures.properties[q.name]
        for index in np.ndindex(*q.sizes) if q.sizes else [()]:
            if len(set(q.sizes)) == 1 < len(q.sizes) and list(index) != sorted(index):
                continue  # tensors are symmetric
            known = array[(slice(None), *index)]
            known = known[np.isfinite(known)]
            name = q.name + (f"{list(index)}" if index else "")
            rows.append((name, q.unit, *(f"{f(known):.5g}" for f in (np.mean, np.std, np.min, np.max))))
    failed = int((~context.run.store(STAGE).load().done).sum())
    return Table(
        f"Properties of {len(structures)} structures",
        ("property", "unit", "mean", "sd", "min", "max"),
        tuple(rows),
        (f"{failed} evaluations failed",) if failed else (),
    )


def the_structures(context: Context) -> Structures:
    """Return the data set's structures, loaded once and kept in the run."""
    run = context.run
    if not run.structures_file.exists():
        structures = context.study.need_dataset().load(seed_of(context.study.seed, "dataset"))
        if len(structures) == 0:
            raise DataError("dataset: it has no structures")
        run.save_structures(structures)
    return run.structures


def labelled(context: Context) -> Structures:
    """Return the structures with the solver's properties, evaluating what has not been evaluated yet."""
    structures = the_structures(context)
    solver = context.study.need_solver()
    misfit = solver.misfit(structures.specification)
    if misfit:
        raise StudyError(f"solver: {misfit}")
    count = len(structures) if context.study.label.limit is None else min(context.study.label.limit, len(structures))
    context.evaluate(STAGE, [Task(k) for k in range(count)], title="label")
    return context.run.labelled
