"""Isolation: a solver in a child process, so that whatever it does to its process is a failed evaluation.

The child is forked by a nursery (see `nursery.py`) and is killed when it exceeds the time or the memory that an
evaluation may take. What it last wrote to standard error stands in the message of the failure.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from msvae.dispatch.evaluation import failure
from msvae.errors import PluginError
from msvae.evaluations import Evaluation, Status
from msvae.interfaces import Solver
from msvae.structures import Structures

__all__ = ["IsolatedSolver"]

MPI_VARIABLES = (
    "PMI_",
    "PMIX_",
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
GLANCE = 0.05  # seconds between two looks at the memory of a child
LAST_LINES, LAST_BYTES = 4, 600
GIB = 1 << 30


class IsolatedSolver:
    """A solver that evaluates in a child process.

    files: of plugins that have to be imported first. timeout: seconds, memory: GiB of one evaluation; None for any.
    """

    def __init__(
        self, solver: Solver, files: Sequence[str] = (), *, timeout: float | None = None, memory: float | None = None
    ) -> None:
        self.solver, self.files, self.timeout, self.memory = solver, tuple(files), timeout, memory
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the child writes
        fcntl.fcntl(self.output, fcntl.F_SETFL, os.O_APPEND)  # it is emptied while the child has it open
        self.nursery: subprocess.Popen[bytes] | None = None
        self.child: int | None = None
        atexit.register(self.close)

    def evaluate(self, structures: Structures, **options: Any) -> Evaluation:
        """Return the evaluation of a batch of one structure, whatever becomes of the process that makes it."""
        if self.child is None:
            self._bear()
        start = time.perf_counter()
        os.ftruncate(self.output.fileno(), 0)
        outcome: Evaluation | tuple[Status, str] | None = None
        try:
            self.data.send((structures, options))
            outcome = self._outcome(start)
        except (OSError, EOFError):  # it died while we spoke to it
            pass
        if isinstance(outcome, Evaluation):
            return outcome
        status, message = outcome or ("crashed", "")
        code = self._bury()
        said = self._last_words()
        return failure(
            self.solver, structures, status, (message or how_it_ended(code)) + (f"; it wrote: {said}" if said else ""),
            cost=time.perf_counter() - start, **options,
        )  # fmt: skip

    def close(self) -> None:
        """End the processes."""
        if self.child is not None:
            self._kill()
            self.data.close()
        self._leave_nursery()
        self.output.close()
        atexit.unregister(self.close)

    def _outcome(self, start: float) -> Evaluation | tuple[Status, str] | None:
        """Return the child's answer, or (status, message) if it has to be killed; None if it died."""
        while True:
            ready = wait([self.data, self.link], GLANCE)
            if self.data in ready:
                answer: Evaluation = self.data.recv()
                return answer
            if self.link in ready:
                return None
            if self.timeout is not None and time.perf_counter() - start > self.timeout:
                self._kill()
                return "timeout", f"it took longer than the {self.timeout:g} s of executor.timeout and was ended"
            if self.memory is not None and resident(self.child or 0) > self.memory * GIB:
                self._kill()
                return "crashed", f"it took more than the {self.memory:g} GiB of executor.memory_limit and was ended"

    def _start(self) -> None:
        """Start the nursery, and wait until it has loaded the solver; PluginError if it cannot."""
        self.control, theirs = socket.socketpair()
        with theirs:
            self.nursery = subprocess.Popen(
                [sys.executable, "-m", "msvae.dispatch.nursery", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, pass_fds=[theirs.fileno()],
                env=without_mpi(os.environ),
            )  # fmt: skip
        self.link = Connection(os.dup(self.control.fileno()))
        try:
            self.link.send((self.files, pickle.dumps(self.solver), self.memory))
            answer = self.link.recv()
        except (OSError, EOFError):
            answer = f"its process ended; it wrote: {self._last_words()}"
        if answer != "ready":
            raise PluginError(f"solver '{self.solver.name}' cannot be loaded in a process of its own: {answer}")

    def _leave_nursery(self) -> None:
        """Let the nursery end, if there is one; the next child is born in another."""
        if self.nursery is not None:
            self.control.close()
            self.link.close()
            self.nursery.wait()
        self.nursery = self.child = None

    def _bear(self) -> None:
        """Have a child forked, in a new nursery if the old one is gone."""
        for _ in range(2):
            if self.nursery is None:
                self._start()
            mine, theirs = socket.socketpair()
            try:
                with theirs:
                    socket.send_fds(self.control, [b"f"], [theirs.fileno()])
                self.child = self.link.recv()
            except (OSError, EOFError):
                mine.close()
                self._leave_nursery()
                continue
            self.data = Connection(mine.detach())
            return
        raise PluginError(f"the process that solver '{self.solver.name}' lives in ends again and again")

    def _kill(self) -> None:
        """Kill the child and what it has started."""
        assert self.child is not None
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(self.child, signal.SIGKILL)

    def _bury(self) -> int:
        """Return the exit code of the child, negative for a signal, once it has ended."""
        self.data.close()
        try:
            code = int(self.link.recv())
        except (OSError, EOFError):  # the nursery was killed, and the child with it
            code = -signal.SIGKILL
            self._leave_nursery()
        else:
            self._kill()  # what it has started
            self.child = None
        return code

    def _last_words(self) -> str:
        size = os.fstat(self.output.fileno()).st_size
        tail = os.pread(self.output.fileno(), LAST_BYTES, max(0, size - LAST_BYTES)).decode(errors="replace")
        return " | ".join(line.strip() for line in tail.splitlines()[-LAST_LINES:] if line.strip())


def how_it_ended(code: int) -> str:
    """Return in words what an exit code says.

    >>> how_it_ended(-11)
    'the solver ended its process by SIGSEGV (Segmentation fault)'
    """
    if code < 0:
        return f"the solver ended its process by {signal.Signals(-code).name} ({signal.strsignal(-code)})"
    return f"the solver ended its process with exit code {code}"


def without_mpi(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which MPI starts afresh, as if no launcher had started this process."""
    return {k: v for k, v in environment.items() if not k.startswith(MPI_VARIABLES)}


def resident(process: int) -> int:
    """Return the bytes in memory of a process and of those that it has started; 0 where that is not known."""
    folder = Path(f"/proc/{process}")
    try:
        pages = int((folder / "statm").read_text().split()[1])
        children = (folder / "task" / str(process) / "children").read_text().split()
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in children)
