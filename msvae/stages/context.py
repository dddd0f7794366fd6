"""The context of a campaign: the study, its run, its workers, and the methods that evaluate structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from msvae.dispatch import executors
from msvae.dispatch.known import File
from msvae.dispatch.limits import Limits
from msvae.dispatch.tasks import Recipe, Task
from msvae.run.cache import Cache, solver_key
from msvae.run.directory import Run
from msvae.stages.crew import ALONE, Crew
from msvae.stages.stage import Job, Stage
from msvae.structures import Quantity, Structures
from msvae.structures.evaluations import Evaluations
from msvae.study import Study

__all__ = ["Context"]


@dataclass(frozen=True)
class Context:
    """A study, its run, the executor of its evaluations, and the campaign's time limit.

    retry: statuses of evaluations from an earlier part of the run that are to be repeated. crew: the workers.
    """

    study: Study
    run: Run
    executor: Executor
    limits: Limits = field(default_factory=Limits)
    retry: frozenset[str] = frozenset()
    crew: Crew = ALONE

    @property
    def width(self) -> int:
        """The number of evaluations that run at once."""
        return executors.width(self.study.executor, self.study.ranks_per_solver)

    @property
    def others(self) -> int:
        """The number of processes besides this one that take tasks."""
        if executors.engine(self.study.executor) == "serial":
            return 0
        return self.leaders if self.leaders > 1 else self.width

    @property
    def leaders(self) -> int:
        """The number of leaders that deal out tasks to workers; 1 where one manager does."""
        return executors.leaders(self.study.executor)

    @cached_property
    def cache(self) -> Cache | None:
        """The cache shared by runs, if the study names one."""
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
        """Return the evaluations of tasks, taken from the stage's store or made now.

        model: file of the model that decodes the tasks' latents, if any. part: the tasks are part of a stage, and the
        caller shows the progress of the whole. hopeful: most should succeed; the stage ends if most of the first ones
        fail. Completed evaluations are acknowledged at once; a failed one is a row like any other. Raises Stopped on a
        signal or when the wall time is over, and TargetError after too many failures; acknowledged evaluations are
        kept.
        """
        job = Job(self.quantities, model=model, structures=self.run.structures, part=part, hopeful=hopeful)
        return Stage(self, stage, job).evaluations(tasks, title)

    def solve(self, stage: str, structures: Structures, *, title: str = "", quiet: bool = False) -> Evaluations:
        """Evaluate structures that are not in the data set; return the evaluations (n). The run keeps them in STAGE.h5.

        quiet: failures are expected.
        """
        file = f"{stage}.h5"
        if not (self.run.path / file).exists():
            self.run.save_structures(structures, file)
        quantities = self.study.need_solver().quantities(structures.specification)
        job = Job(quantities, structures=structures, file=file, quiet=quiet)
        return Stage(self, stage, job).evaluations([Task(k) for k in range(len(structures))], title)

    def work(
        self,
        stage: str,
        indices: Sequence[int],
        work: Callable[[Sequence[Task]], Evaluations],
        quantities: tuple[Quantity, ...],
        title: str = "",
    ) -> Evaluations:
        """Run a function of the campaign on the workers for tasks with these numbers; return the evaluations.

        work: is pickled, and returns a row with these quantities for every task.
        """
        return Stage(self, stage, Job(quantities, work)).evaluations([Task(k) for k in indices], title)

    def evaluate_asynchronously(
        self,
        stage: str,
        ask: Callable[[], Task | None],
        on_answer: Callable[[Evaluations], None],
        *,
        model: Path,
        under_way: int,
        total: int,
        enough: Callable[[], bool],
    ) -> None:
        """Keep a number of evaluations of decoded latents in progress: ask for another whenever one completes.

        on_answer: called with every evaluation before the next question. A resumed stage first calls it with the stored
        evaluations in order of arrival, so that the same questions are asked. total: maximum number. enough: ends the
        stage when it returns true.
        """
        Stage(self, stage, Job(self.quantities, model=model)).run_asynchronously(
            ask, on_answer, under_way=under_way, total=total, enough=enough
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The quantities that the solver computes for the data set's structures."""
        return self.study.need_solver().quantities(self.run.structures.specification)

    @cached_property
    def origin(self) -> dict[str, str]:
        """Columns written with every evaluation that identify the solver, its decisions and the study."""
        solver = self.study.solver
        if solver is None:
            return {"study": self.study.digest}
        chosen = solver.conditions(self.run.structures.specification)
        words = [solver.name, solver_key(self.study), *(f"{key}={value}" for key, value in chosen.items())]
        return {"solver": " ".join(words), "study": self.study.digest}

    def recipe(self, *, model: Path | None, structures: str = "structures.h5") -> Recipe:
        """Return the locations of study, structures, model and known results, for workers."""
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
