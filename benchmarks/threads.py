"""Are two threads ever slower than one? Voxel solvers, alone and beside another busy process, interleaved; ratios.

python benchmarks/threads.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

import msvae

ELASTIC = [{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": 0.0}]
SOLVERS = {
    "conductivity": ({"phases": [{"conductivity": 1.0}, {"conductivity": 0.1}]}, (8, 16, 32, 64)),
    "through-conductivity": ({"phases": [{"conductivity": 1.0}, {"conductivity": 0.1}]}, (8, 16, 32)),
    "elasticity": ({"phases": ELASTIC}, (8, 16, 32, 64)),
    "permeability": ({}, (8, 16, 32)),
    "plasticity": ({"phases": [{"youngs_modulus": 1.0, "yield_stress": 0.01}, {"youngs_modulus": 0.5}],
                    "strains": [0.01, 0.02]}, (8, 16)),
}  # fmt: skip
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


def main() -> None:
    print("| solver | voxels | batch | unset over one thread, idle | beside a busy process |")
    print("| --- | --- | --- | --- | --- |")
    for name, (settings, sizes) in SOLVERS.items():
        solver = msvae.load_solver(name, **settings)
        for size in sizes:
            for batch in (1, 4) if size <= 32 else (1,):
                labels = (np.random.default_rng(size).random((batch, size, size, size)) < 0.2).astype(int)
                structures = msvae.Structures.from_labels(labels, 1e-6, phases=2)
                solver.evaluate(structures)
                ratios = []
                for others in (0, 1):
                    with busy(others):
                        pairs = [[seconds(lambda: solver.evaluate(structures), t) for t in (None, "1")]  # noqa: B023
                                 for _ in range(REPEATS)]  # fmt: skip
                    unset, one = np.median(pairs, axis=0)
                    ratios.append(unset / one)
                print(f"| {name} | {size}^3 | {batch} | {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
