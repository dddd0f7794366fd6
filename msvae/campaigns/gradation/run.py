"""Functional gradation: a part whose microstructure follows a target, decoded to one voxel image and verified.

Latents of overlapping windows start from samples of the model's prior. Gradient descent moves them to the target plus
the scatter with which they started. The decoded windows are measured, by counting voxels or by the solver, and the
deviation of their means is subtracted from the target; the study sets how many times.
"""

from __future__ import annotations

import numpy as np

from msvae.campaigns.gradation.campaign import Gradation
from msvae.campaigns.gradation.compliance import stiffest_part
from msvae.campaigns.gradation.graded_part import Grading, groups_of, misses_of, save, values_of_structures
from msvae.errors import StudyError
from msvae.run.table import Table
from msvae.sampling.fields.grading import position_formula
from msvae.seeds import seed_of
from msvae.stages.context import Context
from msvae.stages.threads import torch_threads
from msvae.stages.training import trained, training_structures
from msvae.structures import Array, Structures

__all__ = ["run"]

COLUMNS = ("asked", "mean", "error", "scatter", "windows")
MOST_ROWS = 24
LAGS = (1, 2, 4, 8)  # voxels


def run(context: Context) -> Table:
    """Return the table of the part's targets and measured values; the part is written into the run."""
    settings = context.study.need(Gradation)
    if settings.goal == "profile":  # a mistake is better found before training than after
        _formula(context, np.full((1, len(settings.shape)), 0.5))
    structures = training_structures(context)
    vae = trained(context, structures)
    grading = Grading(context, vae, vae.encode(structures), settings)
    with torch_threads(context.study.executor.threads):
        return stiffest_part(grading) if settings.goal == "compliance" else _profile(grading)


def _profile(grading: Grading) -> Table:
    s = grading.settings
    target = _formula(grading.context, grading.positions)
    start = grading.start(seed_of(grading.context.study.seed, "gradation"))
    part, measured = grading.profile(start, target, "graded")
    save(grading, part)
    rows, places, misses = [], groups_of(target), misses_of(measured, target)
    shown = np.unique(places[grading.inner])
    for k in shown[:: -(-len(shown) // MOST_ROWS)]:
        here = (places == k) & grading.inner
        rows.append((f"{target[here].mean():.5g}", f"{np.nanmean(measured[here]):.5g}", f"{misses[here][0]:+.3g}",
                     f"{np.nanstd(measured[here] - target[here]):.3g}", str(here.sum())))  # fmt: skip
    rest, known = measured - target - misses, values_of_structures(grading)
    notes = (
        f"largest error of a mean: {np.abs(misses[grading.inner]).max():.3g}; scatter in the part "
        f"{np.nanstd(rest[grading.inner]):.3g}, in the data set {known.std():.3g}",
        *(f"voxels {lag} apart differ {border:.3f} times as often across windows' borders as anywhere; across other "
          f"planes as far from each other {low:.3f} to {high:.3f} times"
          for lag, border, low, high in _seams(grading, part)),
    )  # fmt: skip
    grading.context.run.write_json("gradation.json", {
        "positions": grading.positions[grading.inner].tolist(), "target": target[grading.inner].tolist(),
        "measured": measured[grading.inner].tolist()})  # fmt: skip
    what = str(s.of) if s.property else f"fraction of phase {s.phase}"
    return Table(f"Graded part: {what} of its windows", COLUMNS, tuple(rows), notes)


def _formula(context: Context, positions: Array) -> Array:
    """Return the target (w,) at positions (w, d) from 0 to 1 along the part."""
    try:
        return position_formula(context.study.need(Gradation).target, positions)
    except ValueError as error:
        raise StudyError(f"{context.study.source.at(['gradation', 'target'])}: {error}") from None


def _seams(grading: Grading, part: Structures) -> tuple[tuple[int, float, float, float], ...]:
    """Return for several lags how often voxels that far apart differ across window borders, and elsewhere.

    Over the mean of all: across borders; across planes at the same distance from each other that are none, the least
    and the most of them.
    """
    values, found = part.values[0, 0], []
    for lag in LAGS:
        rates = []
        for axis, step in enumerate(grading.windows.steps):
            n = values.shape[axis] - lag
            if lag > step // 2 or n < 2 * step:
                continue
            differ = np.take(values, range(lag, lag + n), axis) != np.take(values, range(n), axis)
            by_plane = differ.mean(axis=tuple(a for a in range(values.ndim) if a != axis))
            places = (np.arange(n) + (lag + 1) // 2) % step
            rates.append(np.array([by_plane[places == k].mean() for k in range(step)]) / max(by_plane.mean(), 1e-12))
        if rates and len({len(r) for r in rates}) == 1:
            border, *others = np.mean(rates, axis=0)
            found.append((lag, float(border), float(min(others)), float(max(others))))
    return tuple(found)
