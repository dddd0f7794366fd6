"""Solver processes: their state according to /proc (Linux), and the last lines of their standard error."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["LastWords", "children_of", "end", "how_it_ended", "is_stopped", "resident", "without_mpi"]

MPI_VARIABLES = (
    "PMI",
    "OMPI_",
    "PRTE_",
    "PRRTE_",
    "HYD",
    "MPIR_",
    "MPI_LOCAL",
    "MPIEXEC_",
    "GMPI_",
    "MV2_COMM",
)
LAST_LINES, LAST_BYTES = 4, 600
PIECE = 1 << 16  # bytes that are read at once
PIECES = 64  # that are read before something else is done: someone may write without an end


class LastWords:
    """The last output of processes into a pipe, as much as a message shows; earlier output is discarded.

    So a solver that writes gigabytes fills no disk; it blocks while nobody reads.
    """

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.kept = b""

    def take(self) -> None:
        """Read the output so far."""
        for _ in range(PIECES):
            try:
                self.kept = (self.kept + os.read(self.reader, PIECE))[-LAST_BYTES:]
            except BlockingIOError:
                return

    def forget(self) -> None:
        """Read the output so far, and discard it."""
        self.take()
        self.kept = b""

    @property
    def text(self) -> str:
        """The last lines, joined into one."""
        self.take()
        lines = self.kept.decode(errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-LAST_LINES:] if line.strip())

    def close(self) -> None:
        """Close both ends."""
        for descriptor in (self.reader, self.writer):
            with suppress(OSError):
                os.close(descriptor)


def how_it_ended(code: int | None) -> str:
    """Return in words the meaning of an exit code; None if it is unknown.

    >>> how_it_ended(-11)
    'the solver ended its process by SIGSEGV (Segmentation fault)'
    """
    if code is None:
        return "the solver's process ended, and the process that watches it does not say how"
    if code < 0:
        return f"the solver ended its process by {signal.Signals(-code).name} ({signal.strsignal(-code)})"
    return f"the solver ended its process with exit code {code}"


def without_mpi(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which MPI starts afresh, as if no launcher had started this process."""
    return {k: v for k, v in environment.items() if not k.startswith(MPI_VARIABLES)}


def children_of(process: int) -> list[int]:
    """Return the processes that a process has started and that have not been waited for."""
    found, tasks = [], Path(f"/proc/{process}/task")
    with suppress(OSError):  # it has ended meanwhile
        for task in os.listdir(tasks):
            with suppress(OSError):
                found += [int(child) for child in (tasks / task / "children").read_text().split()]
    return found


def resident(process: int) -> int:
    """Return the resident bytes of a process and of its children; 0 where unknown."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(child) for child in children_of(process))


def is_stopped(process: int) -> bool:
    """Return whether a process has been stopped, by SIGSTOP or a debugger."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def end(process: int) -> None:
    """Kill a process and all of its descendants, whatever their session."""
    for child in children_of(process):
        end(child)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(process, signal.SIGKILL)
