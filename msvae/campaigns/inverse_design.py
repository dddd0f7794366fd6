"""Inverse design: find a structure whose solver-verified properties meet a target, with few solver calls.

Label the data set, train a property-predicting VAE, then search its latent space: ask for a batch of latents, decode
and evaluate them on the ranks, tell the searcher, retrain the head on what was found, and stop when a design is
within tolerance or the budget is spent. Only what the solver said counts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from msvae.campaigns import pareto
from msvae.campaigns.context import Context, Table, torch_threads
from msvae.campaigns.judge import Judge, distance_from, misses
from msvae.campaigns.train import trained, training_structures
from msvae.dispatch.tasks import Task
from msvae.errors import TargetError
from msvae.evaluations import Evaluations, joined
from msvae.progress import stage_progress
from msvae.sampling.composite import CompositeSearch, Known
from msvae.sampling.search import GaussianProcessSearch, RandomSearch, Searcher, descents
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
            n, stage = len(self.table), self.stage
            if self.table.done.any():
                raise TargetError(f"none of the {n} designs of '{stage}' passes the guards: see searches.json")
            raise TargetError(f"all {n} evaluations of '{stage}' failed; the first: {self.table['message'][0]}")
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
    judge = Judge.of(context, vae, structures)
    if design.objectives:
        return pareto.run(context, structures, judge)
    searches = [_search(context, structures, judge, repeat=k) for k in range(design.repeats)]
    controls = [_control(context, judge, repeat=k) for k in range(design.repeats)] if design.control_budget else []
    best = min(searches, key=lambda s: s.nearest)
    _save(context, judge, searches, controls)
    table = _summary(structures, design, searches, controls)
    return replace(table, notes=(*table.notes, *_refined(context, vae, best))) if design.refine else table


def nearest(distances: Array) -> float:
    """Return the smallest of distances that may be unknown (NaN): infinity if all are."""
    return float(np.min(np.where(np.isnan(distances), np.inf, distances), initial=np.inf))


def _torch_distance(targets: tuple[Target, ...], properties: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the root mean square of the same distances, which is smooth."""

    def part(target: Target) -> torch.Tensor:
        index: tuple[Any, ...] = (slice(None), *target.component)
        values, (low, high) = properties[target.property][index], target.ends
        return torch.maximum(low - values, values - high).clamp_min(0) / (target.tolerance * target.scale)

    parts = [part(t) for t in targets]
    return (torch.stack(parts).square().mean(dim=0) + 1e-12).sqrt()


def _check_targets(structures: Structures, design: DesignSettings) -> None:
    for component in design.numbers:
        component_values(structures.properties, component)


def _search(context: Context, structures: Structures, judge: Judge, *, repeat: int) -> Search:
    """Run one search of the study's searcher, or read it from the store as far as it was made."""
    design = judge.design
    stage, seed = f"search-{repeat}", seed_of(context.study.seed, "search", repeat)
    if design.searcher == "random":
        return _loop(context, RandomSearch(judge.vae, seed), stage, judge, learner=None)
    learner = Learner.of(copy.deepcopy(judge.vae), structures, seed=seed)
    with torch_threads(context.study.executor.threads):
        searcher = _searcher(design, learner, judge, seed)
        return _loop(context, searcher, stage, judge, learner=learner)


def _searcher(design: DesignSettings, learner: Learner, judge: Judge, seed: int) -> Searcher:
    """Return the study's searcher, which starts from what is known of the data set."""
    smooth = partial(_torch_distance, design.targets)
    if design.searcher == "composite":
        return CompositeSearch(
            learner.vae,
            [t.of for t in design.targets],
            partial(distance_from, design.targets),
            seed=seed,
            known=Known(learner.latents, learner.structures, learner.properties),
            expected=learner.vae.predict,
            more=lambda n, k: descents(learner.vae, smooth, learner.latents, n, seed_of(seed, k)),
            allowed=judge.allowed,
        )
    known = distance_from(design.targets, learner.properties)
    return GaussianProcessSearch(learner.vae, smooth, encoded=learner.latents, known=known, seed=seed)


def _control(context: Context, judge: Judge, *, repeat: int) -> Search:
    """Run the random control of a repeat."""
    searcher = RandomSearch(context.run.model, seed_of(context.study.seed, "control", repeat))
    return _loop(context, searcher, f"control-{repeat}", judge, learner=None)


def _loop(context: Context, searcher: Searcher, stage: str, judge: Judge, *, learner: Learner | None) -> Search:
    """Ask, evaluate, tell, until the target is met or the budget spent."""
    design = judge.design
    budget = design.control_budget if stage.startswith("control") else design.budget
    found: list[Array] = []
    tables: list[Evaluations] = []
    calls, rounds = 0, 0
    with stage_progress(stage) as report:
        while calls < budget and not any((d <= 1).any() for d in found):
            context.limits.check()
            latents = searcher.ask(min(design.batch, budget - calls))
            tasks = [Task(calls + k, z) for k, z in enumerate(latents)]
            table = context.evaluate(stage, tasks, with_model=True)
            tables.append(table)
            found.append(judge.distances(table))
            calls, rounds = calls + len(tasks), rounds + 1
            searcher.tell(table.latents, distance_from(design.targets, table.properties), table.properties)
            if learner is not None and rounds % design.retrain_every == 0:
                learner.retrain(tables)
            report(calls, budget, f"nearest design at {min(map(nearest, found)):.2f} tolerances")
    distances = np.concatenate(found)
    met = np.flatnonzero(distances <= 1)
    return Search(stage, joined(tables), distances, int(met[0]) + 1 if len(met) else None)


@dataclass(eq=False)
class Learner:
    """The head of one search, and what it learns from: encoded structures and verified designs."""

    vae: VAE
    structures: Structures
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
        return cls(vae, chosen, vae.encode(chosen), {n: np.array(chosen.properties[n]) for n in names}, seed)

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


def _save(context: Context, judge: Judge, searches: list[Search], controls: list[Search]) -> None:
    """Write the course of every search, with what the guards say, and the best design into the run."""
    course = [
        {
            "stage": s.stage,
            "calls": s.calls,
            "distances": [None if np.isnan(d) else float(d) for d in s.distances],
            "guards": judge.log(s.table),
        }
        for s in [*searches, *controls]
    ]
    context.run.write_json("searches.json", course)
    best = min(searches, key=lambda s: s.nearest)
    row = best.best
    structure = judge.vae.decode(best.table.latents[row : row + 1])
    quantities = context.study.need_solver().quantities(structure.specification)
    properties = {q.name: best.table.properties[q.name][row : row + 1] for q in quantities}
    context.run.save_structures(structure.with_properties(properties, quantities), "best_design.h5")


def _summary(structures: Structures, design: DesignSettings, searches: list[Search], controls: list[Search]) -> Table:
    known_best = int(np.nanargmin(distance_from(design.targets, structures.properties)))
    best = min(searches, key=lambda s: s.nearest)
    known = {q.name: q for q in structures.quantities}
    columns = ("", *(f"{t.of} ({known[t.property].unit})" for t in design.targets), "largest error", "solver calls")
    tolerances = "within " + "/".join(f"{100 * t.tolerance:g} %" for t in design.targets)
    blank = ("",) * len(design.targets)
    rows = [
        ("target", *(t.text for t in design.targets), tolerances, ""),
        ("best training structure", *_found(design, structures.properties, known_best), ""),
        ("best designed structure", *_found(design, best.table.properties, best.best), _calls(best, design.budget)),
        (f"search, median of {len(searches)}", *blank, "", _median(searches, design.budget)),
    ]
    if controls:
        title = f"random samples of the prior, median of {len(controls)}"
        rows.append((title, *blank, "", _median(controls, design.control_budget)))
    return Table("Inverse design", columns, tuple(rows), (_verdict(best.nearest),))


def _refined(context: Context, vae: VAE, best: Search) -> tuple[str, ...]:
    """Return in words what the best design has with twice the voxels along every axis."""
    design, row = context.study.design, best.best
    assert design is not None
    structure = vae.decode(best.table.latents[row : row + 1])
    values, grid = structure.values, structure.specification.grid
    for axis in range(grid.dimensions):
        values = np.repeat(values, 2, axis=axis + 2)
    finer = replace(grid, shape=values.shape[2:], spacing=tuple(h / 2 for h in grid.spacing))
    table = context.solve("refined", Structures(values, replace(structure.specification, grid=finer)))
    if not table.done.all():
        return (f"with twice the voxels the solver has no answer: {table['message'][0]}",)
    changes = []
    for target in design.targets:
        before = float(component_values(best.table.properties, target.of)[row])
        after = float(component_values(table.properties, target.of)[0])
        changes.append(f"{target.of} {100 * (after / before - 1):+.2g} %")
    return (f"with twice the voxels along every axis: {', '.join(changes)}",)


def _verdict(distance: float) -> str:
    """Return in words whether a verified design at this distance, in tolerances, meets the target."""
    if distance <= 1:
        return "the design is verified by the solver"
    return f"the target was not met: the nearest verified design is {distance:.2f} tolerances away"


def _found(design: DesignSettings, properties: Mapping[str, Array], row: int) -> tuple[str, ...]:
    """Return the targeted numbers of one structure, and the largest error among them."""
    values = [float(component_values(properties, t.of)[row]) for t in design.targets]
    error = max(float(misses(t, np.array(v))) * t.tolerance for v, t in zip(values, design.targets, strict=True))
    return (*(f"{v:.5g}" for v in values), f"{100 * error:.2f} %")


def _calls(search: Search, budget: int) -> str:
    return f"> {budget}" if search.calls is None else str(search.calls)


def _median(searches: list[Search], budget: int) -> str:
    """Return the median number of calls; a search that did not meet the target counts as more than its budget."""
    median = float(np.median([np.inf if s.calls is None else s.calls for s in searches]))
    return f"{median:g}" if np.isfinite(median) else f"> {budget}"
