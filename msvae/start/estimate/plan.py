"""A plan: the stages of a run, what each does and how long it takes, as measured numbers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msvae.run.table import Table

__all__ = ["Pace", "Plan", "Step", "duration"]


@dataclass(frozen=True)
class Pace:
    """What a pilot has measured. Times are wall times in s, sizes bytes; 0 where nothing was to be measured.

    reading: of the data set. call: of one solver call on one worker. each: of an evaluation, all workers together.
    epoch: of the training. structures: of the data set's file. row: of a stored evaluation. model: of its file.
    memory: largest of the first process. failed: share of the pilot's evaluations.
    """

    reading: float
    call: float = 0.0
    each: float = 0.0
    epoch: float = 0.0
    structures: int = 0
    row: float = 0.0
    model: int = 0
    memory: int = 0
    failed: float = 0.0


@dataclass(frozen=True)
class Step:
    """A stage: what is done, in words, its evaluations, its seconds. at_most: it may end earlier."""

    stage: str
    what: str
    evaluations: int
    seconds: float
    at_most: bool = False


@dataclass(frozen=True)
class Plan:
    """The stages of a run in their order. workers: that evaluate. whole: nothing of the campaign is left out."""

    title: str
    steps: tuple[Step, ...]
    pace: Pace
    workers: int
    whole: bool = True
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The wall time in s."""
        return sum(step.seconds for step in self.steps)

    @property
    def evaluations(self) -> int:
        """The number of solver calls."""
        return sum(step.evaluations for step in self.steps)

    @property
    def disk(self) -> float:
        """The size of the run's directory in bytes: structures, evaluations, model and its checkpoint."""
        return self.pace.structures + self.evaluations * self.pace.row + 5 * self.pace.model

    def table(self) -> Table:
        """Return the plan as a table."""
        bound = "at most " if any(step.at_most for step in self.steps) else ""
        rows = [(s.stage, s.what, str(s.evaluations or ""), ("at most " if s.at_most else "") + duration(s.seconds))
                for s in self.steps]  # fmt: skip
        rows.append(("total", "" if self.whole else "without the campaign itself", str(self.evaluations or ""),
                     bound + duration(self.seconds)))  # fmt: skip
        return Table(self.title, ("stage", "what", "evaluations", "time"), tuple(rows), (*self._sizes(), *self.notes))

    def _sizes(self) -> Sequence[str]:
        pace = self.pace
        said = [f"memory: {pace.memory / 2**20:.0f} MiB in the first process; disk: {self.disk / 2**20:.1f} MiB beside "
                "the report"]  # fmt: skip
        if pace.call:
            workers = f"{self.workers} worker{'s' * (self.workers > 1)}"
            said.insert(0, f"measured: {1e3 * pace.call:.3g} ms a solver call, {1e3 * pace.each:.3g} ms an evaluation "
                           f"on {workers}; {100 * pace.failed:.0f} % of the pilot failed")  # fmt: skip
        return said


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(0.4), duration(72), duration(5400), duration(200_000)
    ('0.4 s', '1.2 min', '1.5 h', '2.3 d')
    """
    for size, name in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"
