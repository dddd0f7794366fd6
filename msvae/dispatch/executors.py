"""Executors: anything that runs work is a `concurrent.futures.Executor`; the study or the environment says which."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any, cast

from msvae.dispatch import world
from msvae.errors import StudyError
from msvae.settings import ExecutorSettings

__all__ = ["SerialExecutor", "open_executor"]


class SerialExecutor(Executor):
    """Runs each task at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # what an executor has to do with any exception of its task
            future.set_exception(error)
        return future


@contextmanager
def open_executor(settings: ExecutorSettings) -> Iterator[Executor | None]:
    """Yield the executor that a study asks for; None on the ranks that serve one, once their manager is done."""
    name = settings.name
    if name == "auto":
        name = "mpi" if world.size() > 1 else "processes" if settings.workers > 1 else "serial"
    limit_threads(settings.threads)
    if name == "mpi":
        with _mpi_executor() as executor:
            yield executor
    elif world.rank() > 0:
        yield None  # under mpiexec with another executor: rank 0 works, the others have nothing to do
    elif name == "processes":
        from loky import ProcessPoolExecutor

        environment = {"OMP_NUM_THREADS": str(settings.threads), "OMP_WAIT_POLICY": "PASSIVE"}
        with ProcessPoolExecutor(settings.workers, env=environment) as executor:
            yield executor
    else:
        yield SerialExecutor()


@contextmanager
def _mpi_executor() -> Iterator[Executor | None]:
    if world.size() < 2:
        raise StudyError(
            "executor.name is 'mpi', but there is one rank: start with `mpiexec -n N python -m mpi4py -m msvae "
            "...` with N of 2 or more and mpi4py installed, or use 'auto'"
        )
    from mpi4py.futures import MPICommExecutor

    with MPICommExecutor(world.communicator(), root=0) as executor:
        yield cast("Executor | None", executor)


def limit_threads(threads: int) -> None:
    """Let numerical libraries that start from now on use this many threads in this process."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
