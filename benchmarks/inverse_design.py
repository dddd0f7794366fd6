"""Inverse design: composite search against scikit-optimize and random samples of the prior, equal budgets.

    make bench

Each task with seeds that all methods share; distance: root of the summed squares of the relative errors, or what a task
says. The first 20 calls of a search are samples. After the budget the controls go on, to see how many calls they need
to come as near: random samples up to 2,000, scikit-optimize twice as many as composite search. The best design of each
search is held against the guards. Tables are written to benchmarks/INVERSE_DESIGN.md, with the curves beside it.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from inverse_tasks import Task, conductivity_task, largest_task, permeability_task, stiffness_task
from matplotlib.figure import Figure
from models import simulated, trained
from scipy import stats

import msvae
from msvae.campaigns.design.campaign import InverseDesign
from msvae.campaigns.design.pareto import Losses
from msvae.metrics.pareto import hypervolume
from msvae.sampling.search.aims import Objective
from msvae.sampling.search.effort import Effort
from msvae.sampling.search.guards import Guards
from msvae.sampling.search.problem import AskTell, Known
from msvae.sampling.search.searchers.composite import CompositeSearch
from msvae.sampling.search.searchers.front import Aimed
from msvae.sampling.search.searchers.plain import PlainSearch
from msvae.structures import Array, Structures

FIRST, MANY = 20, 2000  # calls before anything is modelled; of random samples
BAND = (25, 75)  # percentiles
RANDOM, PEER, OWN = "random samples of the prior", "scikit-optimize, latent box", "composite"


class Found(NamedTuple):
    """What a search asked: latents (calls, c), their distances (calls,); thought: median s of processor a question."""

    latents: Array
    distances: Array
    thought: float = 0.0


def composite(task: Task, seed: int, *, allowed: Any = None) -> Found:
    def good(latents: Array, structures: Structures) -> Array:
        kept = structures.fractions[:, 1] <= task.most
        return kept if allowed is None else kept & allowed(latents, structures)

    search = CompositeSearch(task.vae, list(task.targets), task.distance, seed=seed, allowed=good)
    return run(task, task.budget, search.ask, search.tell)


def random(task: Task, seed: int, calls: int) -> Found:
    latents = task.vae.sample_latents(calls, seed + 10_000)
    return Found(latents, task.judged(latents, task.solve(latents)))


def skopt(task: Task, seed: int, calls: int) -> Found:
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

    return run(task, calls, ask, tell)


def run(task: Task, calls: int, ask: Callable[[int], Array], tell: Callable[..., None]) -> Found:
    found: list[Array] = []
    distances, thought = np.zeros(0), []
    while len(distances) < calls:
        start = time.process_time()
        latents = ask(1 if len(found) else FIRST)
        asked = time.process_time()
        properties = task.solve(latents)
        new = task.judged(latents, properties)
        found.append(latents)
        distances = np.concatenate([distances, new])
        solved = time.process_time()
        tell(latents, new, properties)
        thought.append(asked - start + time.process_time() - solved)
    return Found(np.concatenate(found), distances, float(np.median(thought)))


def nearest(distances: Array) -> Array:
    """Return the smallest distance so far (n,) of distances (n,); infinity before one is known."""
    return np.asarray(np.fmin.accumulate(np.where(np.isfinite(distances), distances, np.inf)))


def calls_to(distances: Array, close: float) -> float:
    met = np.flatnonzero(distances <= close)
    return float(met[0] + 1) if len(met) else np.inf


def measured(task: Task, seeds: int, picture: Path) -> list[str]:
    """Return the lines of a task's table, and draw the courses of every method's nearest distance."""
    guards = Guards.of(task.vae, task.structures)
    close = task.close * np.sqrt(1 if task.loss else len(task.targets))
    searched: dict[str, list[Found]] = {}
    seconds, calls = {}, {OWN: task.budget}

    def repeat(name: str, method: Callable[[int], Found]) -> None:
        start = time.perf_counter()
        searched[name] = [method(seed) for seed in range(seeds)]
        seconds[name] = (time.perf_counter() - start) / seeds

    repeat(OWN, lambda seed: composite(task, seed, allowed=guards.accept))
    needed = float(np.median([calls_to(d, close) for _, d, _ in searched[OWN]]))
    calls[PEER] = max(task.budget, int(2 * needed) if np.isfinite(needed) else 0)
    calls[RANDOM] = MANY
    repeat(PEER, lambda seed: skopt(task, seed, calls[PEER]))
    repeat(RANDOM, lambda seed: random(task, seed, calls[RANDOM]))

    courses = {
        name: np.array([nearest(d[: task.budget]) for _, d, _ in searched[name]]) for name in (RANDOM, PEER, OWN)
    }
    lines = [f"## {task.name}", "", f"{task.budget} solver calls, {seeds} seeds", "",
             f"| | median distance | lowest to highest | median calls to {100 * task.close:g} % | refused by guards "
             "| s a search | thought, s a question | p |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    own = courses[OWN][:, -1]
    for name, course in courses.items():
        final = course[:, -1]
        p = "" if name == OWN else f"{stats.wilcoxon(final, own).pvalue:.2g}"
        reached = float(np.median([calls_to(d, close) for _, d, _ in searched[name]]))
        thought = f"{np.median([found.thought for found in searched[name]]):.2f}"
        refused = sum(_refused(task, guards, latents, d[: task.budget]) for latents, d, _ in searched[name])
        cells = (name, f"{np.median(final):.4f}", f"{final.min():.4f} to {final.max():.4f}",
                 _number(reached, calls[name]), f"{refused} of {seeds}", f"{seconds[name]:.1f}", thought,
                 p)  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    ratios = [f"{np.median(courses[name][:, -1]) / np.median(own):.1f} times below {name}" for name in (RANDOM, PEER)]
    text = f"composite: {', '.join(ratios)}; p: Wilcoxon's signed-rank test against it"
    draw(courses, picture)
    return [*lines, "", text, "", f"![Nearest distance so far, medians and bands of half the seeds]({picture.name})"]


def _refused(task: Task, guards: Guards, latents: Array, distances: Array) -> bool:
    best = int(np.argmin(np.where(np.isfinite(distances), distances, np.inf)))
    chosen = latents[best : best + 1]
    return not guards.accept(chosen, task.vae.decode(chosen))[0]


def _number(calls: float, most: int) -> str:
    return f"{calls:g}" if np.isfinite(calls) else f"more than {most}"


def draw(courses: Mapping[str, Array], path: Path) -> None:
    """Draw the nearest distance so far (seeds, calls) over the calls: medians, and bands of half the seeds."""
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axis = figure.subplots()
    for colour, (name, course) in enumerate(courses.items()):
        calls = np.arange(1, course.shape[1] + 1)
        low, middle, high = np.percentile(course, [BAND[0], 50, BAND[1]], axis=0, method="nearest")
        axis.step(calls, middle, where="post", color=f"C{colour}", label=name)
        axis.fill_between(calls, low, high, step="post", color=f"C{colour}", alpha=0.25, lw=0)
    axis.set(yscale="log", xlabel="solver calls", ylabel="distance (1)")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)


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
                     f"{np.median([nearest(d[:45])[-1] for d in found]):.4f} |")  # fmt: skip
    return [*lines, "", f"128 latents need {needed[128] / needed[16]:.2f} times the calls of 16", ""]


def cheapest(seeds: int) -> list[str]:
    """Return the lines about T3: conductivity as large, and the conductor's fraction as small, as possible."""
    task, calls, exhaustive = conductivity_task(), 80, 4000
    objectives = (Objective("conductivity", "maximum", (0, 0)), Objective("fraction", "minimum", (1,)))
    guards = Guards.of(task.vae, task.structures)

    def solve(latents: Array) -> dict[str, Array]:
        decoded = task.vae.decode(latents)
        return {**task.solver.evaluate(decoded), "fraction": decoded.fractions}

    drawn = task.vae.sample_latents(exhaustive, 99)
    everything = solve(drawn[guards.accept(drawn, task.vae.decode(drawn))])
    losses = Losses.of(InverseDesign(objectives=objectives), everything)
    reference = losses.reference(everything)
    whole = hypervolume(losses(everything), reference)
    shares: dict[str, list[float]] = {"search": [], "random samples of the prior": []}
    for seed in range(seeds):
        search = CompositeSearch(
            task.vae, [o.of for o in objectives], losses.weighed_equally, seed=seed, allowed=guards.accept
        )
        found = _front(search, losses, solve, calls, seed)
        shares["search"].append(hypervolume(found, reference) / whole)
        others = losses(solve(task.vae.sample_latents(calls, seed + 10_000)))
        shares["random samples of the prior"].append(hypervolume(others, reference) / whole)
    lines = ["## T3: largest conductivity (x) with the least of the conductor", "",
             f"Area dominated after {calls} calls over that of {exhaustive} samples of the prior within the guards, "
             f"{seeds} seeds, no labels before", ""]  # fmt: skip
    text = (f"{name} {np.median(v):.3f} ({min(v):.3f} to {max(v):.3f})" for name, v in shares.items())
    return [*lines, ", ".join(text), ""]


def _front(search: CompositeSearch, losses: Losses, solve: Callable[[Array], Any], calls: int, seed: int) -> Array:
    """Return the losses (calls, 2) of what is asked, four at a time, aiming at another weighing each time."""
    aimed, found = Aimed(search, losses, np.random.default_rng(seed)), []
    for _ in range(calls // 4):
        latents = aimed.ask(4)
        properties = solve(latents)
        found.append(losses(properties))
        aimed.tell(latents, np.zeros(0), properties)
    return np.concatenate(found)


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
    losses = Losses.of(InverseDesign(objectives=objectives), known)
    reference, calls = losses.reference(known), 100
    areas: dict[str, list[float]] = {"search": [], "random": []}
    warm = Known(vae.encode(structures), structures, known)
    numbers = [objective.of for objective in objectives]
    for seed in range(seeds):
        search = CompositeSearch(vae, numbers, losses.weighed_equally, seed=seed, allowed=guards.accept, known=warm)
        found = _front(search, losses, lambda z: solve(vae.decode(z)), calls, seed)
        areas["search"].append(hypervolume(found, reference))
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


def paced(task: Task, seed: int, seconds: float, allowed: Any) -> float:
    """Return the wall time in s in which a search comes near, of a solver whose calls are taken to last so long.

    Questions and decoding are measured in processor time; the solver's own time is replaced.
    """
    thought = Effort(seconds)

    def model_based() -> CompositeSearch:
        return CompositeSearch(task.vae, list(task.targets), task.distance, seed=seed, allowed=allowed, thought=thought)

    start, calls, found = time.process_time(), 0, np.inf
    targets, plain = list(task.targets), thought.plain
    search: AskTell = (
        PlainSearch(task.vae, targets, task.distance, other=model_based, plain=plain, seed=seed)
        if plain
        else model_based()
    )
    elapsed = time.process_time() - start
    while found > task.close * np.sqrt(len(task.targets)) and calls < 3 * MANY:
        start = time.process_time()
        latents = search.ask(1)
        decoded = task.vae.decode(latents)
        elapsed += time.process_time() - start
        properties = task.solver.evaluate(decoded)
        distances = task.distance(properties)
        start = time.process_time()
        search.tell(latents, distances, properties)
        elapsed += time.process_time() - start
        calls += len(latents)
        near = int(np.argmin(distances))
        if distances[near] < found and allowed(latents[near : near + 1], decoded[[near]])[0]:
            found = float(distances[near])
    return elapsed + calls * seconds if np.isfinite(found) else np.inf


def wall(seeds: int) -> list[str]:
    """Return the lines about wall time to 2 %, of search and of random samples, by what a call of the solver costs."""
    task = conductivity_task()
    guards, close = Guards.of(task.vae, task.structures), task.close * np.sqrt(len(task.targets))
    start, drawn = time.process_time(), [random(task, seed, 3 * MANY) for seed in range(seeds)]
    each = (time.process_time() - start) / (3 * MANY * seeds)  # s of decoding and solving, of which solving is little
    calls = []
    for latents, distances, _ in drawn:
        near = np.flatnonzero(distances <= close)
        met = near[guards.accept(latents[near], task.vae.decode(latents[near]))] if len(near) else near
        calls.append(float(met[0] + 1) if len(met) else np.inf)
    lines = ["## Wall: time to 2 % by the cost of a call", "",
             f"T1, {seeds} seeds, medians in s on one worker; thought and decoding are measured, calls are taken to "
             "last as long as it says", "", "| s a call | search | random samples of the prior | times faster |",
             "| --- | --- | --- | --- |"]  # fmt: skip
    for seconds in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0):
        own = float(np.median([paced(task, seed, seconds, guards.accept) for seed in range(seeds)]))
        other = float(np.median(calls)) * (seconds + each)
        lines.append(f"| {seconds:g} | {own:.3g} | {other:.3g} | {other / own:.1f} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("INVERSE_DESIGN.md"))
    parser.add_argument("--only", nargs="+", help="sections to measure anew, the others stay as they are")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    folder, n = asked.output.parent, asked.seeds
    sections: dict[str, Callable[[], list[str]]] = {
        "T1": lambda: measured(conductivity_task(), 2 * n, folder / "inverse_design_T1.png"),
        "T2": lambda: measured(largest_task(), n, folder / "inverse_design_T2.png"),
        "T3": lambda: cheapest(n),
        "T4": lambda: measured(permeability_task(), n, folder / "inverse_design_T4.png"),
        "3D": lambda: measured(stiffness_task(), n, folder / "inverse_design_3D.png"),
        "Front": lambda: fronts(min(n, 5)),
        "Wall": lambda: wall(min(n, 5)),
        "Growth": lambda: growth(min(n, 5)),
    }
    for name in asked.only or sections:
        lines = sections[name]()
        known = _sections(asked.output)  # another process may have written since
        known[name] = "\n".join(lines).strip()
        text = [known[k] for k in sections if k in known]
        asked.output.write_text("\n\n".join(["# Inverse design with equal numbers of solver calls", *text]) + "\n")


def _sections(path: Path) -> dict[str, str]:
    """Return the sections of a report by the first word of their titles."""
    parts = path.read_text().split("\n## ")[1:] if path.exists() else []
    return {part.split()[0].rstrip(":"): f"## {part.strip()}" for part in parts}


if __name__ == "__main__":
    main()
