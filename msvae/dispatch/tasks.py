"""Tasks: what travels to a worker is a recipe of file names, and latents or the index of a structure.

Study, solver, model and structures are loaded once in each worker and kept.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msvae.dispatch import groups, world
from msvae.dispatch.evaluation import evaluate, failure, known
from msvae.dispatch.isolation.isolated import IsolatedSolver
from msvae.dispatch.known import File, known_in
from msvae.dispatch.signs import Sign
from msvae.dispatch.threads import limit_threads
from msvae.files.structures import packed_values, read_structures
from msvae.plugins.interfaces import Solver
from msvae.seeds import seed_of
from msvae.structures import Array, Properties, Quantity, Structures
from msvae.structures.evaluations import ESTIMATES, Evaluation, Evaluations, Status
from msvae.study import Study

if TYPE_CHECKING:
    from msvae.vae.model import VAE

__all__ = ["Recipe", "Task", "lost", "model_of", "solved", "solver_of", "study_of", "work"]


TRACES = 20  # tracebacks that a process writes down of a run


@dataclass(frozen=True)
class Recipe:
    """Where a worker finds what every task of a stage needs.

    study: the frozen study. structures: the file that indices refer to. model: the weights that decode latents.
    known: files of evaluations with the same solver, whose structures need not be solved again.
    fatal: ids of structures whose evaluation has ended a job, and what is known of it: they are not solved.
    """

    study: File
    structures: File | None = None
    model: File | None = None
    known: tuple[File, ...] = ()
    fatal: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Task:
    """One evaluation to make: of the structure with this index, or of the one that the latents decode to."""

    index: int
    latents: Array | None = None
    conditions: Array | None = None


def work(recipe: Recipe, tasks: Sequence[Task]) -> Evaluations:
    """Make and evaluate structures one after the other, or as many together as the solver wants, in this process."""
    size = _size(recipe)
    rows: list[Evaluation] = []
    for group in (tasks[k : k + size] for k in range(0, len(tasks), size)):
        start = time.perf_counter()
        made = [_structure(recipe, task) for task in group]
        each = (time.perf_counter() - start) / len(group)
        answers = _solved_together(recipe, made) if len(group) > 1 else {}
        for k, (task, structures) in enumerate(zip(group, made, strict=True)):
            answer, seconds = answers.get(k, (None, 0.0))
            rows.append(_evaluated(recipe, task, structures, each + seconds, answer))
    return Evaluations.of(rows)


def solver_of(study: File) -> Solver:
    """Return the solver of a study's file."""
    return study_of(study).need_solver()


def _size(recipe: Recipe) -> int:
    """Return how many structures a solver is given at once."""
    study = study_of(recipe.study)
    alone = study.solver is None or study.executor.isolation == "process" or groups.here() is not None
    return 1 if alone or study.solver is None else study.solver.together


def _solved_together(recipe: Recipe, made: Sequence[Structures]) -> dict[int, tuple[Properties, float]]:
    """Return what one call of the solver says of several structures, by their place, and the seconds that each took.

    made: batches of one. Nothing of structures that are known, and nothing if the call fails: then each is solved by
    itself.
    """
    start = time.perf_counter()
    fatal, known_already = dict(recipe.fatal), known_in(recipe.known) if recipe.known else None
    left = {
        k: s for k, s in enumerate(made)
        if s.ids[0] not in fatal and not s.damaged and (known_already is None or known_already.find(s.ids[0]) is None)
    }  # fmt: skip
    if len(left) < 2:
        return {}
    try:
        found = solver_of(recipe.study).evaluate(_joined(list(left.values())))
    except Exception:  # a border, as in `evaluate`, which says why when each is solved by itself
        return {}
    seconds = (time.perf_counter() - start) / len(left)
    return {k: (_row(found, place), seconds) for place, k in enumerate(left)}


def _joined(parts: Sequence[Structures]) -> Structures:
    """Return structures of one specification as a batch, with the properties that they brought."""
    first = parts[0]
    properties = {name: np.concatenate([part.properties[name] for part in parts]) for name in first.properties}
    return Structures(np.concatenate([p.values for p in parts]), first.specification, properties, first.quantities)


def _row(found: Mapping[str, Any], place: int) -> Properties:
    """Return what properties of a batch say of one of its structures."""
    families = (found, *(getattr(found, family, {}) for family in ESTIMATES))
    arrays, errors, left = ({name: np.asarray(a)[place : place + 1] for name, a in f.items()} for f in families)
    failures, notes, statuses = (
        {0: values[place]} if place in values else {}
        for values in (getattr(found, name, {}) for name in ("failures", "notes", "statuses"))
    )
    counts = getattr(found, "iterations", None)
    iterations = None if counts is None else counts[place : place + 1]
    return Properties(arrays, failures, errors, left, iterations, notes, statuses)


def _evaluated(
    recipe: Recipe, task: Task, structures: Structures, seconds: float, answer: Properties | None
) -> Evaluation:
    """Return the evaluation of a task. structures: its own, a batch of one. seconds: that were spent on it already.

    answer: of a call for several structures, what it says of this.
    """
    start = time.perf_counter() - seconds
    study = study_of(recipe.study)
    columns = _columns(recipe, task, structures)
    found = known_in(recipe.known).find(structures.ids[0]) if recipe.known else None
    why = dict(recipe.fatal).get(structures.ids[0])
    if found is not None:
        outcome = known(structures, found, **columns)
    elif why is not None:
        outcome = failure(solver_of(recipe.study), structures, "crashed", why, **columns)
    else:
        outcome = solved(recipe, structures, columns, answer)
    _write_down(recipe, outcome)
    packed = packed_values(structures)[0] if study.store.structures and task.latents is not None else None
    return dataclasses.replace(outcome, cost=time.perf_counter() - start, packed=packed)


_written: Counter[File] = Counter()  # tracebacks that this process has written, by the study of the run


def _write_down(recipe: Recipe, outcome: Evaluation) -> None:
    """Add where the solver raised to the log of the run, the first times; a disk that is full does not matter."""
    if not outcome.trace or _written[recipe.study] >= TRACES:
        return
    _written[recipe.study] += 1
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    event = {"time": now, "event": "traceback", "index": outcome.index, "structure": outcome.structure,
             "rank": outcome.rank, "traceback": outcome.trace}  # fmt: skip
    with suppress(OSError):
        log = Path(recipe.study.path).with_name("log.jsonl")
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.write(file, (json.dumps(event) + "\n").encode())
        finally:
            os.close(file)


def lost(recipe: Recipe, task: Task, sign: Sign) -> Evaluations | None:
    """Return the evaluation that a lost worker was making, as a failure; None if it was another one's."""
    structures = _structure(recipe, task)
    if sign.structure and sign.structure != structures.ids[0]:
        return None
    status: Status = sign.status if sign.trouble else "crashed"
    why = f"{sign.who} {sign.trouble or 'fell silent, as another before with the same evaluation'}"
    columns = _columns(recipe, task, structures) | {"rank": sign.rank}
    return Evaluations.of([failure(solver_of(recipe.study), structures, status, why, **columns)])


def _columns(recipe: Recipe, task: Task, structures: Structures) -> dict[str, Any]:
    return {
        "index": task.index,
        "rank": world.rank(),
        "seed": seed_of(study_of(recipe.study).seed, structures.ids[0]),
        "latents": task.latents,
    }


def solved(
    recipe: Recipe, structures: Structures, columns: dict[str, Any], answer: Properties | None = None
) -> Evaluation:
    """Return the outcome of the last attempt that the study allows for. answer: of the first, if it is made already."""
    retries = dict(study_of(recipe.study).executor.retries)
    attempt = 0
    while True:
        attempt += 1
        outcome = _attempt(recipe, structures, columns, answer if attempt == 1 else None)
        if outcome.status == "done" or retries.get(outcome.status, 0) < attempt:
            return dataclasses.replace(outcome, attempts=attempt)


def _attempt(recipe: Recipe, structures: Structures, columns: dict[str, Any], answer: Properties | None) -> Evaluation:
    solver, group = solver_of(recipe.study), groups.here()
    if answer is not None:
        return evaluate(solver, structures, call=lambda _: answer, **columns)
    if study_of(recipe.study).executor.isolation == "process":
        return _isolated(recipe.study).evaluate(structures, **columns)
    if group is not None:
        return evaluate(solver, structures, call=lambda s: group.evaluate(recipe.study, solver, s), **columns)
    return evaluate(solver, structures, **columns)


def _structure(recipe: Recipe, task: Task) -> Structures:
    if task.latents is None:
        assert recipe.structures is not None
        return _structures(recipe.structures)[task.index]
    conditions = None if task.conditions is None else np.atleast_2d(task.conditions)
    latents = np.atleast_2d(task.latents)
    known = Quantity("latents", "1", latents.shape[1:])  # so that a solver may be given what it was decoded from
    return model_of(recipe).decode(latents, conditions).with_properties({"latents": latents}, [known])


@lru_cache(maxsize=2)
def study_of(file: File) -> Study:
    """Return the study of a file, with its number of threads set in this process."""
    study = Study.load(file.path)
    limit_threads(study.executor.threads)
    return study


@lru_cache(maxsize=2)
def _isolated(file: File) -> IsolatedSolver:
    study = study_of(file)
    files = [str((Path(file.path).parent / name).resolve()) for name in study.plugin_files]
    settings = study.executor
    return IsolatedSolver(study.need_solver(), files, timeout=settings.timeout, memory=settings.memory_limit,
                          patience=settings.silence or math.inf)  # fmt: skip


@lru_cache(maxsize=2)
def _structures(file: File) -> Structures:
    return read_structures(Path(file.path))


def model_of(recipe: Recipe) -> VAE:
    """Return the model that decodes a recipe's latents."""
    assert recipe.model is not None
    return _model(recipe.model)


@lru_cache(maxsize=2)
def _model(file: File) -> VAE:
    from msvae.vae.files import load_model

    return load_model(Path(file.path))
