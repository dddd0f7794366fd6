"""Tasks: what travels to a worker is a recipe of file names, and latents or the index of a structure.

Study, solver, model and structures are loaded once in each worker and kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msvae.dispatch import world
from msvae.dispatch.evaluation import Evaluation, evaluate
from msvae.dispatch.executors import limit_threads
from msvae.seeds import seed_of
from msvae.structure_file import read_structures
from msvae.structures import Array, Structures
from msvae.study import Study

if TYPE_CHECKING:
    from msvae.vae.model import VAE

__all__ = ["Recipe", "Task", "run_tasks"]

AHEAD = 4  # tasks that wait at the executor for each that runs, so that no worker idles and a resume repeats few


@dataclass(frozen=True)
class Recipe:
    """Where a worker finds what every task of a stage needs.

    study: the frozen study. structures: the file that indices refer to. model: the weights that decode latents.
    """

    study: str
    structures: str | None = None
    model: str | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """One evaluation to make: of the structure with this index, or of the one that the latents decode to."""

    index: int
    latents: Array | None = None
    conditions: Array | None = None


def run_tasks(executor: Executor, recipe: Recipe, tasks: Sequence[Task], *, width: int) -> Iterator[list[Evaluation]]:
    """Yield the evaluations of tasks as they complete, in the groups in which they arrive.

    width: tasks that can run at once.
    """
    waiting = list(reversed(tasks))
    running: set[Future[Evaluation]] = set()
    while waiting or running:
        while waiting and len(running) < AHEAD * width:
            running.add(executor.submit(_work, recipe, waiting.pop()))
        complete, running = wait(running, return_when=FIRST_COMPLETED)
        yield sorted((future.result() for future in complete), key=lambda e: e.index)


def _work(recipe: Recipe, task: Task) -> Evaluation:
    """Make and evaluate one structure, in whatever process this is."""
    study = _study(recipe.study)
    structures = _structure(recipe, task)
    seed = seed_of(study.seed, structures.ids[0])
    return evaluate(
        study.need_solver(), structures, index=task.index, rank=world.rank(), seed=seed, latents=task.latents
    )


def _structure(recipe: Recipe, task: Task) -> Structures:
    if task.latents is None:
        assert recipe.structures is not None
        return _structures(recipe.structures)[task.index]
    assert recipe.model is not None
    conditions = None if task.conditions is None else np.atleast_2d(task.conditions)
    return _model(recipe.model).decode(np.atleast_2d(task.latents), conditions)


@lru_cache(maxsize=2)
def _study(path: str) -> Study:
    study = Study.load(path)
    limit_threads(study.executor.threads)
    return study


@lru_cache(maxsize=2)
def _structures(path: str) -> Structures:
    return read_structures(Path(path))


@lru_cache(maxsize=2)
def _model(path: str) -> VAE:
    from msvae.vae.files import load_model

    return load_model(Path(path))
