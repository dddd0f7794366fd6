"""Labelling: the structures of the data set, evaluated by the solver."""

from __future__ import annotations

from msvae.dispatch.tasks import Task
from msvae.errors import DataError, StudyError, TargetError
from msvae.run.cache import solver_key
from msvae.run.directory import LABEL as STAGE
from msvae.seeds import seed_of
from msvae.stages.checks import check_materials, check_numbers
from msvae.stages.context import Context
from msvae.structures import Structures
from msvae.study import Study

__all__ = ["labelled", "the_structures"]


def the_structures(context: Context) -> Structures:
    """Return the data set's structures, loaded once and kept in the run."""
    run = context.run
    if not run.structures_file.exists():
        run.journal.show_stage("reading the data set")
        try:
            structures = context.study.need_dataset().load(seed_of(context.study.seed, "dataset"))
        except MemoryError:
            raise DataError("dataset: its structures do not fit into memory: take fewer, or smaller ones") from None
        if len(structures) == 0:
            raise DataError("dataset: it has no structures")
        _check_solver(context.study, structures)
        run.save_structures(structures)
    return run.structures


def _check_solver(study: Study, structures: Structures) -> None:
    """Raise StudyError if known properties come from a solver other than the study's, which computes them too."""
    before = study.need_dataset().solver()
    if before is None or study.solver is None:
        return
    both = {q.name for q in structures.quantities} & {q.name for q in study.solver.computes}
    if both and before != f"{study.solver.name} {solver_key(study)}":
        raise StudyError(
            f"{study.source.at(['dataset'])}: its '{min(both)}' was computed by another solver, or other settings of "
            "it, than [solver] names: take that solver, or set dataset.labels = false to compute all of them again"
        )


def labelled(context: Context) -> Structures:
    """Return the structures with the solver's properties, evaluating those not yet evaluated."""
    structures = the_structures(context)
    solver = context.study.need_solver()
    misfit = solver.misfit(structures.specification)
    if misfit:
        raise StudyError(f"solver: {misfit}")
    check_materials(context.study, structures)
    check_numbers(context.study, structures)
    count = len(structures) if context.study.label.limit is None else min(context.study.label.limit, len(structures))
    table = context.evaluate(STAGE, [Task(k) for k in range(count)], title="label", hopeful=True)
    if not table.done.any():
        raise TargetError(f"all {len(table)} evaluations of stage '{STAGE}' failed; the first: {table['message'][0]}")
    return context.run.labelled
