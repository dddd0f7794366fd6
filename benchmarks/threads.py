"""Is a run ever slower where nobody has set a number of threads? Solvers, training and search; interleaved, ratios.

python benchmarks/threads.py            every row; two processes each, one of which has OMP_NUM_THREADS=1 from its start
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

import msvae
from msvae.campaigns.launch import launch

ELASTIC = [{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": 0.0}]
SOLVERS = {
    "conductivity": ({"phases": [{"conductivity": 1.0}, {"conductivity": 0.1}]}, (8, 16, 32, 64)),
    "through-conductivity": ({"phases": [{"conductivity": 1.0}, {"conductivity": 0.1}]}, (8, 16, 32)),
    "elasticity": ({"phases": ELASTIC}, (8, 16, 32, 64)),
    "permeability": ({}, (8, 16, 32)),
    "plasticity": ({"phases": [{"youngs_modulus": 1.0, "yield_stress": 0.01}, {"youngs_modulus": 0.5}],
                    "strains": [0.01, 0.02]}, (8, 16)),
    "periodic-hyperelasticity": ({"phases": [{"youngs_modulus": 1.0}, {"youngs_modulus": 0.5}],
                    "deformation": [[1.1, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "steps": [1.0]}, (8, 16)),
}  # fmt: skip
STUDY = """
campaign = "{campaign}"
[dataset]
name = "simulated"
count = 200
shape = [16, 16]
[solver]
name = "conductivity"
phases = [{{ conductivity = 1.0 }}, {{ conductivity = 10.0 }}]
[architecture]
name = "convolutional"
[model]
latents = 8
heads = ["conductivity"]
[training]
epochs = 10
[design]
budget = 16
batch = 4
control_budget = 0
targets = [{{ property = "conductivity", component = [0, 0], value = 4.0, unit = "W/m/K", tolerance = 1e-4 }}]
"""
REPEATS, LEAST = 5, 0.3  # seconds of a measurement


@contextmanager
def busy(others: int) -> Iterator[None]:
    """Keep processors busy meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextmanager
def stopwatch(row: tuple[str, ...], threads: str | None) -> Iterator[Callable[[], float]]:
    """Yield what does a row's work once, in a process with this many threads, and returns the seconds that it took."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
    process = subprocess.Popen([sys.executable, __file__, *row], env=environment, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    ask, answers = process.stdin, process.stdout

    def once() -> float:
        ask.write("again\n")
        ask.flush()
        return float(answers.readline())

    try:
        for _ in range(2):
            once()  # what is loaded and compiled is not counted
        yield once
    finally:
        ask.close()
        process.wait()


def ratios(row: tuple[str, ...], repeats: int) -> str:
    """Return how much longer work takes without the variable than with one thread, idle and half busy, as cells."""
    with ExitStack() as both:
        unset, one = (both.enter_context(stopwatch(row, threads)) for threads in (None, "1"))
        found = []
        for others in (0, 1):
            with busy(others):
                pairs = [[unset(), one()] for _ in range(repeats)]
            medians = np.median(pairs, axis=0)
            found.append(medians[0] / medians[1])
    return " | ".join(f"{ratio:.2f}" for ratio in found)


def work_of(name: str, size: int, batch: int, folder: Path) -> Callable[[], object]:
    """Return the work of a row: a solver's, or that of a campaign."""
    if name not in SOLVERS:
        study = folder / "study.toml"
        study.write_text(STUDY.format(campaign=name))
        return partial(launch, study, folder / "run", force=True)
    solver = msvae.load_solver(name, **SOLVERS[name][0])
    labels = (np.random.default_rng(size).random((batch, size, size, size)) < 0.2).astype(int)
    return partial(solver.evaluate, msvae.Structures.from_labels(labels, 1e-6, phases=2))


def answer(name: str, size: str, batch: str) -> None:
    """Do a row's work whenever a line arrives, as often as fills LEAST, and say how long once took."""
    with tempfile.TemporaryDirectory() as folder:
        work, times = work_of(name, int(size), int(batch), Path(folder)), 1
        for _ in sys.stdin:
            start = time.perf_counter()
            for _ in range(times):
                work()
            once = (time.perf_counter() - start) / times
            times = max(1, round(LEAST / once))
            print(once, flush=True)


def main() -> None:
    print("| what | voxels | batch | unset over one thread, idle | beside a busy process |")
    print("| --- | --- | --- | --- | --- |")
    for name, (_, sizes) in SOLVERS.items():
        for size in sizes:
            for batch in (1, 4) if size <= 32 else (1,):
                print(f"| {name} | {size}^3 | {batch} | {ratios((name, str(size), str(batch)), REPEATS)} |", flush=True)
    for campaign in ("train", "inverse-design"):
        print(f"| {campaign} | 16^2 | 200 | {ratios((campaign, '16', '200'), 3)} |", flush=True)


if __name__ == "__main__":
    answer(*sys.argv[1:]) if len(sys.argv) > 1 else main()
