"""The crew of a campaign: its workers, lost workers, and evaluations that have killed a job before."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field

from msvae.dispatch.executors import abandon, engine
from msvae.dispatch.signs import FOLDER, Roll, Sign, left_in
from msvae.run.directory import Run

__all__ = ["ALONE", "Crew", "crew_of"]

log = logging.getLogger(__name__)
CRASHES = "crashes.json"
TWICE = 2  # jobs that die with an evaluation, until it is taken for the reason where nothing says what was


@dataclass(frozen=True)
class Crew:
    """The workers of a campaign. roll: None if this process works alone.

    fatal: ids of structures whose evaluation has killed a job, with what is known about it.
    """

    roll: Roll | None = None
    fatal: Mapping[str, str] = field(default_factory=dict)


ALONE = Crew()


@contextmanager
def crew_of(run: Run, executor: Executor, retry: frozenset[str] = frozenset()) -> Iterator[Crew]:
    """Yield the crew of a run's campaign; on exit, workers that no longer respond are not waited for.

    retry: statuses of evaluations to repeat; "crashed" includes those that have killed a job.
    """
    settings = run.study.executor
    fatal = _fatal(run, forgiven="crashed" in retry)
    name = engine(settings)
    if name == "serial":
        yield Crew(None, fatal)
        return

    def on_loss(sign: Sign) -> None:
        why = sign.trouble or f"has given no sign of life for {settings.silence:g} s: what it had goes to others"
        log.warning("%s %s", sign.who, why)
        run.journal.note("worker lost", host=sign.host, process=sign.process, rank=sign.rank, why=why)
        run.journal.show(lost=sorted({*run.journal.state.get("lost", ()), sign.who}))

    limit = settings.timeout if run.study.ranks_per_solver > 1 else None
    roll = Roll(run.path / FOLDER, settings.silence, limit, sends=name == "mpi", on_loss=on_loss)
    try:
        yield Crew(roll, fatal)
    finally:
        roll.look(force=True)
        if roll.lost:
            abandon(executor)
        roll.close()


def _fatal(run: Run, *, forgiven: bool) -> dict[str, str]:
    """Return the evaluations that have killed a job, including those in progress if the last job died."""
    before = run.read_json(CRASHES, dict[str, list[str]])
    crashes: dict[str, list[str]] = {} if forgiven or before is None else before
    left = left_in(run.path / FOLDER)
    for structure, word in left.items():
        crashes.setdefault(structure, []).append(word)
    if crashes or before:
        run.write_json(CRASHES, crashes)
    Roll(run.path / FOLDER).close()
    return {
        structure: f"it ended its job: {next(filter(None, words), f'{len(words)} died while it was under way')}"
        for structure, words in crashes.items()
        if any(words) or len(words) >= TWICE
    }
