"""Designs as structures: those of a table of evaluations, and those of earlier runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from msvae.campaigns.design.campaign import InverseDesign
from msvae.errors import StudyError
from msvae.files.atomic import write_atomically
from msvae.files.evaluations import evaluations_to_bytes, read_evaluations
from msvae.files.structures import read_structures
from msvae.run.cache import solver_key
from msvae.run.directory import LABEL, Run
from msvae.stages.context import Context
from msvae.structures import Array, Quantity, Structures
from msvae.structures.evaluations import Evaluations, joined
from msvae.study import Study
from msvae.vae.files import load_model
from msvae.vae.model import VAE

__all__ = ["check_earlier", "designs", "evaluation_of", "joined_structures", "target_conditions", "with_earlier"]

FILE, TABLE = "earlier.h5", "earlier-evaluations.h5"


def designs(vae: VAE, table: Evaluations, rows: Array, quantities: Sequence[Quantity]) -> Structures:
    """Return the structures that rows of a table evaluate, with the quantities that the table has."""
    known = tuple(q for q in quantities if q.name in table.properties)
    properties = {q.name: table.properties[q.name][rows] for q in known}
    return vae.decode(table.latents[rows]).with_properties(properties, known)


def target_conditions(study: Study) -> Array:
    """Return the value (k,) of each condition of the model that the study's targets require."""
    asked = {(t.property, t.component): t.value for t in study.need(InverseDesign).targets}
    return np.array([asked[c.property, c.component] for c in study.model.conditions], dtype=np.float64)


def with_earlier(context: Context, structures: Structures) -> Structures:
    """Return labelled structures, and after them the designs of the runs that the study starts from.

    The designs are kept with the run, so that a resumed one does not need the others.
    """
    folders = context.study.need(InverseDesign).start_from
    if not folders:
        return structures
    if not (context.run.path / FILE).exists():
        found = [part for folder in folders for part in _found(context, structures, folder)]
        rows = joined([rows for _, rows in found])
        write_atomically(context.run.path / TABLE, evaluations_to_bytes(rows))
        context.run.save_structures(joined_structures([designs for designs, _ in found]), FILE)
    return joined_structures([structures, read_structures(context.run.path / FILE)])


def evaluation_of(context: Context, known: int, count: int) -> tuple[Evaluations, int] | None:
    """Return the table and the row that evaluated one of `count` known structures, of this run or of an earlier one.

    None where it came with its properties.
    """
    if (context.run.path / TABLE).exists():
        earlier = read_evaluations(context.run.path / TABLE)
        first = count - len(earlier)
        if known >= first:
            return earlier, known - first
    table = context.run.store(LABEL).load()
    rows = np.flatnonzero(table["index"] == known)
    return (table, int(rows[0])) if len(rows) else None


def check_earlier(context: Context, structures: Structures) -> None:
    """Raise RunError or StudyError where a run to start from cannot be used, before anything is trained."""
    if not (context.run.path / FILE).exists():
        for folder in context.study.need(InverseDesign).start_from:
            _earlier(context, structures, folder)


def _earlier(context: Context, structures: Structures, folder: str) -> Run:
    """Return a run with the same solver and the same kind of structures."""
    earlier, key = Run.open(Path(folder)), "design.start_from"
    if solver_key(earlier.study) != solver_key(context.study):
        raise StudyError(f"{key}: the run '{folder}' has another solver, or other settings of it, than this study")
    if earlier.structures.specification != structures.specification:
        raise StudyError(f"{key}: the run '{folder}' has structures of another kind, grid or spacing than this study")
    return earlier


def _found(context: Context, structures: Structures, folder: str) -> list[tuple[Structures, Evaluations]]:
    """Return the designs that each part of a run's searches evaluated, with their properties, and the evaluations."""
    earlier, key = _earlier(context, structures, folder), "design.start_from"
    parts = []
    for stage in earlier.stages:
        table = earlier.store(stage).load()
        if stage.startswith(("search-", "control-")) and table.done.any():
            vae = load_model(earlier.model_file_of(stage))
            vae.default_conditions = target_conditions(earlier.study)
            rows = np.flatnonzero(table.done)
            parts.append((designs(vae, table, rows, structures.quantities), table.where(rows)))
    if not parts:
        raise StudyError(f"{key}: the run '{folder}' has no designs that the solver verified")
    return parts


def joined_structures(parts: Sequence[Structures]) -> Structures:
    """Return batches as one; a property that one of them does not have is left out.

    Groups and positions are those of the first batch; every other structure is a group of its own.
    """
    names = set.intersection(*(set(part.properties) for part in parts))
    quantities = tuple(q for q in parts[0].quantities if q.name in names)
    values = np.concatenate([part.values for part in parts])
    properties = {q.name: np.concatenate([part.properties[q.name] for part in parts]) for q in quantities}
    more, first = len(values) - len(parts[0]), parts[0]
    groups = first.groups
    if groups is not None:
        groups = np.concatenate([groups, np.asarray(groups).max(initial=-1) + 1 + np.arange(more)])
    positions = None if first.positions is None else first.positions.with_others(more)
    return Structures(values, first.specification, properties, quantities, groups, positions)
