"""What earlier runs found: their verified designs, as structures that are known from the start."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msvae.campaigns.context import Context
from msvae.errors import StudyError
from msvae.run.cache import solver_key
from msvae.run.directory import Run
from msvae.structure_file import read_structures
from msvae.structures import Structures

__all__ = ["joined_structures", "with_earlier"]

FILE = "earlier.h5"


def with_earlier(context: Context, structures: Structures) -> Structures:
    """Return labelled structures, and after them the designs of the runs that the study starts from.

    The designs are kept with the run, so that a resumed one does not need the others.
    """
    assert context.study.design is not None
    if not context.study.design.start_from:
        return structures
    if not (context.run.path / FILE).exists():
        parts = [_designs(context, structures, Path(folder)) for folder in context.study.design.start_from]
        context.run.save_structures(joined_structures(parts), FILE)
    return joined_structures([structures, read_structures(context.run.path / FILE)])


def _designs(context: Context, structures: Structures, folder: Path) -> Structures:
    """Return the designs that a run's searches evaluated, with their properties."""
    earlier, key = Run.open(folder), "design.start_from"
    if solver_key(earlier.study) != solver_key(context.study):
        raise StudyError(f"{key}: the run '{folder}' has another solver, or other settings of it, than this study")
    if earlier.structures.specification != structures.specification:
        raise StudyError(f"{key}: the run '{folder}' has structures of another kind, grid or spacing than this study")
    tables = [earlier.store(s).load() for s in earlier.stages if s.startswith(("search-", "control-"))]
    done = [table.where(table.done) for table in tables if table.done.any()]
    if not done:
        raise StudyError(f"{key}: the run '{folder}' has no designs that the solver verified")
    latents = np.concatenate([table.latents for table in done])
    decoded = earlier.model.decode(latents)
    properties = {q.name: np.concatenate([t.properties[q.name] for t in done]) for q in structures.quantities
                  if all(q.name in t.properties for t in done)}  # fmt: skip
    quantities = tuple(q for q in structures.quantities if q.name in properties)
    return decoded.with_properties(properties, quantities)


def joined_structures(parts: list[Structures]) -> Structures:
    """Return batches as one; a property that one of them does not have is left out."""
    names = set.intersection(*(set(part.properties) for part in parts))
    quantities = tuple(q for q in parts[0].quantities if q.name in names)
    bare = Structures(np.concatenate([part.values for part in parts]), parts[0].specification)
    properties = {q.name: np.concatenate([part.properties[q.name] for part in parts]) for q in quantities}
    return bare.with_properties(properties, quantities)
