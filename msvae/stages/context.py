"""What every campaign is given, and what it returns."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import numpy as np

from msvae.dispatch import executors
from msvae.dispatch.evaluation import known
from msvae.dispatch.known import File, known_in
from msvae.dispatch.limits import Limits
from msvae.dispatch.scheduling import converse, dispatch
from msvae.dispatch.tasks import Recipe, Task, lost, work
from msvae.errors import RunError, Stopped, TargetError
from msvae.plugins import registry
from msvae.progress import Report, stage_progress
from msvae.run.cache import Cache, solver_key
from msvae.run.directory import Run
from msvae.run.journal import FIRST, Watch
from msvae.run.store import EvaluationStore, Writer
from msvae.seeds import seed_of
from msvae.stages.crew import ALONE, Crew
from msvae.structures import Quantity, Structures
from msvae.structures.evaluations import Evaluations, joined
from msvae.study import Study

__all__ = ["Context", "torch_threads"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """What tasks of a stage give, and what does them: by default the solver, for structures or for a model's latents.

    structures: that indices refer to, in this file of the run. quiet: failures are to be expected. part: of a stage,
    whose progress is shown elsewhere. hopeful: most of them should succeed.
    """

    quantities: tuple[Quantity, ...]
    work: Callable[[Sequence[Task]], Evaluations] | None = None
    model: Path | None = None
    structures: Structures | None = None
    file: str = "structures.h5"
    quiet: bool = False
    part: bool = False
    hopeful: bool = False


@dataclass(frozen=True)
class Context:
    """A study, its run, where evaluations go, and when the campaign has to end.

    retry: statuses of evaluations that an earlier part of the run made and that are to be made again. crew: who works.
    """

    study: Study
    run: Run
    executor: Executor
    limits: Limits = field(default_factory=Limits)
    retry: frozenset[str] = frozenset()
    crew: Crew = ALONE

    @property
    def width(self) -> int:
        """Number of evaluations that run at once."""
        return executors.width(self.study.executor, self.study.ranks_per_solver)

    @property
    def others(self) -> int:
        """Number of processes that take tasks beside this one."""
        return 0 if executors.engine(self.study.executor) == "serial" else self.width

    @cached_property
    def cache(self) -> Cache | None:
        """What runs share, if the study names a place for it."""
        return Cache(self.study, self.run.path, self.quantities) if self.study.cache.path else None

    def evaluate(
        self,
        stage: str,
        tasks: Sequence[Task],
        *,
        model: Path | None = None,
        title: str = "",
        part: bool = False,
        hopeful: bool = False,
    ) -> Evaluations:
        """Return the evaluations of tasks: those that the stage's store has, and the others made now.

        model: file of the model that decodes the tasks' latents, if they have some. part: they are a part of a stage,
        whose progress is shown by who knows the whole. hopeful: most should succeed, and where most of the first fail,
        the stage ends. What completes is acknowledged at once; what failed is a row like any other. Raises Stopped at a
        signal or after the wall time, and TargetError after too many failures; what was acknowledged stays.
        """
        job = _Job(self.quantities, model=model, structures=self.run.structures, part=part, hopeful=hopeful)
        return self._done(stage, tasks, job, title)

    def solve(self, stage: str, structures: Structures, *, title: str = "", quiet: bool = False) -> Evaluations:
        """Return the evaluations (n) of structures other than the data set's, which the run keeps in STAGE.h5.

        quiet: failures are to be expected.
        """
        file = f"{stage}.h5"
        if not (self.run.path / file).exists():
            self.run.save_structures(structures, file)
        quantities = self.study.need_solver().quantities(structures.specification)
        job = _Job(quantities, structures=structures, file=file, quiet=quiet)
        return self._done(stage, [Task(k) for k in range(len(structures))], job, title)

    def work(
        self,
        stage: str,
        indices: Sequence[int],
        work: Callable[[Sequence[Task]], Evaluations],
        quantities: tuple[Quantity, ...],
        title: str = "",
    ) -> Evaluations:
        """Return the evaluations of tasks with these numbers, made by a function of the campaign's own on the workers.

        work: is pickled, and gives a row with these quantities for every task.
        """
        return self._done(stage, [Task(k) for k in indices], _Job(quantities, work), title)

    def converse(
        self,
        stage: str,
        ask: Callable[[], Task | None],
        told: Callable[[Evaluations], None],
        *,
        model: Path,
        under_way: int,
        total: int,
        enough: Callable[[], bool],
    ) -> None:
        """Keep so many tasks of decoded latents under way: whenever one has been answered, ask for another.

        told: called with every evaluation before the next question; of a resumed stage, with those that it has, in the
        order in which they arrived, so that the same questions are asked. total: at most. enough: ends it.
        """
        store = self.run.store(stage, self.quantities, self._origin)
        before = store.arrived()
        asked = iter(_asked_again(before, ask, told, under_way))
        watch = Watch(self.run.journal, stage, total=total, before=before, width=self.width)
        recipe = self.recipe(model=model)
        answers = converse(
            self.executor,
            partial(work, recipe),
            lambda: next(asked, None) or ask(),
            under_way=under_way,
            until=lambda: bool(self.limits.reason) or enough(),
            width=self.width,
            roll=self.crew.roll,
            lost=partial(lost, recipe),
        )
        with self._written(store, watch, share=True) as writer:
            for table in answers:
                if table is not None:
                    writer.add(table)
                    told(table)
                self._keep_up(writer, watch)
        self.limits.check()

    @contextmanager
    def _written(self, store: EvaluationStore, watch: Watch, *, share: bool) -> Iterator[Writer]:
        """Yield the writer of a stage; however it ends, what was added is written, and the watch is over."""
        writer = Writer(store, partial(self._acknowledge, watch, share=share))
        try:
            yield writer
        finally:
            writer.write()
            watch.end()

    def _keep_up(self, writer: Writer, watch: Watch) -> None:
        """Do what is due while evaluations arrive: write, show, and end where too many fail or time is over."""
        writer.write_if_due()
        watch.show()
        self._give_up(watch, writer)
        self._leave_behind()

    def _done(self, stage: str, tasks: Sequence[Task], job: _Job, title: str) -> Evaluations:
        store = self.run.store(stage, job.quantities, self._origin)
        before = self._acknowledged(store, tasks, but=self.retry)
        have = set(before["index"].tolist())
        missing = [task for task in tasks if task.index not in have]
        if missing:
            watch = Watch(self.run.journal, stage, total=len(tasks), before=before, width=self.width, quiet=job.part)
            with self._reported(title) as report, self._written(store, watch, share=job.work is None) as writer:
                self._make(missing, writer, watch, report, job)
        table = self._acknowledged(store, tasks)
        return table if job.quiet else _warn(table, stage)

    def _make(self, tasks: Sequence[Task], writer: Writer, watch: Watch, report: Report, job: _Job) -> None:
        """Have the tasks done by the workers, and write down what comes back."""
        self.limits.check()
        call, without = job.work, None
        twins: Mapping[int, list[int]] = {}
        if call is None:
            recipe = self.recipe(model=job.model, structures=job.file)
            if job.model is None:
                assert job.structures is not None
                tasks, twins = self._for_workers(tasks, job.structures, recipe, writer)
                recipe = replace(recipe, known=())  # what is known has been answered
            call, without = partial(work, recipe), partial(lost, recipe)
        made = partial(dispatch, self.executor, call, width=self.width, until=lambda: bool(self.limits.reason),
                       roll=self.crew.roll, lost=without)  # fmt: skip
        parts = [tasks[:FIRST], tasks[FIRST:]] if job.hopeful else [tasks]  # the first are judged before others begin
        for table in chain.from_iterable(made(part) for part in parts):
            if table is not None:
                writer.add(_with_twins(table, twins))
            report(watch.finished, watch.total, watch.text)
            self._keep_up(writer, watch)
            if job.hopeful and self.study.executor.max_failures is None:
                if watch.is_beginning:
                    writer.write()
                watch.check()
        writer.write()
        if job.hopeful and self.study.executor.max_failures is None:
            watch.check()
        report(watch.finished, watch.total, watch.text)
        if watch.finished < watch.total:
            self.limits.check()

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What the solver computes of the data set's structures."""
        return self.study.need_solver().quantities(self.run.structures.specification)

    @cached_property
    def _origin(self) -> dict[str, str]:
        solver = self.study.need_solver()
        chosen = solver.conditions(self.run.structures.specification)
        words = [solver.name, solver_key(self.study), *(f"{key}={value}" for key, value in chosen.items())]
        return {"solver": " ".join(words), "study": self.study.digest}

    def _acknowledged(
        self, store: EvaluationStore, tasks: Sequence[Task], *, but: frozenset[str] = frozenset()
    ) -> Evaluations:
        """Return what the store has of tasks, but for evaluations of these statuses."""
        table = store.load()
        kept = np.isin(table["index"], [task.index for task in tasks])
        if but:
            kept &= ~np.isin(table["status"].astype(str), sorted(but))
        return table.where(kept)

    def recipe(self, *, model: Path | None, structures: str = "structures.h5") -> Recipe:
        """Return where workers find study, structures, model, and what is known."""
        stores = [self.run.store(stage) for stage in self.run.stages]
        known_files = [File.now(f) for store in stores for f in store.files]
        for file in self.cache.files if self.cache else ():
            with suppress(FileNotFoundError):  # another run has merged it meanwhile
                known_files.append(File.now(file))
        return Recipe(
            File.now(self.run.frozen_study),
            File.now(self.run.path / structures),
            None if model is None else File.now(model),
            tuple(known_files),
            tuple(self.crew.fatal.items()),
        )

    def _for_workers(
        self, tasks: Sequence[Task], structures: Structures, recipe: Recipe, writer: Writer
    ) -> tuple[list[Task], dict[int, list[int]]]:
        """Return the tasks that need a worker, long ones first, and those that will have the result of another's.

        Structures that were solved before are answered at once.
        """
        solved = known_in(recipe.known)
        first: dict[str, int] = {}
        twins: dict[int, list[int]] = {}
        answered, left = [], []
        for task in tasks:
            name = structures.ids[task.index]
            found = solved.find(name)
            if found is not None:
                seed = seed_of(self.study.seed, name)
                answered.append(known(structures[task.index], found, index=task.index, seed=seed))
            elif name in first:
                twins.setdefault(first[name], []).append(task.index)
            else:
                first[name] = task.index
                left.append(task)
        writer.add(Evaluations.of(answered))
        costs = self.study.need_solver().expected_costs(structures) if left else None
        if costs is not None:
            left.sort(key=lambda task: -costs[task.index])
        return left, twins

    def _acknowledge(self, watch: Watch, table: Evaluations, *, share: bool) -> None:
        """Count what has been written, share it with other runs, and show it to plugins that observe."""
        watch.count(table)
        if self.cache is not None and share:
            self.cache.add(table)
        registry().observe(table)

    def _give_up(self, watch: Watch, writer: Writer) -> None:
        most = self.study.executor.max_failures
        failed = watch.failed + sum(int((~table.done).sum()) for table in writer.waiting)
        if most is not None and failed > most:
            raise TargetError(
                f"{failed} evaluations of stage '{watch.stage}' failed, over executor.max_failures = {most}; "
                f"what was computed is in the run, and why they failed in '{self.run.path / 'log.jsonl'}'"
            )

    def _leave_behind(self) -> None:
        """Raise Stopped where what still runs after the campaign's end does not end in time."""
        if self.limits.overdue:
            raise Stopped(f"{self.limits.reason}: evaluations that still ran were left, go on with --resume", busy=True)

    @contextmanager
    def _reported(self, title: str) -> Iterator[Report]:
        if not title:
            yield lambda done, total, text: None
            return
        with stage_progress(title) as report:
            yield report


def _asked_again(
    before: Evaluations, ask: Callable[[], Task | None], told: Callable[[Evaluations], None], under_way: int
) -> list[Task]:
    """Ask what was asked before, tell what was answered, and return the tasks that have no answer yet."""
    waiting: dict[int, Task] = {}
    for k, index in enumerate(before["index"].tolist()):
        while len(waiting) < under_way and (task := ask()) is not None:
            waiting[task.index] = task
        if waiting.pop(index, None) is None:
            raise RunError(f"evaluation {index} of the record was never asked for: start again without --resume")
        told(before.where(np.array([k])))
    return list(waiting.values())


def _with_twins(table: Evaluations, twins: Mapping[int, list[int]]) -> Evaluations:
    """Return a table with a row more for every structure that is the same as one of the table."""
    copies = [(k, twin) for k, index in enumerate(table["index"].tolist()) for twin in twins.get(index, ())]
    if not copies:
        return table
    rows, indices = (np.array(column) for column in zip(*copies, strict=True))
    same = table.where(rows)
    columns = {"index": indices, "cost": np.zeros(len(rows)), "cached": np.ones(len(rows), dtype=bool)}
    return joined([table, replace(same, columns={**same.columns, **columns})])


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
