"""Isolation: a solver in a child process, so that a crash or hang of the process is only a failed evaluation.

The child is forked by a nursery (see `nursery.py`) and is killed when it exceeds the time or the memory that an
evaluation may take, or has been stopped. What it last wrote to standard error stands in the message of the failure.
Waiting for either of them is bounded: one that is silent for the study's patience is given up.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from msvae.dispatch.evaluation import failure
from msvae.dispatch.isolation.processes import LastWords, end, how_it_ended, is_stopped, resident, without_mpi
from msvae.errors import PluginError
from msvae.plugins.interfaces import Solver
from msvae.structures import Structures
from msvae.structures.evaluations import Evaluation, Status

__all__ = ["IsolatedSolver"]

GLANCE = 0.05  # seconds between two looks at a child
LOADING = 10  # times the patience that a nursery has to load a solver, from a file system that others use too
LEAVING = 5.0  # seconds that a nursery has to end by itself
GIB = 1 << 30


class IsolatedSolver:
    """A solver that evaluates in a child process.

    files: of plugins that have to be imported first. timeout: seconds, memory: GiB of one evaluation; None for any.
    patience: seconds for which a child may be stopped, or one of the processes be silent, before it is given up.
    """

    def __init__(
        self,
        solver: Solver,
        files: Sequence[str] = (),
        *,
        timeout: float | None = None,
        memory: float | None = None,
        patience: float = 60.0,
    ) -> None:
        self.solver, self.files, self.timeout, self.memory = solver, tuple(files), timeout, memory
        self.patience, self.question = patience, 0
        self.output = LastWords()
        self.nursery: subprocess.Popen[bytes] | None = None
        self.child: int | None = None
        atexit.register(self.close)

    def evaluate(self, structures: Structures, **options: Any) -> Evaluation:
        """Return the evaluation of a batch of one structure, whatever happens to the process that computes it."""
        if self.child is None:
            self._bear()
        start = time.perf_counter()
        self.output.forget()
        self.question += 1
        outcome: Evaluation | tuple[Status, str] | None = None
        try:
            self.data.send((self.question, structures, options))
            outcome = self._outcome(start)
        except BlockingIOError:
            self._kill()
            outcome = "crashed", f"its process said nothing for {self.patience:g} s and was ended"
        except (OSError, EOFError):  # it died while we spoke to it
            pass
        if isinstance(outcome, Evaluation):
            return outcome
        status, message = outcome or ("crashed", "")
        code = self._bury()
        said = self.output.text
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
        assert self.child is not None
        moved = start  # when it was last seen not to be stopped
        while True:
            ready = wait([self.data, self.link, self.output.reader], GLANCE)
            self.output.take()
            if self.data in ready:
                question, answer = cast("tuple[int, Evaluation]", self.data.recv())
                if question == self.question:  # not that of a copy of the child, to what was asked before
                    return answer
                continue
            if self.link in ready:
                return None
            now = time.perf_counter()
            moved = moved if is_stopped(self.child) else now
            excess = self._excess(now - start, now - moved)
            if excess is not None:
                self._kill()
                return excess

    def _excess(self, taken: float, stopped: float) -> tuple[Status, str] | None:
        """Return why a child that takes so long, or is stopped for so long, has to be killed; None if it has not."""
        if self.timeout is not None and taken > self.timeout:
            return "timeout", f"it took longer than the {self.timeout:g} s of executor.timeout and was ended"
        if self.memory is not None and resident(self.child or 0) > self.memory * GIB:
            return "crashed", f"it took more than the {self.memory:g} GiB of executor.memory_limit and was ended"
        if stopped > self.patience:
            return "crashed", f"its process was stopped for longer than the {self.patience:g} s of executor.patience"
        return None

    def _start(self) -> None:
        """Start the nursery, and wait until it has loaded the solver; PluginError if it cannot."""
        self.control, theirs = socket.socketpair()
        with theirs:
            self.nursery = subprocess.Popen(
                [sys.executable, "-m", "msvae.dispatch.isolation.nursery", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=self.output.writer, stderr=self.output.writer,
                pass_fds=[theirs.fileno()], env=without_mpi(os.environ),
            )  # fmt: skip
        self.link = Connection(os.dup(self.control.fileno()))
        try:
            self.link.send((self.files, pickle.dumps(self.solver), self.memory))
            answer = self._nursery_answer(LOADING * self.patience)
        except (OSError, EOFError):
            answer = f"its process ended; it wrote: {self.output.text}"
        if answer != "ready":
            raise PluginError(f"solver '{self.solver.name}' cannot be loaded in a process of its own: {answer}")

    def _nursery_answer(self, patience: float) -> Any:
        """Return the nursery's message; TimeoutError, which is an OSError, if none comes within this time."""
        last = time.monotonic() + patience
        while time.monotonic() < last:
            ready = wait([self.link, self.output.reader], GLANCE)
            self.output.take()
            if self.link in ready:
                return self.link.recv()
        raise TimeoutError(f"no answer within {patience:g} s")

    def _leave_nursery(self) -> None:
        """Let the nursery end, if there is one; the next child is forked by a new one."""
        if self.nursery is not None:
            self.control.close()
            self.link.close()
            try:
                self.nursery.wait(min(LEAVING, self.patience))
            except subprocess.TimeoutExpired:
                end(self.nursery.pid)
                with suppress(subprocess.TimeoutExpired):  # a process that even the kernel cannot end is left
                    self.nursery.wait(LEAVING)
        self.nursery = self.child = None

    def _bear(self) -> None:
        """Have a child forked, by a new nursery if the old one is gone or silent."""
        for _ in range(2):
            if self.nursery is None:
                self._start()
            mine, theirs = socket.socketpair()
            for side in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                mine.setsockopt(socket.SOL_SOCKET, side, _timeval(self.patience))
            try:
                with theirs:
                    socket.send_fds(self.control, [b"f"], [theirs.fileno()])
                self.child = self._nursery_answer(self.patience)
            except (OSError, EOFError):
                mine.close()
                self._leave_nursery()
                continue
            self.data = Connection(mine.detach())
            return
        raise PluginError(f"the process that solver '{self.solver.name}' runs in ends repeatedly")

    def _kill(self) -> None:
        """Kill the child and what it has started."""
        assert self.child is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child, signal.SIGKILL)
        end(self.child)

    def _bury(self) -> int | None:
        """Return the exit code of the child, negative for a signal, once it has ended; None if it is unknown."""
        self.data.close()
        code: int | None = None
        try:
            code = int(self._nursery_answer(self.patience))
        except TimeoutError:  # the nursery is stopped, or the child cannot be ended
            self._kill()
            self._leave_nursery()
        except (OSError, EOFError):  # the nursery was killed, and the child with it
            code = -signal.SIGKILL
            self._leave_nursery()
        self.child = None
        return code


def _timeval(seconds: float) -> bytes:
    """Return a time in the form of socket options, at least a microsecond: zero would mean no timeout."""
    whole, part = divmod(seconds, 1)
    return struct.pack("@ll", int(whole), int(1e6 * part) or int(not whole))
