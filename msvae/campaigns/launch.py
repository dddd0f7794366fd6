"""Launch: read a study, open its executor and run its campaign, for the command line and every driver."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from msvae.dispatch import world
from msvae.dispatch.executors import open_executor
from msvae.dispatch.limits import Limits, watched
from msvae.errors import MsvaeError, RunError, Stopped, visible
from msvae.metrics.solver_errors import property_errors
from msvae.run.directory import PHASES, Run
from msvae.run.lock import RunLock
from msvae.run.table import Table
from msvae.stages.context import Context
from msvae.stages.crew import crew_of
from msvae.study import Study

__all__ = ["drive", "launch"]


def launch(
    study_file: Path,
    output: Path,
    *,
    resume: bool = False,
    force: bool = False,
    overrides: Sequence[str] = (),
    retry: Sequence[str] = (),
) -> Table | None:
    """Run a study's campaign and return its table; None on the ranks that only served evaluations.

    retry: statuses ("failed", "timeout", "crashed", "invalid") of evaluations that a resumed run repeats.
    """
    start = time.monotonic()
    world.check()
    world.tidy()
    world.share_plugins()
    study = world.agreed(lambda: Study.load(study_file, overrides))
    with open_executor(study.executor, study.ranks_per_solver) as executor:
        if executor is None:
            return None
        Run.check(output, resume=resume, force=force)
        with watched(study.limits, start) as limits, _held(output, limits):
            run = Run.start(output, study, resume=resume, force=force)
            with (
                _discarded_if_refused(run, limits),
                _journalled(run, resume=resume),
                crew_of(run, executor, frozenset(retry)) as crew,
            ):
                return _answered(Context(study, run, executor, limits, frozenset(retry), crew))


def _answered(context: Context) -> Table:
    """Run the campaign, write its table into the run, and return it, with the errors of the solver's results."""
    table = context.study.campaign.run(context)
    stages = [stage for stage in context.run.stages if stage != PHASES]
    errors = property_errors(context.run.store(stage).load() for stage in stages)
    table = replace(table, notes=(*table.notes, *(found.text for found in errors)))
    context.run.write_json("summary.json", table.plain())
    return table


@contextmanager
def _held(output: Path, limits: Limits) -> Iterator[None]:
    """Lock a run directory, created if missing, against other processes that would write to it."""
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"'{output}' cannot be created: {error.strerror}; give another --output") from None
    lock = RunLock(output, lambda why: setattr(limits, "lost", why))
    try:
        yield
    finally:
        lock.release()
        if made:
            with suppress(OSError):  # it holds a run, as it should
                output.rmdir()


@contextmanager
def _discarded_if_refused(run: Run, limits: Limits) -> Iterator[None]:
    """Remove a new run whose study is found wrong before anything is computed, so that a corrected one finds room."""
    try:
        yield
    except MsvaeError as error:
        if run.is_new and error.code == 2 and not limits.lost and not run.has_results:
            with suppress(OSError):
                run.discard()
        raise


@contextmanager
def _journalled(run: Run, *, resume: bool) -> Iterator[None]:
    """Log when a campaign began and how it ended."""
    run.journal.note("campaign resumed" if resume else "campaign started", ranks=world.size())
    run.journal.show(state="running", campaign=run.study.campaign.name, ranks=world.size())
    try:
        yield
    except BaseException as error:
        state = "stopped" if isinstance(error, Stopped) else "failed"
        why = str(error) if isinstance(error, MsvaeError) else f"{type(error).__name__}: {error}"
        run.journal.note(f"campaign {state}", why=why)
        run.journal.show(state=state, why=why, running=0)
        raise
    run.journal.note("campaign done")
    run.journal.show(state="done", running=0)


def drive(campaign: str) -> None:
    """Run a campaign from a script's command line; a mistake is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=f"Run the campaign '{campaign}' of a study.")
    parser.add_argument("study", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    parser.add_argument("--force", action="store_true", help="replace the run that is there")
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="over the study's value")
    asked = parser.parse_args()
    overrides = [*asked.set, f'campaign="{campaign}"']
    try:
        table = launch(asked.study, asked.output, resume=asked.resume, force=asked.force, overrides=overrides)
    except MsvaeError as error:
        sys.stderr.write(f"{error}\n")
        world.leave(error.code)
        world.finish()
        sys.exit(error.code)
    for row in table.rows if table else ():
        sys.stdout.write(visible("  ".join(row)) + "\n")
    world.finish()
