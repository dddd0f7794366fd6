"""Is a run ever slower where nobody has set a number of threads? Solvers, training and search; interleaved, ratios.

python benchmarks/threads.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
[training]
epochs = 10
[design]
budget = 16
batch = 4
control_budget = 0
targets = [{{ property = "conductivity", component = [0, 0], value = 4.0, unit = "W/m/K", tolerance = 1e-4 }}]
"""
REPEATS = 5


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


def seconds(work: Callable[[], object], threads: str | None) -> float:
    """Return how long some work takes with this many threads; None leaves the variable unset."""
    os.environ.pop("OMP_NUM_THREADS", None)
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = threads
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratios(work: Callable[[], object], repeats: int) -> str:
    """Return how much longer work takes without the variable than with one thread, idle and half busy, as cells."""
    work()
    found = []
    for others in (0, 1):
        with busy(others):
            pairs = [[seconds(work, threads) for threads in (None, "1")] for _ in range(repeats)]
        unset, one = np.median(pairs, axis=0)
        found.append(unset / one)
    return " | ".join(f"{ratio:.2f}" for ratio in found)


def main() -> None:
    print("| what | voxels | batch | unset over one thread, idle | beside a busy process |")
    print("| --- | --- | --- | --- | --- |")
    for name, (settings, sizes) in SOLVERS.items():
        solver = msvae.load_solver(name, **settings)
        for size in sizes:
            for batch in (1, 4) if size <= 32 else (1,):
                labels = (np.random.default_rng(size).random((batch, size, size, size)) < 0.2).astype(int)
                structures = msvae.Structures.from_labels(labels, 1e-6, phases=2)
                print(f"| {name} | {size}^3 | {batch} | {ratios(partial(solver.evaluate, structures), REPEATS)} |",
                      flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for campaign in ("train", "inverse-design"):
            study = Path(folder) / "study.toml"
            study.write_text(STUDY.format(campaign=campaign))
            work = partial(launch, study, Path(folder) / "run", force=True)
            print(f"| {campaign} | 16^2 | 200 | {ratios(work, 3)} |", flush=True)


if __name__ == "__main__":
    main()
