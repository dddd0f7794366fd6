"""Inverse design: find a structure whose solver-verified properties meet a target, with few solver calls.

Label the data set, train a property-predicting VAE, then search its latent space: ask for a batch of latents, decode
and evaluate them on the ranks, tell the searcher, retrain the head on what was found, and stop when a design is
within tolerance or the budget is spent. Only what the solver said counts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from msvae.campaigns.context import Context, Table, torch_threads
from msvae.campaigns.train import trained, training_structures
from msvae.dispatch.tasks import Task
from msvae.errors import TargetError
from msvae.evaluations import Evaluations
from msvae.progress import Report, stage_progress
from msvae.sampling.search import GaussianProcessSearch, RandomSearch, Searcher
from msvae.seeds import seed_of
from msvae.settings import DesignSettings, Target
from msvae.structures import Array, Structures
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE
from msvae.vae.training import refit_heads

__all__ = ["Search", "distance_from", "run"]


@dataclass(frozen=True, eq=False)
class Search:
    """One search: its evaluations in order, their distances, and after how many calls the target was met (or None)."""

    stage: str
    table: Evaluations
    distances: Array
    calls: int | None

    @property
    def best(self) -> int:
        """Row of the nearest verified design; TargetError if the solver verified none."""
        if not np.isfinite(self.distances).any():
            raise TargetError(f"all {len(self.table)} evaluations of '{self.stage}' failed; the first: "
                              f"{self.table['message'][0]}")  # fmt: skip
        return int(np.nanargmin(self.distances))

    @property
    def nearest(self) -> float:
        """Distance of the nearest verified design; infinite if there is none."""
        return nearest(self.distances)


def run(context: Context) -> Table:
    """Return the table of target, best training structure, best designs, and solver calls."""
    design = context.study.design
    assert design is not None
    structures = training_structures(context)
    _check_targets(structures, design)
    vae = trained(context, structures)
    searches = [_search(context, structures, vae, repeat=k) for k in range(design.repeats)]
    controls = [_control(context, repeat=k) for k in range(design.repeats)] if design.control_budget else []
    best = min(searches, key=lambda s: s.nearest)
    _save(context, vae, searches, controls, best)
    return _summary(structures, design, searches, controls)


def nearest(distances: Array) -> float:
    """Return the smallest of distances that may be unknown (NaN): infinity if all are."""
    return float(np.min(np.where(np.isnan(distances), np.inf, distances), initial=np.inf))


def distance_from(targets: tuple[Target, ...], properties: Mapping[str, Any]) -> Array:
    """Return the largest distance (n,) of properties from their targets, in units of each one's tolerance.

    A design meets the target where this is at most 1; NaN where a property is unknown.
    """
    parts = [np.abs(component_values(properties, t.of) - t.value) / (t.tolerance * _size(t)) for t in targets]
    return np.asarray(np.max(parts, axis=0))


def _torch_distance(targets: tuple[Target, ...], properties: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the root mean square of the same distances, which is smooth."""

    def part(target: Target) -> torch.Tensor:
        index: tuple[Any, ...] = (slice(None), *target.component)
        return (properties[target.property][index] - target.value) / (target.tolerance * _size(target))

    parts = [part(t) for t in targets]
    return torch.stack(parts).square().mean(dim=0).sqrt()


def _size(target: Target) -> float:
    return abs(target.value) or 1.0


def _check_targets(structures: Structures, design: DesignSettings) -> None:
    for target in design.targets:
        component_values(structures.properties, target.of)


def _search(context: Context, structures: Structures, vae: VAE, *, repeat: int) -> Search:
    """Run one search of the study's searcher, or read it from the store as far as it was made."""
    design = context.study.design
    assert design is not None
    stage, seed = f"search-{repeat}", seed_of(context.study.seed, "search", repeat)
    if design.searcher == "random":
        return _loop(context, RandomSearch(vae, seed), stage, design.budget, learner=None)
    learner = Learner.of(copy.deepcopy(vae), structures, seed=seed)
    known = distance_from(design.targets, learner.properties)
    searcher = GaussianProcessSearch(
        learner.vae, lambda p: _torch_distance(design.targets, p), encoded=learner.latents, known=known, seed=seed
    )
    with torch_threads(context.study.executor.threads):
        return _loop(context, searcher, stage, design.budget, learner=learner)


def _control(context: Context, *, repeat: int) -> Search:
    """Run the random control of a repeat."""
    design = context.study.design
    assert design is not None
    searcher = RandomSearch(context.run.model, seed_of(context.study.seed, "control", repeat))
    return _loop(context, searcher, f"control-{repeat}", design.control_budget, learner=None)


def _loop(context: Context, searcher: Searcher, stage: str, budget: int, *, learner: Learner | None) -> Search:
    """Ask, evaluate, tell, until the target is met or the budget spent."""
    design = context.study.design
    assert design is not None
    tables: list[Evaluations] = []
    calls, rounds = 0, 0
    with stage_progress(stage) as report:
        while calls < budget and not _met(tables, design):
            context.limits.check()
            latents = searcher.ask(min(design.batch, budget - calls))
            tasks = [Task(calls + k, z) for k, z in enumerate(latents)]
            table = context.evaluate(stage, tasks, with_model=True)
            tables.append(table)
            calls, rounds = calls + len(tasks), rounds + 1
            searcher.tell(table.latents, distance_from(design.targets, table.properties), table.properties)
            if learner is not None and rounds % design.retrain_every == 0:
                learner.retrain(tables)
            _report(report, tables, design, calls, budget)
    whole = context.run.store(stage).load()
    distances = distance_from(design.targets, whole.properties)
    met = np.flatnonzero(distances <= 1)
    return Search(stage, whole, distances, int(met[0]) + 1 if len(met) else None)


def _met(tables: list[Evaluations], design: DesignSettings) -> bool:
    return any((distance_from(design.targets, t.properties) <= 1).any() for t in tables)


def _report(report: Report, tables: list[Evaluations], design: DesignSettings, calls: int, budget: int) -> None:
    best = min(nearest(distance_from(design.targets, t.properties)) for t in tables)
    report(calls, budget, f"nearest design at {best:.2f} tolerances")


@dataclass(eq=False)
class Learner:
    """The head of one search, and what it learns from: encoded structures and verified designs."""

    vae: VAE
    latents: Array
    properties: dict[str, Array]
    seed: int

    @classmethod
    def of(cls, vae: VAE, structures: Structures, *, seed: int) -> Learner:
        """Return a learner that starts from the labelled structures."""
        names = list(vae.heads)
        known = np.all(
            [np.isfinite(structures.properties[n]).reshape(len(structures), -1).all(axis=1) for n in names], axis=0
        )
        chosen = structures[np.flatnonzero(known)]
        return cls(vae, vae.encode(chosen), {n: np.array(chosen.properties[n]) for n in names}, seed)

    def retrain(self, tables: list[Evaluations]) -> None:
        """Fit the heads to the structures and to the designs, which count more: they are where the search is."""
        found = [t.where(t.done) for t in tables]
        latents = np.concatenate([self.latents, *(t.latents for t in found)])
        properties = {n: np.concatenate([a, *(t.properties[n] for t in found)]) for n, a in self.properties.items()}
        new = len(latents) - len(self.latents)
        weights = np.concatenate(
            [np.ones(len(self.latents)), np.full(new, max(1.0, len(self.latents) / max(2 * new, 1)))]
        )
        refit_heads(self.vae, latents, properties, seed=self.seed, weights=weights)


def _save(context: Context, vae: VAE, searches: list[Search], controls: list[Search], best: Search) -> None:
    """Write the best design and the course of every search into the run."""
    row = best.best
    solver = context.study.need_solver()
    structure = vae.decode(best.table.latents[row : row + 1])
    quantities = solver.quantities(structure.specification)
    properties = {q.name: best.table.properties[q.name][row : row + 1] for q in quantities}
    context.run.save_structures(structure.with_properties(properties, quantities), "best_design.h5")
    course = [
        {"stage": s.stage, "calls": s.calls, "distances": [None if np.isnan(d) else float(d) for d in s.distances]}
        for s in [*searches, *controls]
    ]
    context.run.write_json("searches.json", course)


def _summary(structures: Structures, design: DesignSettings, searches: list[Search], controls: list[Search]) -> Table:
    known_best = int(np.nanargmin(distance_from(design.targets, structures.properties)))
    best = min(searches, key=lambda s: s.nearest)
    known = {q.name: q for q in structures.quantities}
    columns = ("", *(f"{t.of} ({known[t.property].unit})" for t in design.targets), "largest error", "solver calls")
    tolerances = "within " + "/".join(f"{100 * t.tolerance:g} %" for t in design.targets)
    blank = ("",) * len(design.targets)
    rows = [
        ("target", *(f"{t.value:.5g}" for t in design.targets), tolerances, ""),
        ("best training structure", *_found(design, structures.properties, known_best), ""),
        ("best designed structure", *_found(design, best.table.properties, best.best), _calls(best, design.budget)),
        (f"search, median of {len(searches)}", *blank, "", _median(searches, design.budget)),
    ]
    if controls:
        title = f"random samples of the prior, median of {len(controls)}"
        rows.append((title, *blank, "", _median(controls, design.control_budget)))
    return Table("Inverse design", columns, tuple(rows), (_verdict(best.nearest),))


def _verdict(distance: float) -> str:
    """Return in words whether a verified design at this distance, in tolerances, meets the target."""
    if distance <= 1:
        return "the design is verified by the solver"
    return f"the target was not met: the nearest verified design is {distance:.2f} tolerances away"


def _found(design: DesignSettings, properties: Mapping[str, Array], row: int) -> tuple[str, ...]:
    """Return the targeted numbers of one structure, and the largest error among them."""
    values = [float(component_values(properties, t.of)[row]) for t in design.targets]
    error = max(abs(v - t.value) / _size(t) for v, t in zip(values, design.targets, strict=True))
    return (*(f"{v:.5g}" for v in values), f"{100 * error:.2f} %")


def _calls(search: Search, budget: int) -> str:
    return f"> {budget}" if search.calls is None else str(search.calls)


def _median(searches: list[Search], budget: int) -> str:
    """Return the median number of calls; a search that did not meet the target counts as more than its budget."""
    median = float(np.median([np.inf if s.calls is None else s.calls for s in searches]))
    return f"{median:g}" if np.isfinite(median) else f"> {budget}"
