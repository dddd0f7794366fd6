"""What every campaign is given: the study, its run, its workers, and the ways to have things evaluated."""

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
        job = Job(self.quantities, model=model, structures=self.run.structures, part=part, hopeful=hopeful)
        return Stage(self, stage, job).evaluations(tasks, title)

    def solve(self, stage: str, structures: Structures, *, title: str = "", quiet: bool = False) -> Evaluations:
        """Return the evaluations (n) of structures other than the data set's, which the run keeps in STAGE.h5.

        quiet: failures are to be expected.
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
        """Return the evaluations of tasks with these numbers, made by a function of the campaign's own on the workers.

        work: is pickled, and gives a row with these quantities for every task.
        """
        return Stage(self, stage, Job(quantities, work)).evaluations([Task(k) for k in indices], title)

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
        Stage(self, stage, Job(self.quantities, model=model)).converse(
            ask, told, under_way=under_way, total=total, enough=enough
        )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What the solver computes of the data set's structures."""
        return self.study.need_solver().quantities(self.run.structures.specification)

    @cached_property
    def origin(self) -> dict[str, str]:
        """What is written beside every evaluation: what stands for the solver, its decisions, and the study."""
        solver = self.study.need_solver()
        chosen = solver.conditions(self.run.structures.specification)
        words = [solver.name, solver_key(self.study), *(f"{key}={value}" for key, value in chosen.items())]
        return {"solver": " ".join(words), "study": self.study.digest}

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
