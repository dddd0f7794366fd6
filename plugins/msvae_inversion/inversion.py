"""Inversion: descents from several starts, samples of the posterior and controls, as tasks of all workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from msvae import (
    Array,
    Context,
    DataError,
    Evaluation,
    Evaluations,
    MsvaeError,
    Quantity,
    Recipe,
    Table,
    Task,
    rank,
    seed_of,
    training_structures,
)  # fmt: skip
from msvae_inversion.controls import regularised
from msvae_inversion.invert import Control, Invert
from msvae_inversion.manifold.descent import Found, data_metric, descend
from msvae_inversion.manifold.posterior import Posterior, intervals, posterior
from msvae_inversion.problem import Problem, prepared, problem_of
from msvae_inversion.table import table_of

__all__ = ["best_starts", "run"]

ROUNDING = 1e-6  # of pixels that are the same in all images, as a share of the range of values

Outcome = Mapping[str, Array]


@dataclass(frozen=True)
class Job:
    """What a worker is given. places: charts and latents of each image, from which samples begin. weights: of controls.

    misfits: of each image over the noise. width: of intervals, in deviations to each side. quantities: of the stage.
    """

    recipe: Recipe
    charts: str
    changed: tuple[int, ...]
    quantities: tuple[Quantity, ...]
    places: tuple[tuple[tuple[int, tuple[float, ...]], ...], ...] = ()
    misfits: tuple[float, ...] = ()
    width: float = 0.0
    weights: tuple[float, ...] = ()


def run(context: Context, settings: Invert) -> Table:
    """Return how well each image explains its data and, where the truth is known, how near it is."""
    structures = training_structures(context)
    where = prepared(context, settings, structures)
    recipe = context.recipe(model=None)
    problem = problem_of(recipe, *where)
    _check_data(settings, problem)
    job = Job(recipe, *where, ())
    found = _stage(
        context, "descend", job, _descended, settings.starts * len(problem.measured.data), _descents(problem)
    )
    best = best_starts(found, settings.starts)
    samples = _samples(context, settings, job, problem, found) if settings.samples else None
    controls = _controls(context, settings, job, problem)
    return table_of(problem, best, samples, controls)


def _check_data(settings: Invert, problem: Problem) -> None:
    """Raise DataError if the data are not those that the forward model gives."""
    given, expected = problem.measured.data.shape[1], problem.measured.candidates.shape[1]
    if given != expected:
        raise DataError(
            f"invert.data: '{settings.data}' has {given} data for each image, the forward model gives {expected}: "
            "change [forward], or give the data that belong to it"
        )


def _stage(
    context: Context,
    name: str,
    job: Job,
    made: Callable[[Problem, Job, int], Outcome],
    count: int,
    quantities: tuple[Quantity, ...],
) -> Evaluations:
    own = replace(job, quantities=quantities)
    table = context.work(name, range(count), partial(_work, own, made), quantities, name)
    return table.where(np.argsort(table["index"], kind="stable"))


def _work(job: Job, made: Callable[[Problem, Job, int], Outcome], tasks: Sequence[Task]) -> Evaluations:
    return Evaluations.of([_made(job, made, task.index) for task in tasks])


def _made(job: Job, made: Callable[[Problem, Job, int], Outcome], index: int) -> Evaluation:
    """Return the outcome of a task; what a user can mend is a failure with its sentence."""
    start = time.perf_counter()
    try:
        properties, message = made(problem_of(job.recipe, job.charts, job.changed), job, index), ""
    except MsvaeError as error:
        properties = {q.name: np.full(tuple(map(int, q.shape)), np.nan) for q in job.quantities}
        message = str(error)
    return Evaluation(index, "", "failed" if message else "done", properties, message, cost=time.perf_counter() - start,
                      rank=rank())  # fmt: skip


def _descents(problem: Problem) -> tuple[Quantity, ...]:
    sizes: dict[str, tuple[int, ...]] = {"misfit": (), "chart": (), "latents": (problem.charts.shape.dimensions,),
        "image": problem.grid, "changes": (), "values": (problem.settings.steps + 1,)}  # fmt: skip
    return tuple(Quantity(name, "1", shape) for name, shape in sizes.items())


def _descended(problem: Problem, job: Job, index: int) -> Outcome:
    """Return where a descent from one of the best candidates ends. values: misfit over noise after each step."""
    settings = problem.settings
    image, start = divmod(index, settings.starts)
    found, misfits = _descent(problem, problem.measured.data[image], start)
    values = np.full(settings.steps + 1, np.nan)
    values[: len(misfits)] = misfits
    with torch.no_grad():
        pixels = problem.charts.decode(found.chart, found.latents[None])[0].numpy()
    return {
        "misfit": misfits[-1], "chart": np.array(float(found.chart)), "latents": found.latents.numpy(),
        "image": _within(problem, pixels), "changes": np.array(float(found.changes)), "values": values,
    }  # fmt: skip


def _descent(problem: Problem, data: Array, start: int) -> tuple[Found, Array]:
    """Return where a descent ends that explains data (m,), and its misfits over the noise. start: of the candidates."""
    settings, measured = problem.settings, problem.measured
    first = _order(((measured.candidates - data) ** 2).sum(axis=1), measured.chart)[start]
    place = int(measured.chart[first]), torch.as_tensor(measured.latents[first])
    level = 0.5 * settings.discrepancy**2
    metric = data_metric(problem.charts, problem.pushed, settings.noise) if settings.metric == "data" else None
    found = descend(problem.charts, problem.objective(data), place, steps=settings.steps, level=level, metric=metric)
    return found, np.sqrt(2 * np.array(found.values))


def _order(misfits: Array, charts: Array) -> Array:
    """Return the order in which candidates (c,) are starts: the best of every chart, then the second best of every."""
    order = np.argsort(misfits, kind="stable")
    place = np.array([(charts[order[:k]] == charts[order[k]]).sum() for k in range(len(order))])
    return np.asarray(order[np.argsort(place, kind="stable")])


def _within(problem: Problem, pixels: Array) -> Array:
    """Return pixels (p,) as an image, cut to the range of the data set's."""
    low, high, _ = problem.measured.levels
    return np.asarray(np.clip(pixels, low, high).reshape(problem.grid))


def best_starts(found: Evaluations, starts: int) -> Evaluations:
    """Return of each image the descent that ends with the lowest misfit; DataError if all of an image failed."""
    misfit = np.where(found.done, found.properties["misfit"], np.inf).reshape(-1, starts)
    lost = np.flatnonzero(~np.isfinite(misfit).any(axis=1))
    if len(lost):
        why = str(found["message"][lost[0] * starts])
        raise DataError(f"image {lost[0]} has no inversion, and {len(lost)} of {len(misfit)} have none: {why}")
    return found.where(misfit.argmin(axis=1) + starts * np.arange(len(misfit)))


def _samples(context: Context, settings: Invert, job: Job, problem: Problem, found: Evaluations) -> Evaluations:
    best = best_starts(found, settings.starts)
    own = replace(job, places=_places(found, settings.starts), misfits=tuple(best.properties["misfit"].tolist()))
    if settings.calibration:
        scores = (Quantity("scores", "1", problem.grid),)
        unseen = _stage(context, "calibrate", job, _calibrated, settings.calibration, scores)
        own = replace(own, width=float(np.nanquantile(unseen.properties["scores"], settings.interval)))
    names = {"mean": problem.grid, "deviation": problem.grid, "low": problem.grid, "high": problem.grid, "accepted": ()}
    quantities = tuple(Quantity(name, "1", shape) for name, shape in names.items())
    return _stage(context, "sample", own, _sampled, len(own.places), quantities)


def _places(found: Evaluations, starts: int) -> tuple[tuple[tuple[int, tuple[float, ...]], ...], ...]:
    """Return of each image where its descents end with the lowest misfit of their chart, the lowest of all first."""
    places = []
    for first in range(0, len(found), starts):
        own = found.where(first + np.flatnonzero(found.done[first : first + starts]))
        ends: dict[int, tuple[float, ...]] = {}
        for row in np.argsort(own.properties["misfit"], kind="stable"):
            ends.setdefault(int(own.properties["chart"][row]), tuple(own.properties["latents"][row].tolist()))
        places.append(tuple(ends.items()))
    return tuple(places)


def _calibrated(problem: Problem, job: Job, index: int) -> Outcome:
    """Return how far the pixels of an unseen image are from the mean of its posterior, over their deviation."""
    data = problem.measured.unseen_data[index]
    starts = [_descent(problem, data, start) for start in range(problem.settings.starts)]
    starts.sort(key=lambda one: float(one[1][-1]))
    ends: dict[int, Tensor] = {}
    for found, _ in starts:
        ends.setdefault(found.chart, found.latents)
    _, (mean, deviation, *_) = _posterior(problem, data, [*ends.items()], float(starts[0][1][-1]), -1 - index)
    scores = np.abs(problem.measured.unseen[index] - mean) / deviation
    return {"scores": scores.reshape(problem.grid)}


def _sampled(problem: Problem, job: Job, index: int) -> Outcome:
    """Return the posterior of an image."""
    places = [(chart, torch.tensor(latents, dtype=torch.float64)) for chart, latents in job.places[index]]
    data = problem.measured.data[index]
    found, (mean, deviation, low, high) = _posterior(problem, data, places, job.misfits[index], index)
    if job.width:
        low, high = mean - job.width * deviation, mean + job.width * deviation
    limits = {"deviation": deviation, "low": low, "high": high}
    return {
        "mean": _within(problem, mean), **{name: v.reshape(problem.grid) for name, v in limits.items()},
        "accepted": np.array(found.accepted),
    }  # fmt: skip


def _posterior(
    problem: Problem, data: Array, places: Sequence[tuple[int, Tensor]], misfit: float, number: int
) -> tuple[Posterior, tuple[Array, ...]]:
    """Return the posterior of data (m,), and mean, deviation and limits (p,) of its pixels. number: of the seeds."""
    settings, charts = problem.settings, problem.charts
    found = posterior(
        charts, problem.likelihood(data, misfit), places, samples=settings.samples, thinning=settings.thinning,
        power=settings.evidence, seed=seed_of(problem.seed, "langevin", number) % (1 << 62),
    )  # fmt: skip
    seed = seed_of(problem.seed, "interval", number)
    mean, deviation, low, high = intervals(charts, found, settings.interval, seed, problem.cut)
    lowest, highest, _ = problem.measured.levels
    return found, (mean, np.maximum(deviation, ROUNDING * (highest - lowest)), low, high)


def _controls(context: Context, settings: Invert, job: Job, problem: Problem) -> dict[str, Evaluations]:
    """Return the evaluations of each control, with the weight that is best for images of the charts."""
    image = (Quantity("image", "1", problem.grid), Quantity("weight", "1", ()))
    found: dict[str, Evaluations] = {}
    truth = problem.measured.calibration
    for control in settings.controls:
        count = len(settings.weights) * len(truth)
        tried = _stage(context, f"{control}-weights", job, partial(_tried, control), count, image)
        made = tried.properties["image"].reshape(len(settings.weights), *truth.shape)
        errors = np.nan_to_num(((made - truth) ** 2).mean(axis=(1, 2)), nan=np.inf)
        own = replace(job, weights=(settings.weights[int(errors.argmin())],))
        found[control] = _stage(
            context, control, own, partial(_regularised, control), len(problem.measured.data), image
        )
    return found


def _tried(control: Control, problem: Problem, job: Job, index: int) -> Outcome:
    k, image = divmod(index, len(problem.measured.calibration))
    return _control(control, problem, problem.settings.weights[k], problem.measured.calibration_data[image])


def _regularised(control: Control, problem: Problem, job: Job, index: int) -> Outcome:
    return _control(control, problem, job.weights[0], problem.measured.data[index])


def _control(control: Control, problem: Problem, weight: float, data: Array) -> Outcome:
    mean = problem.charts.mean.numpy()
    found = regularised(
        control, weight, problem.objective(data), np.full_like(mean, mean.mean()),
        scatter=float(problem.measured.levels[2]), grid=problem.grid,
    )  # fmt: skip
    return {"image": _within(problem, found), "weight": np.array(weight)}
