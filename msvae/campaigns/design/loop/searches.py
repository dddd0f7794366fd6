"""Searches of inverse design: ask, evaluate, tell, until the target is met or the budget spent.

Where the study asks for it, the model is retrained in between, on the data set and the verified designs, the best of
which are weighted more (Tripp et al. 2020, arXiv:2006.09191, on weighted retraining). A search then has several parts,
each with a latent space of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from msvae.campaigns.design.designs import designs, joined_structures
from msvae.campaigns.design.judge import Judge, distance_from
from msvae.campaigns.design.loop.learner import Learner
from msvae.campaigns.design.loop.pace import effort_of
from msvae.campaigns.design.loop.questions import Conversation
from msvae.errors import TargetError
from msvae.sampling.search.problem import AskTell, Known, Problem
from msvae.sampling.search.searchers.random import RandomSearch
from msvae.seeds import seed_of
from msvae.stages.context import Context
from msvae.stages.sides import sides_of
from msvae.stages.threads import torch_threads
from msvae.structures import Array, Structures
from msvae.structures.evaluations import Evaluations, joined
from msvae.vae.files import load_model, save_model
from msvae.vae.fitting.training import fit

__all__ = ["Part", "Search", "control", "nearest_of", "search"]

SHARE = 0.2  # of a retraining's structures that are designs
ROUND = 10.0  # s of solving in a round of the random control
GOOD = 0.25  # of the designs, that are shown


@dataclass(frozen=True, eq=False)
class Part:
    """Evaluations in order, their distances from the target (NaN: they do not count), and the judge of their model.

    proposed: how many of them the budget counts. seconds: that they took, questions and answers.
    """

    stage: str
    table: Evaluations
    distances: Array
    judge: Judge
    proposed: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Search:
    """One search: its parts, each with a model of its own. price: solver calls that each of its designs cost."""

    name: str
    parts: tuple[Part, ...]
    price: int

    @property
    def distances(self) -> Array:
        """Distances (n,) of all designs, in the order in which they were told."""
        return np.concatenate([part.distances for part in self.parts])

    @property
    def calls(self) -> int | None:
        """Number of solver calls until the target was met; None if it was not."""
        met = np.flatnonzero(self.distances <= 1)
        return self.price * (int(met[0]) + 1) if len(met) else None

    @property
    def seconds(self) -> float:
        """Wall time of the whole search, s."""
        return sum(part.seconds for part in self.parts)

    @property
    def best(self) -> tuple[Part, int]:
        """The part that has the nearest verified design, and its row there; TargetError if the solver verified none."""
        known = [part for part in self.parts if np.isfinite(part.distances).any()]
        if not known:
            n, first = len(self.distances), self.parts[0].table
            if any(part.table.done.any() for part in self.parts):
                raise TargetError(f"none of the {n} designs of '{self.name}' passes the guards: see searches.json")
            raise TargetError(f"all {n} evaluations of '{self.name}' failed; the first: {first['message'][0]}")
        part = min(known, key=lambda p: np.nanmin(p.distances))
        return part, int(np.nanargmin(part.distances))

    @property
    def nearest(self) -> float:
        """Distance of the nearest verified design; infinite if there is none."""
        return nearest(self.distances)


def nearest(distances: Array) -> float:
    """Return the smallest distance; NaN (unknown) is ignored, infinity if all are unknown."""
    return float(np.min(np.where(np.isnan(distances), np.inf, distances), initial=np.inf))


def nearest_of(searches: Sequence[Search]) -> Search:
    """Return the search whose best design is nearest to the target."""
    return min(searches, key=lambda s: s.nearest)


def search(context: Context, structures: Structures, judge: Judge, *, repeat: int) -> Search:
    """Run one search of the study's searcher; evaluations that the store has are read instead of repeated.

    structures: labelled ones that are known.
    """
    design, model = judge.design, context.run.model_file
    name, seed = f"search-{repeat}", seed_of(context.study.seed, "search", repeat)
    parts: list[Part] = []
    left, price = design.budget, 1
    for number in range(design.retrainings + 1):
        stage = f"{name}-{number}" if number else name
        calls = -(-left // (design.retrainings + 1 - number))
        asked = _Stage(stage, model, calls)
        searcher, learner = _searcher(context, structures, judge, seed_of(seed, number) if number else seed)
        with torch_threads(context.study.executor.threads):
            part = _held(context, searcher, asked, judge, learner)
        parts.append(part)
        price, left = searcher.price, left - searcher.price * part.proposed
        if nearest(part.distances) <= 1 or left < price or number == design.retrainings:
            break
        structures = _with_designs(structures, part)
        model = context.run.own_model_file(f"{name}-{number + 1}")
        with torch_threads(context.study.executor.threads):
            judge = _retrained(context, structures, judge, model, seed_of(seed, "retraining", number))
    return Search(name, tuple(parts), price)


def control(context: Context, judge: Judge, *, repeat: int) -> Search:
    """Run the random control of a repeat."""
    searcher = RandomSearch(judge.vae, seed_of(context.study.seed, "control", repeat))
    asked = _Stage(f"control-{repeat}", context.run.model_file, judge.design.control_budget)
    batch = max(judge.design.batch, round(ROUND / effort_of(context).seconds))  # samples need not wait for answers
    judge = replace(judge, design=replace(judge.design, batch=batch))
    return Search(asked.stage, (_held(context, searcher, asked, judge, None),), searcher.price)


def _searcher(context: Context, structures: Structures, judge: Judge, seed: int) -> tuple[AskTell, Learner | None]:
    """Return the study's searcher and the heads that learn with it; fast solvers get plain candidates too."""
    design, solver, effort = judge.design, context.study.need_solver(), effort_of(context)
    learner = None
    if design.strategy.learns:
        wanted = {target.property for target in design.targets}
        learner = Learner.of(copy.deepcopy(judge.vae), structures, wanted, seed=seed, effort=effort)
    problem = Problem(
        judge.vae if learner is None else learner.vae,
        solver,
        design.targets,
        design.components,
        partial(distance_from, design.targets),
        judge.allowed,
        None if learner is None else Known(learner.latents, learner.structures, learner.properties),
        seed,
        effort,
    )
    with torch_threads(context.study.executor.threads):
        return design.strategy.search(problem), learner


@dataclass(frozen=True)
class _Stage:
    """A part of a search to be run: its stage, the file of its model, and its number of solver calls."""

    stage: str
    model: Path
    calls: int


def _held(context: Context, searcher: AskTell, asked: _Stage, judge: Judge, learner: Learner | None) -> Part:
    """Ask, evaluate and tell until the target is met or the calls are spent."""
    design = judge.design
    found: list[Array] = []
    unread: list[Evaluations] = []

    def on_answer(table: Evaluations) -> None:
        found.append(judge.distances(table, below=min(map(nearest, found), default=np.inf)))
        searcher.tell(table.latents, distance_from(design.targets, table.properties), table.properties)
        unread.append(table)
        if learner is not None and sum(map(len, unread)) >= design.retrain_every * design.batch:
            learner.learn(joined(unread))
            unread.clear()

    conversation = Conversation(
        context,
        design,
        asked.stage,
        searcher,
        asked.calls,
        asked.model,
        on_answer,
        enough=lambda: any((d <= 1).any() for d in found),
        conditions=judge.vae.default_conditions,
        text=lambda: f"nearest design at {min(map(nearest, found)):.2f} tolerances",
    )
    table = conversation.held()
    return Part(asked.stage, table, np.concatenate(found), judge, conversation.proposed, conversation.clock.seconds)


def _with_designs(structures: Structures, part: Part) -> Structures:
    """Return known structures, followed by the best of a part's verified designs, repeated to make up a given share."""
    rows = np.flatnonzero(part.table.done)
    if not len(rows):
        return structures
    order = rows[np.argsort(np.nan_to_num(part.distances[rows], nan=np.inf), kind="stable")]
    best = order[: max(1, round(GOOD * len(rows)))]
    often = np.resize(best, max(len(best), round(SHARE * len(structures))))
    return joined_structures([structures, designs(part.judge.vae, part.table, often, structures.quantities)])


def _retrained(context: Context, structures: Structures, judge: Judge, file: Path, seed: int) -> Judge:
    """Return the judge of the model after further training on these structures; the run stores the model in a file."""
    if file.exists():
        vae = load_model(file)
    else:
        vae = copy.deepcopy(judge.vae).train()
        sides = sides_of(context, structures, vae.blueprint)  # what has been held back stays so
        settings = replace(context.study.training, epochs=max(1, context.study.training.epochs // 2), ranks=1)
        with context.run.journal.progress("train again") as report:
            fit(vae, structures, settings, seed=seed, sides=sides, limit=context.limits.check, report=report)
        vae.eval().fit_aggregate(structures[sides.train], seed=seed)
        save_model(vae, file)
    vae.default_conditions = judge.vae.default_conditions
    return Judge.of(context, vae.eval(), structures)
