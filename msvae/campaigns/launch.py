"""Launch: read a study, open its executor, run its campaign - what the command line and every driver do."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msvae.campaigns import run_campaign
from msvae.campaigns.context import Context, Table
from msvae.dispatch import world
from msvae.dispatch.executors import open_executor
from msvae.dispatch.limits import watched
from msvae.errors import MsvaeError, Stopped
from msvae.run.directory import Run
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

    retry: statuses ("failed", "timeout", "crashed", "invalid") of evaluations that a resumed run makes again.
    """
    start = time.monotonic()
    world.share_plugins()
    study = world.agreed(lambda: Study.load(study_file, overrides))
    with open_executor(study.executor, study.ranks_per_solver) as executor:
        if executor is None:
            return None
        run = Run.start(output, study, resume=resume, force=force)
        with watched(study.limits, start) as limits, _journalled(run, resume=resume):
            return run_campaign(Context(study, run, executor, limits, frozenset(retry)))


@contextmanager
def _journalled(run: Run, *, resume: bool) -> Iterator[None]:
    """Write down when a campaign began and how it ended."""
    run.journal.note("campaign resumed" if resume else "campaign started", ranks=world.size())
    run.journal.show(state="running", campaign=run.study.campaign, ranks=world.size())
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
    asked = parser.parse_args()
    try:
        table = launch(asked.study, asked.output, resume=asked.resume, overrides=[f'campaign="{campaign}"'])
    except MsvaeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.code)
    for row in table.rows if table else ():
        sys.stdout.write("  ".join(row) + "\n")
