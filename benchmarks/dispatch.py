"""Tasks per second and efficiency: msvae against mpi4py.futures, libEnsemble, Parsl and Dask, and a simulated manager.

    make bench        or: mpiexec -n 3 python -m mpi4py benchmarks/dispatch.py </dev/null

One job of three ranks: a manager and two workers. Every engine gets the same function, a busy wait of 0, 1, 10 or 1,000
ms, in rounds that are interleaved; Parsl and Dask start two worker processes of their own while the ranks sleep. Then
msvae's evaluations (decode and solve, about 10 ms) against the same done by one rank alone. The manager's measured
costs go into a simulation of 10 to 100,000 workers, which is compared with the real thing at this size. The table is
written to benchmarks/DISPATCH.md.
"""

from __future__ import annotations

import argparse
import heapq
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from busy_tasks import busy, busy_chunk, busy_simulation
from mpi4py import MPI
from mpi4py.futures import MPICommExecutor, MPIPoolExecutor

from msvae.dispatch.scheduling import Pace, dispatch

WORKERS = 2
TASKS = {0.0: (20_000, 2_000), 0.001: (4_000, 2_000), 0.01: (400, 400), 1.0: (8, 8)}  # for msvae, for one-by-one peers
Engine = Callable[[float, int], float]
STUDY = """
campaign = "label"
[dataset]
name = "simulated"
count = 60
shape = [20, 20, 20]
[solver]
name = "conductivity"
phases = [{ conductivity = 1.0 }, { conductivity = 30.0 }]
[architecture]
name = "convolutional"
[model]
latents = 8
[training]
epochs = 1
"""


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextmanager
def engines() -> Iterator[dict[str, Engine]]:
    """Yield the engines that live on the manager; the workers serve until it is over."""
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        if executor is None:
            yield {}
            return

        def ours(seconds: float, n: int) -> float:
            return timed(lambda: list(dispatch(executor, busy_chunk, [seconds] * n, width=WORKERS)))

        def bare(seconds: float, n: int) -> float:
            return timed(lambda: [f.result() for f in [executor.submit(busy, seconds) for _ in range(n)]])

        list(executor.map(busy, [0.0] * 10))
        with parsl_engine() as parsl, dask_engine() as dask:
            yield {"msvae": ours, "mpi4py.futures": bare, "Parsl": parsl, "Dask": dask}


@contextmanager
def parsl_engine() -> Iterator[Engine]:
    from parsl import Config, HighThroughputExecutor
    from parsl.concurrent import ParslPoolExecutor
    from parsl.providers import LocalProvider

    pool = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=WORKERS, cores_per_worker=1e-6,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )  # fmt: skip
    config = Config(executors=[pool], run_dir=tempfile.mkdtemp(), usage_tracking=0, initialize_logging=False)
    with without_mpi(), ParslPoolExecutor(config) as executor:
        list(executor.map(busy, [0.0] * 10))
        yield lambda seconds, n: timed(lambda: list(executor.map(busy, [seconds] * n)))


@contextmanager
def dask_engine() -> Iterator[Engine]:
    from distributed import Client, LocalCluster

    with (
        without_mpi(),
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        executor = client.get_executor(pure=False)
        list(executor.map(busy, [0.0] * 10))
        yield lambda seconds, n: timed(lambda: list(executor.map(busy, [seconds] * n)))


@contextmanager
def without_mpi() -> Iterator[None]:
    """Let processes that start meanwhile find no MPI job around them."""
    from msvae.dispatch.isolation.isolated import without_mpi as clean

    before, kept = dict(os.environ), clean(os.environ)
    os.environ.clear()
    os.environ.update(kept)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def libensemble(seconds: float, n: int) -> float:
    """Return the time that libEnsemble takes for n tasks; called on every rank."""
    import numpy as np
    from libensemble.alloc_funcs.give_pregenerated_work import give_pregenerated_sim_work
    from libensemble.libE import libE

    H0 = np.zeros(n, dtype=[("x", float), ("sim_id", int)])
    H0["sim_id"] = range(n)
    sim_specs = {"sim_f": busy_simulation, "in": ["x"], "out": [("f", float)], "user": {"seconds": seconds}}
    specs = {
        "comms": "mpi", "mpi_comm": MPI.COMM_WORLD, "disable_log_files": True, "save_every_k_sims": n + 1,
        "save_H_on_completion": False, "disable_resource_manager": True, "safe_mode": False,
    }  # fmt: skip
    alloc = {"alloc_f": give_pregenerated_sim_work}
    MPI.COMM_WORLD.Barrier()
    start = time.perf_counter()
    libE(sim_specs, {}, {"sim_max": n}, alloc_specs=alloc, libE_specs=specs, H0=H0, persis_info={"next_to_give": 0})
    return time.perf_counter() - start


def peers(rounds: int) -> dict[tuple[str, float], float]:
    """Return the median tasks per second by engine and task; {} on the workers."""
    speeds: dict[tuple[str, float], list[float]] = {}
    with engines() as local:
        for _ in range(rounds if local else 0):
            for seconds, (many, few) in TASKS.items():
                for name, engine in local.items():
                    n = many if name == "msvae" else few
                    speeds.setdefault((name, seconds), []).append(n / engine(seconds, n))
                    print(name, seconds, f"{speeds[name, seconds][-1]:.1f}", file=sys.stderr, flush=True)
    for _ in range(rounds):
        for seconds, (_, few) in TASKS.items():
            speeds.setdefault(("libEnsemble", seconds), []).append(few / libensemble(seconds, few))
    return {key: statistics.median(values) for key, values in speeds.items()} if MPI.COMM_WORLD.rank == 0 else {}


@dataclass(frozen=True)
class Solving:
    """Seconds of an evaluation: by a rank alone, by two that were given their halves beforehand, and dispatched."""

    alone: float = 0.0
    halves: float = 0.0
    dispatched: float = 0.0


def evaluations(rounds: int) -> Solving:
    """Return the medians of interleaved rounds; zeros on the workers."""
    from msvae.dispatch.executors import SerialExecutor
    from msvae.dispatch.tasks import Task, work
    from msvae.dispatch.threads import limit_threads
    from msvae.run.directory import Run
    from msvae.stages.context import Context
    from msvae.stages.labelling import the_structures
    from msvae.stages.training import trained
    from msvae.study import Study

    limit_threads(1)
    found: list[tuple[float, float, float]] = []
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor, tempfile.TemporaryDirectory() as folder:
        if executor is None:
            return Solving()
        run = Run.start(Path(folder) / "run", Study.parse(STUDY))
        context = Context(run.study, run, SerialExecutor())
        vae = trained(context, the_structures(context))
        parallel, recipe = Context(run.study, run, executor), context._recipe(with_model=True)
        for k in range(rounds):
            tasks = [Task(i, z) for i, z in enumerate(vae.sample_latents(400, seed=k))]
            list(executor.map(partial(work, recipe), [tasks[:1]] * 8))  # the model is loaded
            parts = [[tasks[:200]], [tasks[:200], tasks[200:]]]
            given = [timed(partial(list, executor.map(partial(work, recipe), part))) / 200 for part in parts]
            wall = timed(partial(parallel.evaluate, f"round-{k}", tasks, with_model=True))
            found.append((given[0], given[1], WORKERS * wall / len(tasks)))
    return Solving(*map(statistics.median, zip(*found, strict=True)))


@dataclass(frozen=True)
class Manager:
    """Seconds that the manager needs for a chunk and for a task in it, and that a worker waits between two chunks."""

    chunk: float
    task: float
    latency: float

    @classmethod
    def measured(cls, executor: MPIPoolExecutor) -> Manager:
        """Measure it: with empty tasks one by one, with a great chunk of them, and with tasks of 5 ms one by one."""

        def all_of(seconds: float, n: int) -> float:
            return timed(lambda: [f.result() for f in [executor.submit(busy, seconds) for _ in range(n)]]) / n

        chunk = all_of(0.0, 2000)
        task = timed(lambda: executor.submit(busy_chunk, [0.0] * 200_000).result()) / 200_000
        return cls(chunk, task, max(0.0, WORKERS * all_of(0.005, 300) - 0.005 - chunk))


def simulate(workers: int, seconds: float, manager: Manager, *, chunks: bool) -> float:
    """Return the efficiency of one manager and workers with tasks of this cost: a discrete-event simulation.

    The manager serves one worker after the other: it takes a result and sends the next chunk. There is work for LONG
    seconds for every worker.
    """
    waiting = round(workers * LONG / seconds)
    pace = Pace(deque([seconds] * 16), 10**9)
    arrivals = [(0.0, 0.0)] * workers  # of a worker at the manager, and the seconds of work that it brings
    free = end = work = 0.0
    while arrivals:
        arrival, done = heapq.heappop(arrivals)
        work += done
        end = max(end, arrival)
        if waiting > 0:
            size = min(pace.next(waiting, workers) if chunks else 1, waiting)
            waiting -= size
            free = max(free, arrival) + manager.chunk + size * manager.task
            cost = size * seconds
            heapq.heappush(arrivals, (free + manager.latency + cost, cost))
    return work / (workers * end)


def simulation_table(manager: Manager) -> list[str]:
    """Return the rows of the simulated efficiencies."""
    heads = [f"{t:g} s {how}" for t in COSTS for how in ("singly", "in chunks")]
    rows = [f"| workers | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for workers in (10, 100, 1_000, 10_000, 100_000):
        cells = []
        for seconds in COSTS:
            for chunks in (False, True):
                alone = not chunks and workers * manager.chunk > 5 * seconds  # the manager is the limit, by far
                value = (
                    seconds / (workers * manager.chunk) if alone else simulate(workers, seconds, manager, chunks=chunks)
                )
                cells.append(f"{value:.2f}")
        rows.append(f"| {workers:,} | " + " | ".join(cells) + " |")
    return rows


COSTS = (0.01, 1.0, 60.0)
LONG = 600.0


def checked(manager: Manager, speeds: dict[tuple[str, float], float]) -> list[str]:
    """Return the rows that compare the simulation with what was measured at this size."""
    rows = [
        "| task | measured, singly | simulated | measured, in chunks | simulated |",
        "| --- | --- | --- | --- | --- |",
    ]
    for seconds in (0.001, 0.01, 1.0):
        ideal = WORKERS / seconds
        cells = []
        for name, chunks in (("mpi4py.futures", False), ("msvae", True)):
            cells += [
                f"{speeds[name, seconds] / ideal:.3f}",
                f"{simulate(WORKERS, seconds, manager, chunks=chunks):.3f}",
            ]
        rows.append(f"| {1000 * seconds:g} ms | " + " | ".join(cells) + " |")
    return rows


def page(speeds: dict[tuple[str, float], float], solve: Solving, manager: Manager) -> str:
    names = ("msvae", "mpi4py.futures", "libEnsemble", "Parsl", "Dask")
    versions = ", ".join(f"{d} {version(d)}" for d in ("mpi4py", "libensemble", "parsl", "distributed"))
    heads = [f"{1000 * t:g} ms" if t else "empty" for t in TASKS]
    cost = f"{1e6 * manager.chunk:.0f} microseconds"
    lines = [
        "# Dispatch against its peers", "",
        "Written by `benchmarks/dispatch.py`: tasks per second on a manager and two workers, medians of interleaved",
        f"rounds. Machine: {os.cpu_count()} cores; {MPI.Get_library_version().split()[0]}, {versions}.", "",
        f"| | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads),
    ]  # fmt: skip
    lines += [f"| {n} | " + " | ".join(f"{speeds[n, t]:,.4g}" for t in TASKS) + " |" for n in names]
    for peer in names[1:]:
        ratios = " | ".join(f"{speeds['msvae', t] / speeds[peer, t]:.3g}" for t in TASKS)
        lines.append(f"| msvae over {peer} | {ratios} |")
    lines += [
        "", f"An evaluation (decode a structure, solve its conductivity) takes a rank alone {1e3 * solve.alone:.1f}",
        f"ms; two ranks that are given their halves beforehand {1e3 * solve.halves:.1f} ms each, for they share the",
        f"machine's memory; dispatched by msvae, the store included, {1e3 * solve.dispatched:.1f} ms: an efficiency of",
        f"{solve.halves / solve.dispatched:.3f} of what the two can do, and of",
        f"{solve.alone / solve.dispatched:.3f} of twice one alone.", "",
        "## One manager, many workers", "",
        f"Measured here: the manager needs {cost} for a chunk, {1e9 * manager.task:.0f} ns for a task in",
        f"it; between two chunks a worker waits {1000 * manager.latency:.1f} ms. A discrete-event simulation gives the",
        f"efficiency, with {LONG:.0f} s of work for every worker,", "", *simulation_table(manager), "",
        "and at the size of this job, against what was measured,", "", *checked(manager, speeds), "",
        f"Tasks that take T seconds and travel singly end the single manager at about T / {cost} workers.",
        "Chunks, which msvae makes longer the more workers there are, move that end by their length. Beyond it, and",
        "where evaluations are too long to be put together, `executor.managers` splits the ranks into teams",
        "([`MANAGERS.md`](MANAGERS.md)).", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("DISPATCH.md"))
    asked = parser.parse_args()
    logging.getLogger("msvae").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    solve = evaluations(asked.rounds)
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        manager = Manager.measured(executor) if executor is not None else Manager(0.0, 0.0, 0.0)
    speeds = peers(asked.rounds)
    if MPI.COMM_WORLD.rank == 0:
        text = page(speeds, solve, manager)
        asked.write.write_text(text)
        print(text)


if __name__ == "__main__":
    main()
