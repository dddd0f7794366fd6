"""Pareto front: designs of which no other is better in both of two properties, found by composite search.

Every proposal has a different weighting of the two losses (augmented Chebyshev scalarisation; Knowles 2006, IEEE Trans.
Evol. Comput. 10, 50); all of them share the models of the properties.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from msvae.campaigns.design.campaign import InverseDesign
from msvae.campaigns.design.designs import designs
from msvae.campaigns.design.judge import Judge
from msvae.campaigns.design.loop.pace import effort_of
from msvae.campaigns.design.loop.questions import Conversation
from msvae.dispatch.tasks import Task
from msvae.errors import TargetError
from msvae.metrics.pareto import front, hypervolume
from msvae.metrics.solver_errors import percent, relative_errors
from msvae.run.table import Table
from msvae.sampling.search.problem import Known, Problem
from msvae.sampling.search.searchers.random import RandomSearch
from msvae.seeds import seed_of
from msvae.stages.context import Context
from msvae.stages.threads import torch_threads
from msvae.structures import Array, Structures
from msvae.structures.evaluations import Evaluations
from msvae.vae.blueprint import component_values

__all__ = ["Losses", "run"]

AUGMENTED = 0.05  # weight of the sum beside the larger loss
ERRORS = "their discretisation errors"
WORSE = 0.1  # of the front's range, by which the reference point is worse than it


@dataclass(frozen=True, eq=False)
class Losses:
    """Two properties as losses: 0 for the data set's best value, 1 for its worst; better than the data is below 0."""

    design: InverseDesign
    best: Array
    worst: Array

    @classmethod
    def of(cls, design: InverseDesign, properties: Mapping[str, Array]) -> Losses:
        """Return the losses that a data set's properties scale."""
        signed = _signed(design, properties)
        return cls(design, np.nanmin(signed, axis=0), np.nanmax(signed, axis=0))

    def __call__(self, properties: Mapping[str, Array]) -> Array:
        """Return the losses (n, 2) of properties (n, *shape)."""
        return np.asarray((_signed(self.design, properties) - self.best) / (self.worst - self.best))

    def reference(self, properties: Mapping[str, Array]) -> Array:
        """Return the point (2,) that fronts are measured against: the worst values of a data set's front, and a tenth.

        Of the front's range (Ishibuchi et al. 2018, Evol. Comput. 26, 411, on what a reference point does).
        """
        losses = self(properties)
        own = losses[front(losses)]
        return np.asarray(own.max(axis=0) + WORSE * np.maximum(np.ptp(own, axis=0), 0.1))

    def weighed_equally(self, properties: Mapping[str, Array]) -> Array:
        """Return the two losses with equal weights."""
        return self.weighed(0.5, properties)

    def weighed(self, weight: float, properties: Mapping[str, Array]) -> Array:
        """Return the larger of the weighted losses (n,), plus a small share of their sum."""
        parts = self(properties) * np.array([weight, 1 - weight])
        return np.asarray(parts.max(axis=1) + AUGMENTED * parts.sum(axis=1))


def _signed(design: InverseDesign, properties: Mapping[str, Array]) -> Array:
    signs = [-1.0 if objective.goal == "maximum" else 1.0 for objective in design.objectives]
    return np.stack([s * component_values(properties, o.of) for s, o in zip(signs, design.objectives, strict=True)], 1)


def run(context: Context, structures: Structures, judge: Judge) -> Table:
    """Return the table of the front, and of the areas dominated by the search, random samples and the data set."""
    design = judge.design
    usable = np.isfinite(_signed(design, structures.properties)).all(axis=1)
    known = structures[np.flatnonzero(usable)]
    losses = Losses.of(design, known.properties)
    with torch_threads(context.study.executor.threads):
        table, own = _search(context, known, losses, judge)
    control = None
    if design.control_budget:
        latents = RandomSearch(judge.vae, seed_of(context.study.seed, "control", 0)).ask(design.control_budget)
        tasks = [Task(k, z) for k, z in enumerate(latents)]
        control = losses(context.evaluate("control-0", tasks, model=context.run.model_file).latest().properties)
    chosen = front(own)
    if not len(chosen):
        raise TargetError(f"none of the {len(own)} designs was verified and passes the guards")
    reference = losses.reference(known.properties)
    rows = [(str(k + 1), *(f"{v:.5g}" for v in np.abs(_signed(design, table.properties)[i])), error)
            for k, (i, error) in enumerate(zip(chosen, _errors(design, table, chosen), strict=True))]  # fmt: skip
    sets = {"search": own, "random samples of the prior": control, "data set": losses(known.properties)}
    areas = {name: hypervolume(a, reference) for name, a in sets.items() if a is not None}
    context.run.write_json("pareto.json", {
        "names": [str(o.of) for o in design.objectives], "areas": areas, "front": chosen.tolist(),
        "sets": {n: np.abs(_signed(design, p)).tolist() for n, p in
                 (("data set", known.properties), ("search", table.properties))}})  # fmt: skip
    quantities = context.study.need_solver().quantities(structures.specification)
    context.run.save_structures(designs(judge.vae, table, chosen, quantities), "front.h5")
    notes = (
        *(f"area that it dominates up to the reference point: {name} {area:.4f}" for name, area in areas.items()),
        *_doubt(losses, table, chosen),
    )
    units = {q.name: q.unit for q in quantities}
    columns = ("design", *(f"{o.of}, {o.goal} ({units[o.property]})" for o in design.objectives), ERRORS)
    return Table(f"Pareto front, {len(own)} solver calls", columns, tuple(rows), notes)


def _errors(design: InverseDesign, table: Evaluations, rows: Array) -> list[str]:
    """Return in words the discretisation errors of both objectives, relative to them, of rows of a table."""
    cells = []
    for objective in design.objectives:
        if objective.property in table.errors:
            values, errors = (component_values(p, objective.of)[rows] for p in (table.properties, table.errors))
            cells.append([percent(ratio) for ratio in relative_errors(values, errors)])
        else:
            cells.append(["not estimated"] * len(rows))
    return [" / ".join(both) for both in zip(*cells, strict=True)]


def _doubt(losses: Losses, table: Evaluations, chosen: Array) -> Iterator[str]:
    """Yield how many designs of a front stay on it when each value is reduced by its discretisation error."""
    names = {objective.property for objective in losses.design.objectives}
    if not names <= set(table.errors):
        return
    finer = losses({n: (table.properties[n] - np.abs(table.errors[n]))[chosen] for n in names})
    if np.isfinite(finer).all() and len(front(finer)) < len(chosen):
        yield (f"{len(front(finer))} of the {len(chosen)} designs stay on the front when values are reduced by their "
               "discretisation errors: the order of the others is below what the voxels resolve")  # fmt: skip


def _search(context: Context, known: Structures, losses: Losses, judge: Judge) -> tuple[Evaluations, Array]:
    """Return the designs of the search and their losses (n, 2); NaN for those that do not count."""
    design, vae, seed = judge.design, judge.vae, seed_of(context.study.seed, "search", 0)
    names = {objective.property for objective in design.objectives}
    problem = Problem(
        vae,
        context.study.need_solver(),
        (),
        tuple(objective.of for objective in design.objectives),
        losses.weighed_equally,
        judge.allowed,
        Known(vae.encode(known), known, {n: np.array(known.properties[n]) for n in names}),
        seed,
        effort_of(context),
    )
    searcher = design.strategy.front(problem, losses, np.random.default_rng(seed_of(seed, "weights")))
    whole = Conversation(
        context,
        design,
        "search-0",
        searcher,
        design.budget,
        context.run.model_file,
        on_answer=lambda table: searcher.tell(table.latents, np.zeros(0), table.properties),
    ).held()
    return whole, np.where(judge.counts(whole)[:, None], losses(whole.properties), np.nan)
