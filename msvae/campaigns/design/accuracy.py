"""Effect of the solver's discretisation error on results: on designs that meet a target, on means over samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from msvae.campaigns.design.campaign import InverseDesign
from msvae.campaigns.design.judge import misses, numbers_of
from msvae.metrics.solver_errors import percent, with_unit
from msvae.plugins.interfaces import Solver
from msvae.sampling.estimators import Estimate
from msvae.sampling.search.aims import Target
from msvae.structures import Array
from msvae.structures.evaluations import Evaluations

__all__ = ["design_doubts", "discretisation_error", "error_rows", "sampling_doubt"]


def error_rows(design: InverseDesign, table: Evaluations, row: int) -> list[tuple[str, ...]]:
    """Return rows of text with both errors of the targeted numbers of one design, and the largest error of each kind.

    In the property's unit; the largest in percent of the target, as its tolerance is.
    """
    rows = []
    for kind, errors in (("discretisation", table.errors), ("iteration", table.iteration_errors)):
        found = [_errors_of(target, errors, row) for target in design.targets]
        known = [e.max() / t.scale for e, t in zip(found, design.targets, strict=True) if e is not None]
        cells = ["not estimated" if e is None else f"{'up to ' if len(e) > 1 else ''}{e.max():.2g}" for e in found]
        rows.append((f"its {kind} error", *cells, percent(max(known)) if known else "", "", ""))
    return rows


def design_doubts(whose: str, design: InverseDesign, table: Evaluations, row: int, solver: Solver) -> Iterator[str]:
    """Yield a sentence for every target that is met by the solver's value, but perhaps not on finer voxels.

    whose: words for the structure whose evaluation is this row of the table.
    """
    units = {q.name: q.unit for q in solver.computes}
    for target in design.targets:
        errors = _errors_of(target, table.errors, row)
        if errors is None:
            yield (
                f"{target.of} of {whose} meets the target by the solver's value, whose discretisation error is not "
                "estimated: design.refine = true solves the best design with twice the voxels"
            )
        elif doubt := _doubt(target, numbers_of(target, table.properties)[row], errors, units[target.property]):
            yield (
                f"{target.of} of {whose} meets the target within {percent(target.tolerance)} by the solver's value, "
                f"but {doubt}: take {_way_out(solver)} to be sure"
            )


def discretisation_error(table: Evaluations, name: str, statistic: Callable[[Array], Any]) -> float | None:
    """Return the change of a statistic when each sample's value is reduced by its discretisation error.

    Errors have one sign in all structures, so that more samples do not make this smaller: of the mean it is the mean of
    the samples' errors. statistic: of each row of values (1, m). None where fewer than two samples have an estimate.
    """
    values = table.properties[name]
    errors = np.abs(table.errors.get(name, np.full(len(values), np.nan)))
    known = np.isfinite(values) & np.isfinite(errors)
    if known.sum() < 2:
        return None
    before, after = (float(statistic(of[None, known])[0]) for of in (values, values - errors))
    return abs(after - before)


def sampling_doubt(mean: Estimate, error: float | None, unit: str, solver: Solver | None) -> str:
    """Return in words which is larger, the sampling error of a mean or its discretisation error, if that is known."""
    if error is None:
        return "the discretisation error of the mean is not estimated: samples by heads, and some solvers, have none"
    size = f"the discretisation error of the mean, about {with_unit(error, unit)}"
    if mean.value:
        size += f" ({percent(error / abs(mean.value))})"
    sampling = f"its sampling error, {with_unit(mean.half_width, unit)}"
    if error <= mean.half_width:
        return f"{size}, is smaller than {sampling}"
    way = f": more samples do not help, {_way_out(solver)} do" if solver is not None else ""
    return f"{size}, is larger than {sampling}{way}"


def _way_out(solver: Solver) -> str:
    """Return in words how to reduce this solver's discretisation error."""
    more = getattr(solver, "accuracy", "extrapolated") != "extrapolated"
    return "finer voxels" + (' or solver.accuracy = "extrapolated"' if more else "")


def _doubt(target: Target, values: Array, errors: Array, unit: str) -> str:
    """Return in words why values (m,) with these errors (m,), of one sign, may miss the target; "" if they do not."""
    if max(float(misses(target, values + errors)), float(misses(target, values - errors))) <= 1:
        return ""
    error, tolerance = float(errors.max()), target.tolerance
    size = f"the solver's own discretisation error is about {with_unit(error, unit)} ({percent(error / target.scale)})"
    if error > tolerance * target.scale:
        return f"{size}, larger than that tolerance"
    return f"it is off by {percent(float(misses(target, values)) * tolerance)} and {size}, together more than that"


def _errors_of(target: Target, errors: Mapping[str, Array], row: int) -> Array | None:
    """Return the errors (m,) of the numbers of one design that a target is about; None without an estimate."""
    if target.property not in errors:
        return None
    found = np.abs(numbers_of(target, errors)[row])
    return found if np.isfinite(found).all() else None
