"""The pilot: a few solver calls and a few steps of training, as a run would make them, in a run that goes again."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from msvae.dispatch.tasks import Task
from msvae.errors import StudyError, TargetError
from msvae.stages.checks import check_materials, check_numbers
from msvae.stages.context import Context
from msvae.structures import Array, Structures

if TYPE_CHECKING:
    from msvae.vae.blueprint import Blueprint

__all__ = ["Solved", "epoch_of", "solved"]

STAGE, WARM_UP = "pilot", "warm-up"
PATIENCE = 2.0  # s that each worker should have to do in the pilot
MOST = 32  # evaluations of a worker in it
LONG = 5.0  # s of a call, from which the first ones are all that is measured
STEPS, TRAINED = 8, 10.0  # of the pilot training: steps, and s after which no other one begins


@dataclass(frozen=True, eq=False)
class Solved:
    """What a few evaluations said. call, each: s, of a call and of an evaluation by all workers. row: bytes of one.

    properties: of those that succeeded, by name (k, *shape).
    """

    call: float
    each: float
    row: float
    failed: float
    properties: dict[str, Array]


def solved(context: Context, structures: Structures) -> Solved:
    """Evaluate a few structures on all workers, after a first one of each; TargetError if all fail, StudyError if
    the solver does not take them.
    """
    misfit = context.study.need_solver().misfit(structures.specification)
    if misfit:
        raise StudyError(f"solver: {misfit}")
    check_materials(context.study, structures)
    check_numbers(context.study, structures)
    order = np.random.default_rng(0).permutation(len(structures)).tolist()
    width = context.width
    start = time.perf_counter()
    table = context.evaluate(WARM_UP, [Task(k) for k in order[:width]])
    seconds, name = time.perf_counter() - start, WARM_UP
    left = order[width : width + _enough(float(np.median(table["cost"])), width)]
    if left and float(np.median(table["cost"])) < LONG:
        start = time.perf_counter()
        table = context.evaluate(STAGE, [Task(k) for k in left])
        seconds, name = time.perf_counter() - start, STAGE
    if not table.done.any():
        raise TargetError(f"all {len(table)} evaluations of the pilot failed; the first: {table['message'][0]}")
    size = sum(file.stat().st_size for file in context.run.store(name).files)
    found = {key: values[table.done] for key, values in table.properties.items()}
    cost = float(np.median(table["cost"][table.done]))
    return Solved(cost, seconds / len(table), size / len(table), 1 - float(table.done.mean()), found)


def _enough(cost: float, width: int) -> int:
    """Return how many evaluations a pilot makes where one takes `cost` seconds."""
    return width * min(MOST, max(2, math.ceil(PATIENCE / max(cost, 1e-6))))


def epoch_of(context: Context, structures: Structures, known: dict[str, Array]) -> tuple[float, int]:
    """Return the seconds of an epoch and the bytes of the model, from a few steps.

    known: properties of a few structures, which stand for those of all.
    """
    from msvae.stages.sides import sides_of
    from msvae.stages.threads import torch_threads
    from msvae.vae.blueprint import Blueprint

    study = context.study
    assert study.architecture is not None
    filled = _with_stand_ins(context, structures, known)
    blueprint = Blueprint.of(filled, study.model, study.architecture)
    sides = sides_of(context, filled, blueprint)
    with torch_threads(study.executor.threads):
        step, size = _steps(context, filled, blueprint)
    batches = math.ceil(len(sides.train) / (study.training.batch_size * study.training.ranks))
    held_out = len(sides.held_out) / study.training.batch_size
    return step * (batches + held_out / 3), size  # a pass forward is a third of a step


def _with_stand_ins(context: Context, structures: Structures, known: dict[str, Array]) -> Structures:
    """Return structures with properties that are not known yet, each that of one in the pilot."""
    if not known:
        return structures
    rows = np.arange(len(structures))
    missing = [q for q in context.quantities if q.name not in structures.properties]
    values = {q.name: known[q.name][rows % len(known[q.name])] for q in missing}
    return structures.with_properties(values, missing)


class _Enough(Exception):  # noqa: N818 - no error
    """The pilot training has made its steps."""


def _steps(context: Context, structures: Structures, blueprint: Blueprint) -> tuple[float, int]:
    """Return the median seconds of a step of training, the first left out, and the bytes of the weights."""
    from msvae.stages.sides import sides_of
    from msvae.vae.fitting.training import fit
    from msvae.vae.model import VAE

    vae, moments = VAE(blueprint), list[float]()

    def enough() -> None:
        moments.append(time.perf_counter())
        if len(moments) > STEPS or moments[-1] - moments[0] > TRAINED:
            raise _Enough

    settings = replace(context.study.training, epochs=STEPS + 1, ranks=1, patience=0)
    with suppress(_Enough):
        fit(vae, structures, settings, seed=0, limit=enough, sides=sides_of(context, structures, blueprint))
    size = sum(p.numel() * p.element_size() for p in vae.parameters())
    return (float(np.median(np.diff(moments))) if len(moments) > 1 else 0.0), size
