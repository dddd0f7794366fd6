"""What every campaign is given, and what it returns."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from msvae.dispatch import world
from msvae.dispatch.tasks import Recipe, Task, run_tasks
from msvae.progress import stage_progress
from msvae.run.directory import Run
from msvae.run.store import Evaluations
from msvae.study import Study

__all__ = ["Context", "Table", "torch_threads"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """A campaign's result as rows of text; notes stand below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return the table as plain values."""
        return {"title": self.title, "columns": self.columns, "rows": self.rows, "notes": self.notes}


@dataclass(frozen=True)
class Context:
    """A study, its run, and where evaluations go."""

    study: Study
    run: Run
    executor: Executor

    @property
    def width(self) -> int:
        """Number of evaluations that run at once."""
        return max(1, self.others, self.study.executor.workers)

    @property
    def others(self) -> int:
        """Number of processes that take tasks beside this one."""
        settings = self.study.executor
        pool = settings.workers if settings.name == "processes" or settings.workers > 1 else 0
        return world.size() - 1 if settings.name in ("auto", "mpi") and world.size() > 1 else pool

    def evaluate(self, stage: str, tasks: Sequence[Task], *, with_model: bool = False, title: str = "") -> Evaluations:
        """Return the evaluations of tasks: those that the stage's store has, and the others made now.

        What completes is acknowledged at once; what failed is a row like any other.
        """
        solver = self.study.need_solver()
        specification = self.run.structures.specification
        store = self.run.store(stage, solver.quantities(specification))
        have = set(store.load()["index"].tolist())
        missing = [task for task in tasks if task.index not in have]
        recipe = Recipe(
            str(self.run.frozen_study.resolve()),
            str(self.run.structures_file.resolve()),
            str(self.run.model_file.resolve()) if with_model else None,
        )
        with self._reported(title) as report:
            done = len(tasks) - len(missing)
            for group in run_tasks(self.executor, recipe, missing, width=self.width):
                store.append(group)
                done += len(group)
                report(done, len(tasks), "")
        asked = {task.index for task in tasks}
        table = store.load()
        return _warn(table.where(np.isin(table["index"], list(asked))), stage)

    @contextmanager
    def _reported(self, title: str) -> Iterator[Any]:
        if not title:
            yield lambda done, total, text: None
            return
        with stage_progress(title) as report:
            yield report


def _warn(table: Evaluations, stage: str) -> Evaluations:
    failed = ~table.done
    if failed.any():
        first = table["message"][failed][0]
        log.warning("%d of %d evaluations of stage '%s' failed; the first: %s", failed.sum(), len(table), stage, first)
    return table


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads meanwhile, and as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
