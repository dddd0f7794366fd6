"""One launch of the program for several structures, each of which has a folder in the folder of the launch.

LAUNCH/0/, LAUNCH/1/, ...     the input of each structure, and what the program leaves behind for it
LAUNCH/                       where the program runs, with the folders' names as arguments
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msvae import Array
from msvae_external.failures import Failure
from msvae_external.job import Job, properties_in, run_commands
from msvae_external.settings import OUTPUT

if TYPE_CHECKING:
    from msvae_external.solver import External

__all__ = ["launched_together"]

Found = Mapping[str, Array] | Failure


def launched_together(solver: External, jobs: Sequence[Job]) -> list[Found]:
    """Return the properties of each structure, or why it has none.

    If a launch of several fails, each is launched by itself, so that the one that is at fault loses no other.
    """
    try:
        with solver.folders.work(f"launch-{jobs[0].name}") as folder:
            return _launched(solver, jobs, folder)
    except Failure as error:
        if len(jobs) == 1:
            return [error]
    return [found for job in jobs for found in launched_together(solver, [job])]


def _launched(solver: External, jobs: Sequence[Job], folder: Path) -> list[Found]:
    """Run the program once; Failure if it does not end as it should."""
    members = tuple(str(k) for k in range(len(jobs)))
    for member, job in zip(members, jobs, strict=True):
        job.write(folder / member)
    own: dict[str, Any] = {
        "processes": solver.processes,
        "here": str(Path.cwd()),
        "folder": str(folder),
        "members": members,
    }
    run_commands(solver, folder, {**own, **solver.variables}, command=solver.command)
    found: list[Found] = []
    for member, job in zip(members, jobs, strict=True):
        place = folder / member
        if not (place / OUTPUT).exists():
            shutil.copy(folder / OUTPUT, place / OUTPUT)
        job.finish(place)
        try:
            found.append(properties_in(solver, place, job.names(place).numbers))
        except Failure as error:
            found.append(error)
        if solver.keep == "always":
            solver.folders.settle(place, job.name)
    return found
