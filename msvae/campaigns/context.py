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
from msvae.errors import TargetError
from msvae.progress import stage_progress
from msvae.run.directory import Run
from msvae.run.store import Evaluations
from msvae.study import Study

__all__ = ["Context", "Table"]

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
        ranks = world.size() - 1 if world.size() > 1 else 0
        return max(1, ranks, self.study.executor.workers)

    def evaluate(self, stage: str, tasks: Sequence[Task], *, with_model: bool = False, title: str = "") -> Evaluations:
        """Return the evaluations of tasks: those that the stage's store has, and the others made now.

        What completes is acknowledged at once. TargetError if every evaluation of the stage failed.
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
        return _checked(table.where(np.isin(table["index"], list(asked))), stage)

    @contextmanager
    def _reported(self, title: str) -> Iterator[Any]:
        if not title:
            yield lambda done, total, text: None
            return
        with stage_progress(title) as report:
            yield report


def _checked(table: Evaluations, stage: str) -> Evaluations:
    failed = ~table.done
    if len(table) and failed.all():
        raise TargetError(f"all {len(table)} evaluations of stage '{stage}' failed; the first: {table['message'][0]}")
    if failed.any():
        log.warning(
            "%d of %d evaluations of stage '%s' failed; the first: %s",
            failed.sum(),
            len(table),
            stage,
            table["message"][failed][0],
        )
    return table


@contextmanager
def single_threaded_pools(threads: int) -> Iterator[None]:
    """Let torch use this many threads while a model is trained in this process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
