"""Launch: read a study, open its executor, run its campaign - what the command line and every driver do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from msvae.campaigns import run_campaign
from msvae.campaigns.context import Context, Table
from msvae.dispatch import world
from msvae.dispatch.executors import open_executor
from msvae.errors import MsvaeError
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
    campaign: str | None = None,
) -> Table | None:
    """Run a study's campaign and return its table; None on the ranks that only served evaluations.

    campaign: runs this one instead of the study's own.
    """
    chosen = [*overrides, *([f'campaign="{campaign}"'] if campaign else [])]
    world.share_plugins()
    study = world.agreed(lambda: Study.load(study_file, chosen))
    with open_executor(study.executor) as executor:
        if executor is None:
            return None
        run = Run.start(output, study, resume=resume, force=force)
        return run_campaign(Context(study, run, executor))


def drive(campaign: str) -> None:
    """Run a campaign from a script's command line; a mistake is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=f"Run the campaign '{campaign}' of a study.")
    parser.add_argument("study", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    asked = parser.parse_args()
    try:
        table = launch(asked.study, asked.output, resume=asked.resume, campaign=campaign)
    except MsvaeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    for row in table.rows if table else ():
        sys.stdout.write("  ".join(row) + "\n")
