"""One evaluation: what a solver made of one structure, as a value. A failure is a value too."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from msvae.interfaces import Solver
from msvae.structures import Array, Properties, Quantity, Structures

__all__ = ["STATUSES", "Evaluation", "Status", "evaluate"]

Status = Literal["done", "failed", "timeout", "crashed", "invalid"]
STATUSES: tuple[Status, ...] = ("done", "failed", "timeout", "crashed", "invalid")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome of one task.

    index: the task's number in its stage. structure: id of the structure; "" if it was never made.
    message: for anything but "done", one sentence that says why. cost: seconds of wall time.
    errors: estimated numerical error of properties, where the solver gives one.
    properties: by name, (*shape); NaN unless done. rank: that computed it.
    """

    index: int
    structure: str
    status: Status
    properties: Mapping[str, Array]
    message: str = ""
    latents: Array = field(default_factory=lambda: np.zeros(0))
    cost: float = 0.0
    seed: int = 0
    rank: int = 0
    iterations: int = 0
    errors: Mapping[str, Array] = field(default_factory=dict)


def evaluate(
    solver: Solver, structures: Structures, *, index: int, rank: int = 0, seed: int = 0, latents: Array | None = None
) -> Evaluation:
    """Return the evaluation of a batch of one structure; no exception of the solver passes."""
    start = time.perf_counter()
    quantities = solver.quantities(structures.specification)
    properties: Mapping[str, Any] = {}
    try:
        properties = {} if structures.damaged else solver.evaluate(structures)
        status, message = _judge(properties, quantities, structures.damaged)
    except Exception as error:  # a border: a solver may raise anything, and the campaign goes on
        status, message = "failed", f"{type(error).__name__}: {error}"
    done = status == "done"
    values = {
        q.name: np.array(properties[q.name][0], dtype=np.float64) if done else np.full(q.sizes, np.nan)
        for q in quantities
    }
    counts = getattr(properties, "iterations", None)
    errors = getattr(properties, "errors", {}) if done else {}
    return Evaluation(
        index,
        structures.ids[0],
        status,
        values,
        message,
        latents=np.zeros(0) if latents is None else np.asarray(latents, dtype=np.float64),
        cost=time.perf_counter() - start,
        seed=seed,
        rank=rank,
        iterations=0 if counts is None else int(counts[0]),
        errors={name: np.array(array[0]) for name, array in errors.items()},
    )


def _judge(
    properties: Mapping[str, Any], quantities: tuple[Quantity, ...], damaged: Mapping[int, str]
) -> tuple[Status, str]:
    """Return the status that the returned properties of one structure deserve, and why."""
    if damaged:
        return "failed", damaged[0]
    if isinstance(properties, Properties) and properties.failures:
        return "failed", properties.failures[0]
    for q in quantities:
        if q.name not in properties:
            return "invalid", f"the solver did not return '{q.name}', which it declares"
        array = np.asarray(properties[q.name])
        if array.shape != (1, *q.sizes):
            return "invalid", f"'{q.name}' has shape {array.shape}, declared is {(1, *q.sizes)}"
        if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array).all():
            return "invalid", f"'{q.name}' is not a finite number"
    return "done", ""
