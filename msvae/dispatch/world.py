"""The MPI world, if there is one: rank and size without importing mpi4py where no launcher started us."""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from msvae import plugins
from msvae.dispatch.leftovers import remove_leftovers, remove_segments
from msvae.errors import MsvaeError, RunError

__all__ = [
    "agreed",
    "agreed_once",
    "communicator",
    "desert",
    "finish",
    "launched",
    "leave",
    "rank",
    "rank_on_node",
    "share_plugins",
    "size",
]

Value = TypeVar("Value")

PATIENCE = 20.0  # s that a rank at its end waits for the others
LAUNCHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK")


def launched() -> bool:
    """Return whether an MPI launcher has started this process."""
    return any(name in os.environ for name in LAUNCHERS)


def communicator() -> Any | None:
    """Return COMM_WORLD if this process is one of several ranks, else None."""
    if "mpi4py.MPI" not in sys.modules and not launched():
        return None
    try:
        from mpi4py import MPI
    except ImportError:
        return None
    return MPI.COMM_WORLD if MPI.COMM_WORLD.Get_size() > 1 else None


def check() -> None:
    """Raise RunError where a launcher started several ranks that cannot know of each other, for want of mpi4py."""
    sizes = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    ranks = max((int(os.environ[name]) for name in sizes if os.environ.get(name, "").isdigit()), default=1)
    if ranks > 1 and importlib.util.find_spec("mpi4py") is None:
        raise RunError(
            f"an MPI launcher started {ranks} ranks, but mpi4py is not installed, so that each would run the study "
            "alone: pip install 'msvae[mpi]' (built with the MPI of that launcher)"
        )


def rank() -> int:
    """Return this process's rank; 0 without MPI."""
    world = communicator()
    return 0 if world is None else int(world.Get_rank())


def size() -> int:
    """Return the number of ranks; 1 without MPI."""
    world = communicator()
    return 1 if world is None else int(world.Get_size())


def rank_on_node() -> int:
    """Return this process's number among the ranks of its node."""
    world = communicator()
    if world is None:
        return 0
    from mpi4py import MPI

    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    number = int(node.Get_rank())
    node.Free()
    return number


_deserted: list[Any] = []


def desert(world: Any) -> None:
    """Let the end of this process be that of its whole job, some ranks of which do not answer any more."""
    _deserted.append(world)
    # threading's own, as mpi4py uses it: before the threads that wait for those ranks are waited for
    getattr(threading, "_register_atexit", atexit.register)(leave)


def leave(code: int | None = None) -> None:
    """End the job, if ranks of it have been deserted. code: of the process; by default whether an exception ends it."""
    if not _deserted:
        return
    code = int(hasattr(sys, "last_value")) if code is None else code
    sys.stdout.flush()
    sys.stderr.flush()
    while _deserted:
        _deserted.pop().Abort(code)
    os._exit(code)  # an abort may come back before the job has ended


def finish() -> None:
    """End MPI in good order if every rank is at its end, whatever it exits with.

    Without it mpi4py's own end of a program that exits with another code than 0 is an abort of the job: a launcher
    reports 137 for 75 then, and segments of shared memory are left behind. A rank that does not come within some
    seconds is stuck or has raised, and that abort is right.
    """
    world = communicator()
    if world is None or _deserted or sys.modules["mpi4py.MPI"].Is_finalized():
        return
    everybody, until = world.Ibarrier(), time.monotonic() + PATIENCE
    while not everybody.Test():
        if time.monotonic() > until:
            return
        time.sleep(0.005)
    sys.modules["mpi4py.MPI"].Finalize()


def tidy() -> None:
    """Leave nothing on the node if this job does not end in good order, and remove what others have left."""
    world = communicator()
    if world is not None:
        remove_segments(world)
    if rank_on_node() == 0:
        remove_leftovers()


def share_plugins() -> None:
    """Let rank 0 alone scan the entry points and tell the other ranks, which import the modules that it names."""
    world = communicator()
    if world is not None:
        plugins.install(world.bcast(plugins.discover() if world.Get_rank() == 0 else None, root=0))


def agreed_once(work: Callable[[], object]) -> None:
    """Do something on rank 0 alone; if that raises a MsvaeError, rank 0 raises it and the others leave in silence."""
    agreed(lambda: work() if rank() == 0 else None)


def agreed(make: Callable[[], Value]) -> Value:
    """Return what `make` gives on every rank, once it has worked on rank 0.

    If it raises a MsvaeError there, rank 0 raises it, and the other ranks leave in silence: one mistake, one sentence.
    """
    world = communicator()
    if world is None:
        return make()
    error: MsvaeError | None = None
    value: list[Value] = []
    if world.Get_rank() == 0:
        try:
            value.append(make())
        except MsvaeError as found:
            error = found
    if world.bcast(error is not None, root=0):
        raise error if error is not None else SystemExit(0)
    return value[0] if value else make()
