"""Reread: a run's campaign once more, on the folders that its solver's program has left behind, without solving."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from msvae.campaigns.launch import launch
from msvae.errors import RunError, StudyError
from msvae.run.directory import Run
from msvae.run.outside import check_outside
from msvae.run.table import Table
from msvae.study import Study

__all__ = ["reread"]

NEVER = 'solver.solve="never"'


def reread(
    directory: Path, output: Path, *, study: Path | None = None, overrides: Sequence[str] = (), trust: bool = False
) -> Table | None:
    """Read the folders of a run's structures again into another directory; return its table, None on other ranks.

    study: with other outputs, in place of the run's own. trust: what the run's study names may be executed, which the
    readers of outputs can do. A structure without a folder fails.
    """
    run = Run.open(directory, trust=trust)
    if output.is_symlink() or output.resolve() == run.path.resolve():
        raise RunError(f"'{output}' is the run itself, or a link: give another --output")
    if study is None and not trust:
        check_outside(run.study, directory, overrides)
    solver = (run.study if study is None else Study.load(study, overrides)).need_solver()
    if "solve" not in {field.name for field in dataclasses.fields(solver)}:
        raise StudyError(f"solver '{solver.name}' runs no program whose folders could be read again: it can only solve")
    return launch(study or run.frozen_study, output, overrides=[*overrides, NEVER])
