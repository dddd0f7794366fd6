"""The pace of a search: the solver's wall time per call, measured once a run, and the wall time of the stages."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from msvae.campaigns.design.campaign import InverseDesign
from msvae.dispatch.tasks import Task
from msvae.run.directory import Run
from msvae.sampling.search.effort import Effort, rounded
from msvae.stages.context import Context

__all__ = ["PACE", "Clock", "effort_of"]

PACE, CLOCK = "pace.json", "clock.json"
EVERY = 2.0  # seconds between two writings of a clock


def effort_of(context: Context) -> Effort:
    """Return the time that one proposal of a study's search may take.

    The solver's time per call is given by the study or measured and stored by the run, so that a resumed run proposes
    the same.
    """
    design = context.study.need(InverseDesign)
    if design.call_seconds is not None:
        return Effort(design.call_seconds)
    if design.strategy.name != "composite":
        return Effort()
    known = context.run.read_json(PACE, dict[str, float], ["call_seconds"])
    if known is None:
        known = {"call_seconds": rounded(_measured(context))}
        context.run.write_json(PACE, known)
    return Effort(float(known["call_seconds"]))


def _measured(context: Context) -> float:
    """Return the median cost in s of the data set's structures; of the first one, if this run has solved none."""
    table = context.run.store("label").load()
    if not (table.done & ~table["cached"]).any():
        table = context.evaluate("pace", [Task(0)])
    costs = table["cost"][table.done & ~table["cached"]]
    return float(np.median(costs)) if len(costs) else 1.0


@dataclass(eq=False)
class Clock:
    """The wall time of a stage, stored in the run, without the time in which a resumed stage replays its record."""

    run: Run
    stage: str
    seconds: float = 0.0
    last: float | None = None
    written: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, run: Run, stage: str) -> Clock:
        """Return the clock of a stage, continued from the time that the run has stored."""
        return cls(run, stage, float((run.read_json(CLOCK, dict[str, float]) or {}).get(stage, 0.0)))

    def start(self) -> None:
        """Start the clock."""
        self.last = time.monotonic()

    def take(self, *, end: bool = False) -> None:
        """Add the time since the last call, if the clock runs, and store it from time to time and at the end."""
        now = time.monotonic()
        if self.last is None:
            return
        self.seconds, self.last = self.seconds + now - self.last, now
        if end or now - self.written > EVERY:
            self.written = now
            self.run.write_json(
                CLOCK, {**(self.run.read_json(CLOCK, dict[str, float]) or {}), self.stage: round(self.seconds, 6)}
            )
