"""What a worker does: frames predicted from one of a simulation, measured against those that the simulation has."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from msvae import (
    Array,
    Evaluation,
    Evaluations,
    Quantity,
    Recipe,
    Structures,
    Task,
    model_of,
    rank,
    read_structures,
    seed_of,
    study_of,
)  # fmt: skip
from msvae_evolution.backward import ancestors, generator_spread
from msvae_evolution.campaign import Evolve
from msvae_evolution.codes import Blocks, Code, Latents
from msvae_evolution.dynamics.latent import LatentDynamics
from msvae_evolution.forecast import RELAXED, Forecaster
from msvae_evolution.measures import characteristic_lengths, root_mean_square, two_point
from msvae_evolution.series import TIME, Series

__all__ = ["CONTROL", "DYNAMICS", "Job", "forecaster_of", "later", "predicted", "quantities"]

Truths = Mapping[float, Structures | None]  # the simulation's own frames by the factor of the given one's time
DYNAMICS, CONTROL = "dynamics.safetensors", "control.safetensors"


@dataclass(frozen=True, eq=False)
class Job:
    """What a worker needs. starts: (n, 2), simulation and number of its given frame, of every task.

    test: (n,), of which also earlier frames are predicted. train: the simulations that were trained on.
    """

    recipe: Recipe
    starts: Array
    test: Array
    train: Array


def quantities(settings: Evolve, grid: tuple[int, ...]) -> tuple[Quantity, ...]:
    """Return what is known of every prediction: of each factor, and of each sample."""
    k, m = len(settings.factors), settings.samples
    each = (
        "error",
        "persistence",
        "control",
        "length",
        "true_length",
        "fraction",
        "true_fraction",
        "mass",
        "energy",
        RELAXED,
    )
    between = max(0, (settings.until or 0) - min(settings.given) - 1)
    return (
        *(Quantity(name, "1", (k,)) for name in each),
        *(Quantity(name, "1", (k, m)) for name in ("lengths", "misfit")),
        *(Quantity(name, "1", (between,)) for name in ("between", "between_persistence") if between),
        Quantity("given_energy"),
        Quantity("frame", "1", (k, *grid)),
    )


def predicted(job: Job, tasks: Sequence[Task]) -> Evaluations:
    """Return a row for every task."""
    return Evaluations.of([_evaluated(job, task.index) for task in tasks])


def forecaster_of(recipe: Recipe, *, control: bool = False) -> Forecaster:
    """Return what forecasts in a run; the control's is of pixels."""
    study, vae = study_of(recipe.study), model_of(recipe)
    code: Code = Blocks(vae.blueprint.specification) if control else Latents(vae)
    path = Path(recipe.study.path).with_name(CONTROL if control else DYNAMICS)
    settings = study.need(Evolve)
    return Forecaster(code, loaded(code, settings, path), settings, study.need_dataset())


def loaded(code: Code, settings: Evolve, path: Path) -> LatentDynamics:
    """Return the dynamics of a file."""
    dynamics = LatentDynamics(code, settings)
    dynamics.load_state_dict(load_file(path))
    return dynamics.eval()


def later(settings: Evolve) -> list[float]:
    """Return the factors above one, ascending."""
    return sorted(f for f in settings.factors if f > 1)


@lru_cache(maxsize=1)
def _frames(path: str) -> tuple[Structures, Series]:
    structures = read_structures(Path(path))
    return structures, Series.of(structures)


def _evaluated(job: Job, index: int) -> Evaluation:
    begun, study = time.perf_counter(), study_of(job.recipe.study)
    settings, seed = study.need(Evolve), seed_of(study.seed, "evolve", index)
    assert job.recipe.structures is not None
    structures, series = _frames(job.recipe.structures.path)
    simulation, number = job.starts[index].tolist()
    given = structures[int(series.rows[simulation][number])]
    found = _Found.empty(settings, structures.specification.grid.shape)
    forecaster, truths = forecaster_of(job.recipe), _truths(structures, series, simulation, given, settings)
    _forward(found, forecaster, given, truths, seed)
    if settings.control:
        _control(found, forecaster_of(job.recipe, control=True), given, truths)
    if job.test[index]:
        _backward(found, forecaster, job, given, truths, seed)
    if job.test[index] and settings.until is not None:
        _interpolated(found, forecaster, structures[series.rows[simulation][number : settings.until + 1]])
    return Evaluation(index, "", "done", found.values, cost=time.perf_counter() - begun, seed=seed, rank=rank())


@dataclass(frozen=True, eq=False)
class _Found:
    """The values of a row, NaN where there is nothing to say."""

    values: Mapping[str, Array]
    settings: Evolve

    @classmethod
    def empty(cls, settings: Evolve, grid: tuple[int, ...]) -> _Found:
        return cls({q.name: np.full(q.sizes, np.nan) for q in quantities(settings, grid)}, settings)

    def put(self, factor: float, frame: Structures, given: Structures, truth: Structures | None) -> None:
        """Write down what is known of the frame at a factor of the given one's time."""
        k, v, spacing = self.settings.factors.index(factor), self.values, frame.specification.grid.spacing
        image = frame.values[:, 0].astype(np.float64)
        v["frame"][k], v["length"][k] = image[0], characteristic_lengths(image, spacing)[0]
        v["fraction"][k] = (image > self.settings.threshold).mean()
        v["mass"][k] = image.mean() - given.values.mean(dtype=np.float64)
        if truth is not None:
            right = truth.values[:, 0].astype(np.float64)
            v["error"][k] = root_mean_square(image - right)
            v["persistence"][k] = root_mean_square(given.values[:, 0] - right)
            v["true_length"][k] = characteristic_lengths(right, spacing)[0]
            v["true_fraction"][k] = (right > self.settings.threshold).mean()


def _truths(structures: Structures, series: Series, simulation: int, given: Structures, settings: Evolve) -> Truths:
    """Return the frames that the simulation has, by the factor of the given one's time."""
    time = float(given.properties[TIME][0])
    rows = {f: series.row_at(simulation, f * time) for f in settings.factors}
    return {f: None if row is None else structures[row] for f, row in rows.items()}


def _forward(found: _Found, forecaster: Forecaster, given: Structures, truths: Truths, seed: int) -> None:
    settings, time = found.settings, float(given.properties[TIME][0])
    factors = later(settings)
    if not factors:
        return
    times = [f * time for f in factors]
    simulator, spacing = forecaster.simulator, given.specification.grid.spacing
    if simulator is not None:
        found.values["given_energy"][...] = simulator.energies(given)[0]
    for factor, frame in zip(factors, forecaster.forward(given, times), strict=True):
        found.put(factor, frame, given, truths[factor])
        if simulator is not None:
            found.values["energy"][settings.factors.index(factor)] = simulator.energies(frame)[0]
            found.values[RELAXED][settings.factors.index(factor)] = frame.properties[RELAXED][0]
    many = given[np.zeros(settings.samples, dtype=np.int64)]
    for factor, frames in zip(factors, forecaster.forward(many, times, seed=seed), strict=True):
        lengths = characteristic_lengths(frames.values[:, 0].astype(np.float64), spacing)
        found.values["lengths"][settings.factors.index(factor)] = lengths


def _control(found: _Found, control: Forecaster, given: Structures, truths: Truths) -> None:
    """Write down the errors of later frames that the network on pixels predicts."""
    factors, time = later(found.settings), float(given.properties[TIME][0])
    for factor, frame in zip(factors, control.forward(given, [f * time for f in factors]), strict=True):
        truth = truths[factor]
        if truth is not None:
            error = root_mean_square(frame.values - truth.values)
            found.values["control"][found.settings.factors.index(factor)] = error


def _backward(found: _Found, forecaster: Forecaster, job: Job, given: Structures, truths: Truths, seed: int) -> None:
    settings, time = found.settings, float(given.properties[TIME][0])
    earlier = [factor for factor in settings.factors if factor < 1]
    if not earlier:
        return
    assert job.recipe.structures is not None
    spread = np.ones(0)  # not needed without a simulator
    if forecaster.simulator is not None:
        spread = generator_spread(*_frames(job.recipe.structures.path), job.train, given)
    right = two_point(given.values[:, 0].astype(np.float64))
    for factor in earlier:
        k = settings.factors.index(factor)
        made = ancestors(forecaster, given, factor * time, count=settings.samples, seed=seed)
        found.put(factor, made.samples[0], given, truths[factor])
        images = made.samples.values[:, 0].astype(np.float64)
        found.values["lengths"][k] = characteristic_lengths(images, given.specification.grid.spacing)
        if made.evolved is not None:
            off = np.abs(two_point(made.evolved.values[:, 0].astype(np.float64)) - right)
            found.values["misfit"][k] = (off / spread).max(axis=1)


def _interpolated(found: _Found, forecaster: Forecaster, frames: Structures) -> None:
    """Write down the errors of frames between the first and the last, and those of the nearer of these two."""
    times = frames.properties[TIME]
    for k in range(1, len(frames) - 1):
        made = forecaster.between(frames[0], frames[len(frames) - 1], float(times[k]))
        nearer = 0 if np.log(times[k] / times[0]) < np.log(times[-1] / times[k]) else len(frames) - 1
        for name, values in (("between", made.values), ("between_persistence", frames.values[[nearer]])):
            found.values[name][k - 1] = root_mean_square(values - frames.values[[k]])
