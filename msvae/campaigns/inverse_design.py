"""Inverse design: find a structure whose solver-verified properties meet a target, with few solver calls.

Label the data set, train a property-predicting VAE, then search its latent space: ask for a batch of latents, decode
and evaluate them on the ranks, tell the searcher, retrain the head on what was found, and stop when a design is
within tolerance or the budget is spent. Only what the solver said counts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from msvae.campaigns import pareto
from msvae.campaigns.context import Context, Table, torch_threads
from msvae.campaigns.earlier import with_earlier
from msvae.campaigns.interpretation import interpret
from msvae.campaigns.judge import Judge, distance_from, misses, numbers_of
from msvae.campaigns.questions import Conversation
from msvae.campaigns.searchers import Learner, searcher_of
from msvae.campaigns.train import trained, training_structures
from msvae.design_settings import in_words
from msvae.errors import TargetError
from msvae.evaluations import Evaluations, joined
from msvae.sampling.search import RandomSearch, Searcher
from msvae.seeds import seed_of
from msvae.settings import Condition, DesignSettings
from msvae.structures import Array, Structures
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE

__all__ = ["Search", "distance_from", "run"]


@dataclass(frozen=True, eq=False)
class Search:
    """One search: its evaluations in order, their distances, and after how many calls the target was met (or None).

    price: solver calls that each of the evaluations cost.
    """

    stage: str
    table: Evaluations
    distances: Array
    calls: int | None
    price: int = 1

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
    vae.asked = _conditions(context.study.model.conditions, design)
    judge = Judge.of(context, vae, structures)
    structures = with_earlier(context, structures)
    if design.objectives:
        return pareto.run(context, structures, judge)
    searches = [_search(context, structures, judge, repeat=k) for k in range(design.repeats)]
    controls = [_control(context, judge, repeat=k) for k in range(design.repeats)] if design.control_budget else []
    best = min(searches, key=lambda s: s.nearest)
    _save(context, judge, searches, controls)
    table = _summary(structures, design, searches, controls)
    notes = [*table.notes]
    if design.refine:
        notes += _refined(context, vae, best)
    if design.interpret:
        latents = best.table.latents[best.best : best.best + 1]
        notes += interpret(context, judge, latents, vae.encode(context.run.labelled))
    return replace(table, notes=tuple(notes))


def nearest(distances: Array) -> float:
    """Return the smallest of distances that may be unknown (NaN): infinity if all are."""
    return float(np.min(np.where(np.isnan(distances), np.inf, distances), initial=np.inf))


def _check_targets(structures: Structures, design: DesignSettings) -> None:
    for component in design.numbers:
        component_values(structures.properties, component)


def _conditions(conditions: tuple[Condition, ...], design: DesignSettings) -> Array:
    """Return what the targets ask for of each condition (k,)."""
    asked = {(t.property, t.component): t.value for t in design.targets}
    return np.array([asked[c.property, c.component] for c in conditions], dtype=np.float64)


def _search(context: Context, structures: Structures, judge: Judge, *, repeat: int) -> Search:
    """Run one search of the study's searcher, or read it from the store as far as it was made."""
    design = judge.design
    stage, seed = f"search-{repeat}", seed_of(context.study.seed, "search", repeat)
    if design.searcher in ("random", "conditional"):
        return _held(context, RandomSearch(judge.vae, seed), stage, judge, None)
    wanted = {target.property for target in design.targets}
    learner = Learner.of(copy.deepcopy(judge.vae), structures, wanted, seed=seed)
    with torch_threads(context.study.executor.threads):
        return _held(context, searcher_of(context.study.need_solver(), learner, judge, seed), stage, judge, learner)


def _control(context: Context, judge: Judge, *, repeat: int) -> Search:
    """Run the random control of a repeat."""
    searcher = RandomSearch(judge.vae, seed_of(context.study.seed, "control", repeat))
    return _held(context, searcher, f"control-{repeat}", judge, None)


def _held(context: Context, searcher: Searcher, stage: str, judge: Judge, learner: Learner | None) -> Search:
    """Ask, evaluate, tell, until the target is met or the budget spent."""
    design = judge.design
    found: list[Array] = []
    unread: list[Evaluations] = []

    def told(table: Evaluations) -> None:
        found.append(judge.distances(table))
        searcher.tell(table.latents, distance_from(design.targets, table.properties), table.properties)
        unread.append(table)
        if learner is not None and sum(map(len, unread)) >= design.retrain_every * design.batch:
            learner.learn(joined(unread))
            unread.clear()

    calls = design.control_budget if stage.startswith("control") else design.budget
    table = Conversation(
        context,
        design,
        stage,
        searcher,
        calls,
        told,
        enough=lambda: any((d <= 1).any() for d in found),
        conditions=judge.vae.asked,
        text=lambda: f"nearest design at {min(map(nearest, found)):.2f} tolerances",
    ).held()
    distances = np.concatenate(found)
    met = np.flatnonzero(distances <= 1)
    price = searcher.price
    return Search(stage, table, distances, price * (int(met[0]) + 1) if len(met) else None, price)


def _save(context: Context, judge: Judge, searches: list[Search], controls: list[Search]) -> None:
    """Write the course of every search, with what the guards say, and the best design into the run."""
    course = [
        {
            "stage": s.stage,
            "calls": s.calls,
            "price": s.price,
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
        (
            "best known structure" if design.start_from else "best training structure",
            *_found(design, structures.properties, known_best),
            "",
        ),
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
        before, after = numbers_of(target, best.table.properties)[row], numbers_of(target, table.properties)[0]
        worst = np.abs(after - before).argmax()
        changes.append(f"{target.of} {100 * (after[worst] - before[worst]) / target.scale:+.2g} %")
    return (f"with twice the voxels along every axis: {', '.join(changes)}",)


def _verdict(distance: float) -> str:
    """Return in words whether a verified design at this distance, in tolerances, meets the target."""
    if distance <= 1:
        return "the design is verified by the solver"
    return f"the target was not met: the nearest verified design is {distance:.2f} tolerances away"


def _found(design: DesignSettings, properties: Mapping[str, Array], row: int) -> tuple[str, ...]:
    """Return the targeted numbers of one structure, and the largest error among them."""
    values = [numbers_of(t, properties)[row] for t in design.targets]
    error = max(float(misses(t, v)) * t.tolerance for v, t in zip(values, design.targets, strict=True))
    return (*(in_words(v.tolist()) for v in values), f"{100 * error:.2f} %")


def _calls(search: Search, budget: int) -> str:
    return f"> {budget}" if search.calls is None else str(search.calls)


def _median(searches: list[Search], budget: int) -> str:
    """Return the median number of calls; a search that did not meet the target counts as more than its budget."""
    median = float(np.median([np.inf if s.calls is None else s.calls for s in searches]))
    return f"{median:g}" if np.isfinite(median) else f"> {budget}"
