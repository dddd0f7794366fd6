"""The nursery: a process that has loaded a solver, and forks a child of itself whenever one is needed.

Started by `isolated.py` as `python -m msvae.dispatch.isolation.nursery FD`, clean of its parent's MPI environment. A
child that crashes, hangs or leaks is replaced in milliseconds, because nothing has to be loaded again. The nursery
itself never evaluates, and dies with its parent, as a child dies with the nursery. The nursery adopts processes that a
child has started and left behind, in whatever session, and kills them before it forks another child.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import socket
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from msvae.dispatch.evaluation import evaluate
from msvae.dispatch.isolation.processes import children_of, end
from msvae.plugins import files as plugin_files
from msvae.plugins.interfaces import Solver

__all__ = ["main"]

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GIB = 1 << 30


def main(descriptor: int) -> None:
    """Serve a parent over the socket with this descriptor, until it closes its end."""
    die_with_parent(os.getppid())
    adopt_orphans()
    with suppress(OSError, EOFError), socket.socket(fileno=descriptor) as control:  # until the parent is gone
        link = Connection(os.dup(descriptor))
        solver, memory_limit = _load(link)
        while True:
            message, handles, _, _ = socket.recv_fds(control, 1, 1)
            if not message:
                return
            _fork(link, handles[0], solver, memory_limit)


def _load(link: Connection) -> tuple[Solver, float | None]:
    """Read plugin files, solver and memory limit from the parent; reply "ready", or the reason for failure and exit."""
    try:
        files, content, memory_limit = link.recv()
        for file in files:
            plugin_files.import_file(Path(file))
        solver = pickle.loads(content)
    except Exception as error:  # a border: importing a stranger's module may raise anything
        link.send(f"{type(error).__name__}: {error}")
        sys.exit(1)
    link.send("ready")
    return solver, memory_limit


def _fork(link: Connection, descriptor: int, solver: Solver, memory_limit: float | None) -> None:
    """Fork one child, send its process id, wait for its end, and report how it ended."""
    nursery = os.getpid()
    child = os.fork()
    if child == 0:
        os.setsid()  # so that its parent can kill it with all that it has started
        die_with_parent(nursery)
        _serve(Connection(descriptor), solver, memory_limit)
        os._exit(0)
    os.close(descriptor)
    link.send(child)
    _, status = os.waitpid(child, 0)
    end_orphans()
    link.send(os.waitstatus_to_exitcode(status))


def _serve(data: Connection, solver: Solver, memory_limit: float | None) -> None:
    """Evaluate requests until the other end closes; each reply has the number of its request."""
    me = os.getpid()
    if memory_limit is not None:
        limit_memory(memory_limit)
    while True:
        try:
            question, structures, options = data.recv()
        except EOFError:
            return
        outcome = evaluate(solver, structures, **options)
        if os.getpid() != me:  # a copy that the solver has made of this process, and let come back
            os._exit(0)
        sys.stdout.flush()
        data.send((question, outcome))


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it had ended before
            os._exit(1)


def adopt_orphans() -> None:
    """Let processes whose parent ends become children of this one (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_orphans() -> None:
    """Kill this process's children, and their children, which it adopts."""
    while orphans := children_of(os.getpid()):
        for orphan in orphans:
            end(orphan)
        for orphan in orphans:
            with suppress(ChildProcessError):
                os.waitpid(orphan, 0)


def limit_memory(gibibytes: float) -> None:
    """Let allocations fail beyond this much private memory; memory that libraries reserved but do not use is extra."""
    wanted = int(gibibytes * GIB)
    try:
        sizes = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
        reserved, used = (int(sizes[name].split()[0]) * 1024 for name in ("VmData", "VmRSS"))
    except (OSError, KeyError, ValueError):
        reserved = used = 0
    limit = max(wanted, reserved + wanted - used)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main(int(sys.argv[1]))
