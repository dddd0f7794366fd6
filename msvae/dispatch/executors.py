"""Executors: all work runs on a `concurrent.futures.Executor`, which the study or the environment selects."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from pkgutil import resolve_name
from typing import Any, cast

from msvae.dispatch import groups, world
from msvae.dispatch.engines import managers
from msvae.dispatch.engines.parsl import parsl_executor
from msvae.dispatch.groups import Group
from msvae.dispatch.limits import ignored_signals
from msvae.dispatch.tasks import solver_of
from msvae.dispatch.threads import limit_threads, take_gpu
from msvae.errors import Stopped, StudyError
from msvae.study.settings import ExecutorSettings

__all__ = ["SerialExecutor", "abandon", "leaders", "open_executor", "width"]

_abandoned: set[int] = set()


def abandon(executor: Executor) -> None:
    """Mark an executor whose workers are not waited for when it closes: some of them no longer respond."""
    _abandoned.add(id(executor))


class SerialExecutor(Executor):
    """Runs each task at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # what an executor has to do with any exception of its task
            future.set_exception(error)
        return future


def engine(settings: ExecutorSettings) -> str:
    """Return the executor's name; "auto" is replaced by the executor that it selects here."""
    if settings.name != "auto":
        return settings.name
    return "mpi" if world.size() > 1 else "processes" if settings.workers > 1 else "serial"


def width(settings: ExecutorSettings, ranks_per_solver: int = 1) -> int:
    """Return the number of evaluations that run at once."""
    name = engine(settings)
    if name == "mpi" and world.size() > 1:
        if settings.managers > 1:
            return managers.evaluating(world.size(), settings.managers)
        return max(1, (world.size() - 1) // ranks_per_solver)
    if name == "parsl":
        return settings.parsl.blocks * settings.parsl.nodes * settings.parsl.workers
    return 1 if name == "serial" else settings.workers


def leaders(settings: ExecutorSettings) -> int:
    """Return the number of leaders that deal out chunks; 1 where there is one manager."""
    over_ranks = engine(settings) == "mpi" and world.size() > 1
    return managers.count(world.size(), settings.managers) if over_ranks and settings.managers > 1 else 1


@contextmanager
def open_executor(settings: ExecutorSettings, ranks_per_solver: int = 1) -> Iterator[Executor | None]:
    """Yield the executor of a study; None on the ranks that serve one, once their manager has finished."""
    name = engine(settings)
    over_ranks = name == "mpi" and world.size() > 1
    limit_threads(settings.threads)
    if ranks_per_solver > 1 and not over_ranks:
        raise StudyError(
            f"{ranks_per_solver} ranks run the solver together, but the executor is '{name}' on {world.size()} rank: "
            f"start with `mpiexec -n {1 + ranks_per_solver} python -m mpi4py -m msvae ...` or more ranks"
        )
    if over_ranks:
        with _ranks(settings, ranks_per_solver) as executor:
            yield executor
    elif world.rank() > 0:
        ignored_signals()
        yield None  # under mpiexec with another executor: rank 0 works, the others have nothing to do
    else:
        with _alone(name, settings) as executor:
            yield executor


@contextmanager
def _alone(name: str, settings: ExecutorSettings) -> Iterator[Executor]:
    """Yield the executor of a process that runs without other ranks."""
    makers: dict[str, Callable[[ExecutorSettings], Executor]] = {
        "serial": lambda s: SerialExecutor(), "processes": _pool, "mpi": _spawned, "parsl": parsl_executor
    }  # fmt: skip
    executor: Any = makers[name](settings) if name in makers else _named(name, settings)
    try:
        yield executor
    except Stopped as stopped:
        if stopped.busy:  # workers that still evaluate are not waited for
            _abandon_workers(executor, name)
        raise
    finally:
        if id(executor) in _abandoned:
            _abandon_workers(executor, name)
        executor.shutdown(wait=sys.exc_info()[0] is None and id(executor) not in _abandoned)


def _abandon_workers(executor: Any, name: str) -> None:
    executor.shutdown(**({"kill_workers": True} if name == "processes" else {"wait": False}))


def _pool(settings: ExecutorSettings) -> Executor:
    from loky import ProcessPoolExecutor

    pool: Executor = ProcessPoolExecutor(settings.workers, env=_environment(settings), initializer=ignored_signals)
    return pool


def _environment(settings: ExecutorSettings) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(settings.threads), "OMP_WAIT_POLICY": "PASSIVE"}


def _spawned(settings: ExecutorSettings) -> Executor:
    """Return an executor whose ranks MPI spawns, where it can."""
    if importlib.util.find_spec("mpi4py") is None:
        raise StudyError("executor.name is 'mpi', but mpi4py is not installed: pip install 'msvae[mpi]'")
    if settings.workers < 2 or not world.launched():
        raise StudyError(
            "executor.name is 'mpi', but there is one rank: start with `mpiexec -n N python -m mpi4py -m msvae ...`, N "
            "of 2 or more; or with N = 1 and executor.workers, for as many ranks to be spawned; or use 'auto'"
        )
    try:
        from mpi4py.futures import MPIPoolExecutor
    except ImportError as error:
        raise StudyError(f"executor.name is 'mpi', but mpi4py cannot be used: {error}") from None
    return cast("Executor", MPIPoolExecutor(settings.workers, env=_environment(settings), initializer=ignored_signals))


def _named(name: str, settings: ExecutorSettings) -> Executor:
    """Return the executor that a user's function creates; StudyError if there is none."""
    try:
        make = resolve_name(name)
    except Exception as error:  # a border: a user's module may raise anything
        raise StudyError(
            f"executor.name is '{name}', but {error}: name a function that can be imported (see PYTHONPATH)"
        ) from None
    try:
        executor = make(settings)
    except Exception as error:  # a border: a user's function may raise anything
        raise StudyError(
            f"executor.name is '{name}', which failed with {type(error).__name__}: {error}: name a function that takes "
            "the settings of [executor] and returns a concurrent.futures.Executor"
        ) from None
    if not isinstance(executor, Executor):
        raise StudyError(f"executor.name is '{name}', which returned {executor!r}, no concurrent.futures.Executor")
    return executor


@contextmanager
def _ranks(settings: ExecutorSettings, ranks_per_solver: int) -> Iterator[Executor | None]:
    """Yield the executor over the ranks of this job on its manager, and None on the others when it is over."""
    from mpi4py.futures import MPICommExecutor

    comm: Any = world.communicator()
    take_gpu(world.rank_on_node(), settings.gpus)
    if comm.Get_rank() > 0:
        ignored_signals()
    if leaders(settings) > 1:
        with managers.teams(comm, settings.managers) as over_leaders, _ended_with(comm):
            yield over_leaders
        return
    group = groups.split_world(comm, ranks_per_solver) if ranks_per_solver > 1 else Group(None, comm)
    if group.tasks is None:
        group.serve(solver_of)
        yield None
        return
    try:
        with ExitStack() as stack:
            executor = stack.enter_context(MPICommExecutor(group.tasks, root=0))
            try:
                with _ended_with(comm):
                    yield cast("Executor | None", executor)
            finally:
                if id(executor) in _abandoned:  # nor can ranks that do not answer
                    stack.pop_all()
                    world.desert(comm)
    finally:
        group.dismiss()


@contextmanager
def _ended_with(comm: Any) -> Iterator[None]:
    """End the job where ranks still evaluate after its time: they cannot be waited for."""
    try:
        yield
    except Stopped as stopped:
        if stopped.busy:
            sys.stderr.write(f"msvae: {stopped}\n")
            comm.Abort(stopped.code)
        raise
