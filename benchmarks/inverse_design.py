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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from models import simulated, trained
from scipy import stats

import msvae
from msvae.campaigns.pareto import Aimed, Losses
from msvae.design_settings import DesignSettings, Objective
from msvae.interfaces import Solver
from msvae.metrics.pareto import hypervolume
from msvae.sampling.bounds import hashin_shtrikman
from msvae.sampling.composite import CompositeSearch, Known
from msvae.sampling.guards import Guards
from msvae.settings import Component
from msvae.structures import Array, Structures
from msvae.study import load_plugin
from msvae.study_source import Source
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE

FIRST = 20


@dataclass(frozen=True, eq=False)
class Task:
    """Targets for numbers of a solver's property, and the model that makes structures.

    loss: of a design, instead of the relative distance from the targets, where there is another aim. most: fraction of
    phase 1 that a design may have. close: distance that counts as reached.
    """

    name: str
    vae: VAE
    structures: Structures
    solver: Solver
    targets: Mapping[Component, float]
    budget: int
    loss: Callable[[Mapping[str, Array]], Array] | None = None
    most: float = 1.0
    close: float = 0.02

    def distance(self, properties: Mapping[str, Array]) -> Array:
        if self.loss is not None:
            return self.loss(properties)
        parts = [component_values(properties, c) / value - 1 for c, value in self.targets.items()]
        return np.asarray(np.sqrt(np.square(parts).sum(axis=0)))

    def solve(self, latents: Array) -> Mapping[str, Array]:
        return self.solver.evaluate(self.vae.decode(latents))

    def judged(self, latents: Array, properties: Mapping[str, Array]) -> Array:
        """Return distances, NaN where there is no answer or too much of phase 1."""
        kept = self.vae.decode(latents).fractions[:, 1] <= self.most
        return np.where(kept, self.distance(properties), np.nan)


def conductivity_task(latents: int = 16) -> Task:
    structures = simulated(count=2000, shape=[32, 32], length=[8e-6, 8e-6], anisotropy=[1.0, 3.0])
    solver = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 20.0}])
    targets = {Component("conductivity", (0, 0)): 11.0, Component("conductivity", (1, 1)): 3.0}
    name = f"T1: conductivities (11, 3), {latents} latents"
    return Task(name, trained(structures, latents, 40), structures, solver, targets, 45)


def largest_task() -> Task:
    """The largest of the smaller conductivity with at most 40 % of the conductor: bounded by Hashin and Shtrikman."""
    t = conductivity_task()
    bound = float(hashin_shtrikman(np.array([[0.6, 0.4]]), np.array([[1.0], [20.0]]), 2)[1][0, 0])

    def regret(properties: Mapping[str, Array]) -> Array:
        k = np.asarray(properties["conductivity"])
        return np.asarray(1 - np.minimum(k[:, 0, 0], k[:, 1, 1]) / bound)

    name = f"T2: smaller conductivity as large as possible, at most 40 % of the conductor (bound {bound:.2f}); regret"
    return replace(t, name=name, budget=60, loss=regret, most=0.4, close=0.2)


def permeability_task() -> Task:
    """Three permeabilities of a sandstone, of which most pieces have none along some axis."""
    tiff = Path(__file__).resolve().parents[2] / "shared" / "data" / "berea" / "berea.tif"
    settings = {"name": "tiff", "path": str(tiff), "dimensions_of": 3, "labels": [255, 0], "patch": [16, 16, 16],
                "region": [[0, 128], [0, 200], [0, 200]], "spacing": 2e-6}  # fmt: skip
    structures = load_plugin(msvae.Dataset, settings, Source("benchmark", "")).load(0)
    targets = {Component("permeability", (i, i)): value for i, value in enumerate((4e-12, 2e-12, 1e-12))}
    solver = msvae.load_solver("permeability", pores=1)
    vae = trained(structures, 16, 40)
    return Task("T4: permeabilities (4, 2, 1) um^2 of a sandstone", vae, structures, solver, targets, 60, close=0.1)


def stiffness_task() -> Task:
    structures = simulated(count=1000, shape=[16, 16, 16], length=[8e-6, 8e-6], anisotropy=[1.0, 2.5],
                           volume_fraction=[0.15, 0.4])  # fmt: skip
    phases = [{"youngs_modulus": 70e9, "poissons_ratio": 0.33}, {"youngs_modulus": 0.0}]
    solver = msvae.load_solver("elasticity", phases=phases)
    targets = {Component("stiffness", (i, i)): value for i, value in enumerate((58e9, 48e9, 38e9))}
    return Task("3D: stiffnesses (58, 48, 38) GPa", trained(structures, 16, 25), structures, solver, targets, 60)


def composite(task: Task, seed: int, *, allowed: Any = None) -> tuple[Array, Array]:
    def good(latents: Array, structures: Structures) -> Array:
        kept = structures.fractions[:, 1] <= task.most
        return kept if allowed is None else kept & allowed(latents, structures)

    search = CompositeSearch(task.vae, list(task.targets), task.distance, seed=seed, allowed=good)
    return run(task, search.ask, search.tell)


def random(task: Task, seed: int) -> tuple[Array, Array]:
    latents = task.vae.sample_latents(task.budget, seed + 10_000)
    return latents, task.judged(latents, task.solve(latents))


def skopt(task: Task, seed: int) -> tuple[Array, Array]:
    """Scikit-optimize's Gaussian process (gp_hedge, as by default) in the box of the encoded structures.

    What has no answer is told it as the worst that is known.
    """
    from skopt import Optimizer

    encoded = task.vae.encode(task.structures[:1000])
    box = list(zip(encoded.min(axis=0).tolist(), encoded.max(axis=0).tolist(), strict=True))
    optimiser = Optimizer(box, "GP", n_initial_points=FIRST, random_state=seed)
    worst = 1.0

    def ask(n: int) -> Array:
        return np.array(optimiser.ask(n_points=n) if n > 1 else [optimiser.ask()])

    def tell(latents: Array, distances: Array, properties: Mapping[str, Array]) -> None:
        nonlocal worst
        worst = float(np.nanmax([worst, *distances]))
        optimiser.tell(latents.tolist(), np.where(np.isfinite(distances), distances, worst).tolist())

    return run(task, ask, tell)


def run(task: Task, ask: Callable[[int], Array], tell: Callable[..., None]) -> tuple[Array, Array]:
    latents, distances = ask(FIRST), np.zeros(0)
    found = latents
    while True:
        properties = task.solve(latents)
        new = task.judged(latents, properties)
        distances = np.concatenate([distances, new])
        tell(latents, new, properties)
        if len(distances) >= task.budget:
            return found, distances
        latents = ask(1)
        found = np.concatenate([found, latents])


def nearest(distances: Array) -> float:
    """Return the smallest known distance; infinity if there is none."""
    return float(np.min(np.where(np.isfinite(distances), distances, np.inf)))


def calls_to(distances: Array, close: float) -> float:
    met = np.flatnonzero(distances <= close)
    return float(met[0] + 1) if len(met) else np.inf


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
            final[name].append(nearest(distances))
            reached[name].append(calls_to(distances, task.close * np.sqrt(1 if task.loss else len(task.targets))))
            best = int(np.argmin(np.where(np.isfinite(distances), distances, np.inf)))
            chosen = latents[best : best + 1]
            refused[name] += int(not guards.accept(chosen, task.vae.decode(chosen))[0])
    lines = [f"## {task.name}", "", f"{task.budget} solver calls, {seeds} seeds", "",
             f"| | median distance | lowest to highest | median calls to {100 * task.close:g} % | refused by guards "
             "| s a search | p |",
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


def growth(seeds: int) -> list[str]:
    """Return the lines about the calls that latent spaces of several sizes need."""
    lines = [
        "## Growth with the number of latents",
        "",
        f"T1 by composite search, at most 60 calls, {seeds} seeds",
        "",
        "| latents | median calls to 2 % | reached | median distance after 45 |",
        "| --- | --- | --- | --- |",
    ]
    needed = {}
    for latents in (16, 64, 128):
        task = replace(conductivity_task(latents), budget=60)
        guards = Guards.of(task.vae, task.structures)
        found = [composite(task, seed, allowed=guards.accept)[1] for seed in range(seeds)]
        calls = [calls_to(d, task.close * np.sqrt(2)) for d in found]
        needed[latents] = float(np.median(calls))
        lines.append(f"| {latents} | {needed[latents]:g} | {int(np.isfinite(calls).sum())} of {seeds} | "
                     f"{np.median([nearest(d[:45]) for d in found]):.4f} |")  # fmt: skip
    return [*lines, "", f"128 latents need {needed[128] / needed[16]:.2f} times the calls of 16", ""]


def fronts(seeds: int) -> list[str]:
    """Return the lines about the front of two properties: stiffness and conductivity in 3D, as in the example."""
    structures = simulated(count=400, shape=[16, 16, 16], length=[8e-6, 8e-6], anisotropy=[1.0, 3.0])
    elastic = msvae.load_solver(
        "elasticity", phases=[{"youngs_modulus": e, "poissons_ratio": 0.3} for e in (7e10, 1e9)]
    )
    conducting = msvae.load_solver("conductivity", phases=[{"conductivity": k} for k in (1.0, 20.0)])

    def solve(decoded: Structures) -> dict[str, Array]:
        return {**elastic.evaluate(decoded), **conducting.evaluate(decoded)}

    vae, known = trained(structures, 16, 30), solve(structures)
    guards = Guards.of(vae, structures)
    objectives = (Objective("stiffness", "maximum", (0, 0)), Objective("conductivity", "maximum", (0, 0)))
    losses = Losses.of(DesignSettings(objectives=objectives), known)
    reference, calls = losses.reference(known), 100
    areas: dict[str, list[float]] = {"search": [], "random": []}
    warm = Known(vae.encode(structures), structures, known)
    numbers = [objective.of for objective in objectives]
    for seed in range(seeds):
        search = CompositeSearch(vae, numbers, losses.weighed_equally, seed=seed, allowed=guards.accept, known=warm)
        aimed, found = Aimed(search, losses, np.random.default_rng(seed)), []
        for _ in range(calls // 4):
            latents = aimed.ask(4)
            properties = solve(vae.decode(latents))
            found.append(losses(properties))
            aimed.tell(latents, np.zeros(0), properties)
        areas["search"].append(hypervolume(np.concatenate(found), reference))
        drawn = losses(solve(vae.sample(calls, seed + 10_000)))
        areas["random"].append(hypervolume(drawn, reference))
    own, other = (np.array(areas[name]) for name in ("search", "random"))
    ratio = own / other
    return [
        "## Front of stiffness and conductivity, 3D",
        "",
        f"Area dominated after {calls} calls, {seeds} seeds, up to the worst values of the data set's own front, "
        "worsened by a tenth of its range",
        "",
        f"search {np.median(own):.3f}, random samples of the prior {np.median(other):.3f}: "
        f"{np.median(ratio):.2f} times ({ratio.min():.2f} to {ratio.max():.2f})",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("INVERSE_DESIGN.md"))
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = ["# Inverse design with equal numbers of solver calls", ""]
    parts: list[Callable[[], list[str]]] = [
        lambda: fronts(min(asked.seeds, 5)),
        *(lambda make=make: measure(make(), asked.seeds)  # type: ignore[misc]
          for make in (conductivity_task, largest_task, permeability_task, stiffness_task)),
        lambda: growth(asked.seeds),
    ]  # fmt: skip
    for part in parts:
        lines += part()
        asked.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
