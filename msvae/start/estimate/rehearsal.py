"""The rehearsal of a study: it is read, checked and tried as in a run, and nothing of it is left."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from msvae.dispatch import world
from msvae.dispatch.executors import open_executor
from msvae.dispatch.limits import Limits
from msvae.plugins.conformance import peak_memory
from msvae.run.directory import Run
from msvae.run.table import Table
from msvae.stages.context import Context
from msvae.stages.crew import crew_of
from msvae.stages.expected import Expected
from msvae.stages.labelling import the_structures
from msvae.start.estimate.pilot import Solved, epoch_of, solved
from msvae.start.estimate.plan import Pace, Plan, Step
from msvae.structures import Structures
from msvae.study import Study
from msvae.study.settings import CacheSettings

__all__ = ["plan_of", "rehearse"]


def rehearse(study_file: Path, output: Path, *, overrides: Sequence[str] = ()) -> Table | None:
    """Return what a run would do, as a table; None on the ranks that only served evaluations.

    output: where the run would be; the pilot is made beside it, for all ranks see that file system.
    """
    world.check()
    world.share_plugins()
    study = replace(world.agreed(lambda: Study.load(study_file, overrides)), cache=CacheSettings())
    with open_executor(study.executor, study.ranks_per_solver) as executor:
        if executor is None:
            return None
        place = next(folder for folder in output.resolve().parents if folder.is_dir())
        with tempfile.TemporaryDirectory(prefix=".msvae-dry-run-", dir=place) as folder:
            run = Run.start(Path(folder) / "run", study)
            with crew_of(run, executor) as crew:
                return plan_of(Context(study, run, executor, Limits(), frozenset(), crew)).table()


def plan_of(context: Context) -> Plan:
    """Return the plan of a study, after a pilot in the context's run."""
    study, start = context.study, time.perf_counter()
    structures = the_structures(context)
    reading = time.perf_counter() - start
    count = _to_label(study, structures)
    pilot = solved(context, structures) if study.solver is not None and _solves(study, count) else None
    epoch, size = _training(context, structures, pilot)
    file = context.run.structures_file.stat().st_size
    pace = Pace(reading, epoch=epoch, structures=file, model=size, memory=peak_memory())
    if pilot is not None:
        pace = replace(pace, call=pilot.call, each=pilot.each, row=pilot.row, failed=pilot.failed)
    expected = study.campaign.expects(study, pace.call)
    notes = [] if expected is not None else [f"what campaign '{study.campaign.name}' does beyond is not estimated"]
    if study.structure_head is not None and study.campaign.prepares == "model":
        notes.append(f"the structure-space head, {study.structure_head.epochs} epochs, is not estimated")
    steps = tuple(_steps(study, structures, count, pace, expected or ()))
    return Plan(
        f"What '{study.campaign.name}' would do", steps, pace, context.width, expected is not None, tuple(notes)
    )


def _to_label(study: Study, structures: Structures) -> int:
    """Return how many structures are labelled first."""
    count = min(len(structures), study.label.limit or len(structures))
    if study.campaign.prepares != "model":
        return count if study.campaign.prepares == "labels" else 0
    from msvae.stages.training import wanted_properties

    return count if wanted_properties(study) - {q.name for q in structures.quantities} else 0


def _solves(study: Study, count: int) -> bool:
    expected = study.campaign.expects(study, 1.0)
    return bool(count) or expected is None or any(step.evaluations for step in expected)


def _training(context: Context, structures: Structures, pilot: Solved | None) -> tuple[float, int]:
    """Return the seconds of an epoch and the bytes of the model; zeros where nothing is trained."""
    if context.study.campaign.prepares != "model" or context.study.training.start_from:
        return 0.0, 0
    from msvae.stages.checks import check

    check(context, structures)
    return epoch_of(context, structures, pilot.properties if pilot is not None else {})


def _steps(
    study: Study, structures: Structures, count: int, pace: Pace, expected: Iterable[Expected]
) -> Iterator[Step]:
    """Yield the stages of a run."""
    s = structures.specification
    place = " x ".join(map(str, s.grid.shape)) or "a point"
    yield Step("data set", f"{len(structures)} structures, {place}, {s.kind}", 0, pace.reading)
    if count:
        yield Step("label", f"{count} structures by '{study.need_solver().name}'", count, count * pace.each)
    if pace.epoch:
        epochs = study.training.epochs
        what = f"{epochs} epochs of {pace.epoch:.2g} s; {pace.model / 4e6:.2g} million weights"
        yield Step("train", what, 0, epochs * pace.epoch, at_most=study.training.patience != 0)
    for part in expected:
        what = f"{part.seconds:.0f} s of thought beside the solver" if part.seconds else ""
        yield Step(part.what, what, part.evaluations, part.evaluations * pace.each + part.seconds, part.at_most)
