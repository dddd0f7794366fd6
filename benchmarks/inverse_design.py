"""Inverse design: composite search against scikit-optimize and random samples of the prior, equal budgets.

    make bench

T1: two conductivities (11, 3) of a 32 x 32 image of phases 1 and 20, 45 solver calls of which 20 are the first.
3D: three stiffnesses of a 16^3 porous solid that no training structure comes near. Each with seeds that all methods
share; distance: root of the summed squares of the relative errors. The best design of each search is held against the
guards. The table is written to benchmarks/INVERSE_DESIGN.md.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from models import simulated, trained
from scipy import stats

import msvae
from msvae.interfaces import Solver
from msvae.sampling.composite import CompositeSearch, Known
from msvae.sampling.guards import Guards
from msvae.settings import Component
from msvae.structures import Array, Structures
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE

FIRST = 20


@dataclass(frozen=True, eq=False)
class Task:
    """A target for numbers of a solver's property, and the model that makes structures."""

    name: str
    vae: VAE
    structures: Structures
    solver: Solver
    targets: Mapping[Component, float]
    budget: int
    known: Known | None = None

    def distance(self, properties: Mapping[str, Array]) -> Array:
        parts = [component_values(properties, c) / value - 1 for c, value in self.targets.items()]
        return np.asarray(np.sqrt(np.square(parts).sum(axis=0)))

    def solve(self, latents: Array) -> Mapping[str, Array]:
        return self.solver.evaluate(self.vae.decode(latents))


def conductivity_task() -> Task:
    structures = simulated(count=2000, shape=[32, 32], length=[8e-6, 8e-6], anisotropy=[1.0, 3.0])
    solver = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 20.0}])
    targets = {Component("conductivity", (0, 0)): 11.0, Component("conductivity", (1, 1)): 3.0}
    return Task("T1: conductivities (11, 3), 16 latents", trained(structures, 16, 40), structures, solver, targets, 45)


def stiffness_task() -> Task:
    structures = simulated(count=1000, shape=[16, 16, 16], length=[8e-6, 8e-6], anisotropy=[1.0, 2.5],
                           volume_fraction=[0.15, 0.4])  # fmt: skip
    phases = [{"youngs_modulus": 70e9, "poissons_ratio": 0.33}, {"youngs_modulus": 0.0}]
    solver = msvae.load_solver("elasticity", phases=phases)
    targets = {Component("stiffness", (i, i)): value for i, value in enumerate((58e9, 48e9, 38e9))}
    return Task("3D: stiffnesses (58, 48, 38) GPa", trained(structures, 16, 25), structures, solver, targets, 60)


def composite(task: Task, seed: int, *, allowed: Any = None) -> tuple[Array, Array]:
    search = CompositeSearch(task.vae, list(task.targets), task.distance, seed=seed, known=task.known, allowed=allowed)
    return run(task, search.ask, search.tell)


def random(task: Task, seed: int) -> tuple[Array, Array]:
    latents = task.vae.sample_latents(task.budget, seed + 10_000)
    return latents, task.distance(task.solve(latents))


def skopt(task: Task, seed: int) -> tuple[Array, Array]:
    """Scikit-optimize's Gaussian process (gp_hedge, as by default) in the box of the encoded structures."""
    from skopt import Optimizer

    encoded = task.vae.encode(task.structures[:1000])
    box = list(zip(encoded.min(axis=0).tolist(), encoded.max(axis=0).tolist(), strict=True))
    optimiser = Optimizer(box, "GP", n_initial_points=FIRST, random_state=seed)

    def ask(n: int) -> Array:
        return np.array(optimiser.ask(n_points=n) if n > 1 else [optimiser.ask()])

    def tell(latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        optimiser.tell(latents.tolist(), distances.tolist())

    return run(task, ask, tell)


def run(task: Task, ask: Callable[[int], Array], tell: Callable[..., None]) -> tuple[Array, Array]:
    latents, distances = ask(FIRST), np.zeros(0)
    found = latents
    while True:
        properties = task.solve(latents)
        new = task.distance(properties)
        distances = np.concatenate([distances, new])
        tell(latents, new, properties)
        if len(distances) >= task.budget:
            return found, distances
        latents = ask(1)
        found = np.concatenate([found, latents])


def measure(task: Task, seeds: int) -> list[str]:
    """Return the lines of a task's table."""
    guards = Guards.of(task.vae, task.structures)
    methods: dict[str, Callable[[Task, int], tuple[Array, Array]]] = {
        "random samples of the prior": random,
        "scikit-optimize, latent box": skopt,
        "composite": lambda t, s: composite(t, s, allowed=guards.accept),
    }
    final: dict[str, list[float]] = {name: [] for name in methods}
    reached: dict[str, list[float]] = {name: [] for name in methods}
    refused, seconds = dict.fromkeys(methods, 0), dict.fromkeys(methods, 0.0)
    for seed in range(seeds):
        for name, method in methods.items():
            start = time.perf_counter()
            latents, distances = method(task, seed)
            seconds[name] += time.perf_counter() - start
            best = int(np.nanargmin(distances))
            final[name].append(float(distances[best]))
            met = np.flatnonzero(distances <= 0.02 * np.sqrt(len(task.targets)))
            reached[name].append(float(met[0] + 1) if len(met) else np.inf)
            chosen = latents[best : best + 1]
            refused[name] += int(not guards.accept(chosen, task.vae.decode(chosen))[0])
    lines = [f"## {task.name}", "", f"{task.budget} solver calls, {seeds} seeds", "",
             "| | median distance | lowest to highest | median calls to 2 % | refused by guards | s a search | p |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, values in final.items():
        p = "" if name == "composite" else f"{stats.wilcoxon(values, final['composite']).pvalue:.2g}"
        calls = np.median(reached[name])
        lines.append(f"| {name} | {np.median(values):.4f} | {min(values):.4f} to {max(values):.4f} | "
                     f"{calls:g} | {refused[name]} of {seeds} | {seconds[name] / seeds:.1f} | {p} |")  # fmt: skip
    own = float(np.median(final["composite"]))
    ratios = ", ".join(
        f"{np.median(v) / own:.1f} times below {name}" for name, v in final.items() if name != "composite"
    )
    return [*lines, "", f"composite: {ratios}; p: Wilcoxon's signed-rank test against it", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("INVERSE_DESIGN.md"))
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = ["# Inverse design with equal numbers of solver calls", ""]
    for make in (conductivity_task, stiffness_task):
        lines += measure(make(), asked.seeds)
        asked.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
