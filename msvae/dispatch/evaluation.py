"""One evaluation: the result of a solver for one structure, as a value. A failure is a value too."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msvae.plugins.interfaces import Solver
from msvae.structures import Array, Properties, Quantity, Structures
from msvae.structures.evaluations import ESTIMATES, Evaluation, Status

__all__ = ["evaluate", "failure", "known"]

TRACE = 3000  # characters of a traceback that are kept
Call = Callable[[Structures], Mapping[str, Any]]


@dataclass
class _Outcome:
    """The outcome of a call: properties, the expected quantities, and how it ended."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    quantities: tuple[Quantity, ...] = ()
    status: Status = "failed"
    message: str = ""
    trace: str = ""


def _outcome(solver: Solver, structures: Structures, call: Call) -> _Outcome:
    """Call a solver, whatever it raises."""
    found = _Outcome()
    try:
        found.quantities = solver.quantities(structures.specification)
        found.properties = {} if structures.damaged else call(structures)
        found.status, found.message = _judge(found.properties, found.quantities, structures.damaged)
    except MemoryError as error:
        found.status, found.message = "crashed", f"it ran out of memory ({error or 'MemoryError'})"
    except Exception as error:  # a border: a solver may raise anything, and the campaign goes on
        found.status, found.message = "failed", f"{type(error).__name__}: {error}"
        found.trace = traceback.format_exc()[-TRACE:]
    except SystemExit as error:
        found.status, found.message = "crashed", f"it called sys.exit({error.code!r})"
    return found


def evaluate(
    solver: Solver,
    structures: Structures,
    *,
    index: int,
    rank: int = 0,
    seed: int = 0,
    latents: Array | None = None,
    call: Call | None = None,
) -> Evaluation:
    """Return the evaluation of a batch of one structure; every exception of the solver is caught.

    call: the function that is called with the structures, by default solver.evaluate.
    """
    start = time.perf_counter()
    found = _outcome(solver, structures, call or solver.evaluate)
    properties, status = found.properties, found.status
    done = status == "done"
    counts = getattr(properties, "iterations", None)
    errors, left = (getattr(properties, family, {}) if done else {} for family in ESTIMATES)
    return Evaluation(
        index,
        structures.ids[0],
        status,
        {q.name: np.array(properties[q.name][0], dtype=np.float64) if done else _nothing(q) for q in found.quantities},
        found.message,
        latents=_latents(latents),
        cost=time.perf_counter() - start,
        seed=seed,
        rank=rank,
        iterations=0 if counts is None else int(counts[0]),
        errors={name: np.array(array[0], dtype=np.float64) for name, array in errors.items()},
        iteration_errors={name: np.array(array[0], dtype=np.float64) for name, array in left.items()},
        trace=found.trace,
    )


def failure(
    solver: Solver,
    structures: Structures,
    status: Status,
    message: str,
    *,
    index: int,
    latents: Array | None = None,
    **columns: Any,
) -> Evaluation:
    """Return the evaluation of a structure for which the solver returned nothing."""
    nothing = {q.name: _nothing(q) for q in solver.quantities(structures.specification)}
    return Evaluation(index, structures.ids[0], status, nothing, message, latents=_latents(latents), **columns)


def known(
    structures: Structures, found: Evaluation, *, index: int, latents: Array | None = None, **columns: Any
) -> Evaluation:
    """Return the evaluation of a structure whose properties were found before."""
    return Evaluation(index, structures.ids[0], "done", found.properties, found.message, latents=_latents(latents),
                      attempts=0, cached=True, errors=found.errors, iteration_errors=found.iteration_errors,
                      **columns)  # fmt: skip


def _latents(latents: Array | None) -> Array:
    return np.zeros(0) if latents is None else np.asarray(latents, dtype=np.float64)


def _nothing(quantity: Quantity) -> Array:
    return np.full(quantity.sizes, np.nan)


def _judge(
    properties: Mapping[str, Any], quantities: tuple[Quantity, ...], damaged: Mapping[int, str]
) -> tuple[Status, str]:
    """Return the status of the returned properties of one structure, and the reason."""
    if damaged:
        return "failed", damaged[0]
    if isinstance(properties, Properties) and properties.failures:
        return properties.statuses.get(0, "failed"), properties.failures[0]
    for q in quantities:
        if q.name not in properties:
            return "invalid", f"the solver did not return '{q.name}', which it declares"
        array = np.asarray(properties[q.name])
        if array.shape != (1, *q.sizes):
            return "invalid", f"'{q.name}' has shape {array.shape}, declared is {(1, *q.sizes)}"
        if (
            not np.issubdtype(array.dtype, np.number)
            or not (np.isfinite(array) | (q.unbounded & (array == np.inf))).all()
        ):
            return "invalid", f"'{q.name}' is not a finite number"
    return "done", properties.notes.get(0, "") if isinstance(properties, Properties) else ""
