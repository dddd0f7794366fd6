"""What a worker needs of an inversion: charts, data and starts, kept in two files of the run."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from msvae import Array, Context, DataError, Recipe, Structures, Study, seed_of, study_of, write_atomically
from msvae_inversion.invert import Charts, Forward, Invert
from msvae_inversion.manifold.charts import ImageCharts, Shape, charts_from_bytes, charts_to_bytes
from msvae_inversion.manifold.descent import Objective, place_of
from msvae_inversion.manifold.fitting import fit_charts, unseen
from msvae_inversion.manifold.posterior import Likelihood
from msvae_inversion.models.forward import ForwardModel, checked, forward_model

__all__ = ["CHARTS", "MEASURED", "Measured", "Problem", "prepared", "problem_of"]

CHARTS, MEASURED = "charts.npz", "measured.npz"
CALIBRATION = 2  # images of the charts on which the weights of controls are chosen


@dataclass(frozen=True)
class Measured:
    """The data of an inversion.

    data: (images, m). truth: (images, p), NaN where it is not known. candidates: (c, m), what would be measured of
    images of the charts; chart: (c,) and latents: (c, d) say where these are. calibration: (q, p), images that charts
    were fitted to, and calibration_data (q, m). levels: lowest and highest
    value of an image, and the scatter of its pixels. errors: (e, m), of charts and model in the data of unseen images.
    unseen: (u, p), such images, and unseen_data: (u, m), theirs.
    """

    data: Array
    truth: Array
    candidates: Array
    chart: Array
    latents: Array
    calibration: Array
    calibration_data: Array
    levels: Array
    errors: Array
    unseen: Array
    unseen_data: Array


@dataclass(frozen=True)
class Problem:
    """The inverse problem of a run, as a worker sees it."""

    settings: Invert
    charts: ImageCharts
    model: ForwardModel
    measured: Measured
    grid: tuple[int, ...]
    seed: int

    def model_of_pixels(self, image: Tensor) -> Tensor:
        """Return the data (m,) of an image (p,)."""
        return self.model(self.cut(image).reshape(1, *self.grid))[0]

    def cut(self, image: Tensor) -> Tensor:
        """Return an image as the model sees it."""
        low, high, _ = map(float, self.measured.levels)
        return image.clamp(low, high) if self.settings.cut else image

    def pushed(self, image: Tensor, directions: Tensor) -> Tensor:
        """Return the derivatives (m, d) of the data of an image (p,) along directions (d, p)."""
        seen = self.cut(image)
        return self.model.derivatives(seen.reshape(self.grid), (directions * (seen == image)).reshape(-1, *self.grid))

    def likelihood(self, measured: Array, misfit: float) -> Likelihood:
        """Return the likelihood of measured data (m,), with the errors of the model beside the noise.

        Where they are not known, what the best image on the charts cannot explain (misfit, over the noise) is added to
        the noise.
        """
        data, errors, noise = torch.as_tensor(measured), self.measured.errors, self.settings.noise
        weight = torch.tensor(1 / (noise * max(1.0, misfit)), dtype=data.dtype)
        if len(errors):
            data, weight = data - torch.as_tensor(errors.mean(axis=0)), _weight(errors, noise)
        return Likelihood(self.model_of_pixels, self.pushed, data, weight)

    def objective(self, data: Array) -> Objective:
        """Return half of the mean squared misfit over the noise's variance, as a function of an image (p,)."""
        y = torch.as_tensor(data)

        def misfit(image: Tensor) -> Tensor:
            value = ((self.model_of_pixels(image) - y) ** 2).mean() / (2 * self.settings.noise**2)
            if not torch.isfinite(value):
                raise DataError("forward: the model gives data that are not finite for an image on the way: mend it")
            return value

        return misfit


def _weight(errors: Array, noise: float) -> Tensor:
    """Return W (m, m) with W^T W the inverse of noise^2 I + the covariance of errors (e, m), which is shrunk."""
    from sklearn.covariance import ledoit_wolf

    covariance = torch.as_tensor(ledoit_wolf(errors)[0]) + noise**2 * torch.eye(errors.shape[1], dtype=torch.float64)
    lower = torch.linalg.cholesky(covariance)
    weight: Tensor = torch.linalg.solve_triangular(lower, torch.eye(len(lower), dtype=lower.dtype), upper=False)
    return weight


@lru_cache(maxsize=2)
def problem_of(recipe: Recipe, charts: str, changed: tuple[int, ...]) -> Problem:
    """Return the problem of a run's files. charts: their path. changed: times that tell versions of the files."""
    study = study_of(recipe.study)
    folder = Path(charts).parent
    with np.load(folder / MEASURED, allow_pickle=False) as arrays:
        measured = Measured(**{name: arrays[name] for name in arrays.files if name != "grid"})
        shape, spacing = arrays["grid"]
    structures = Structures.from_values(np.zeros((1, *shape.astype(int))), tuple(spacing), periodic=False)
    grid = structures.specification.grid
    model = forward_model(study.need(Forward), grid, seed=study.seed, solver=study.solver)
    charts_ = charts_from_bytes((folder / CHARTS).read_bytes())
    return Problem(study.need(Invert), charts_, model, measured, grid.shape, study.seed)


def prepared(context: Context, settings: Invert, structures: Structures) -> tuple[str, tuple[int, ...]]:
    """Fit the charts and measure, unless the run has both; return what `problem_of` is given of them."""
    paths = [context.run.path / name for name in (CHARTS, MEASURED)]
    if not all(path.is_file() for path in paths):
        study_of(context.recipe(model=None).study)  # sets the study's threads, whose number changes the last digits
        torch.set_num_threads(context.study.executor.threads)
        images = _images(structures)
        held_out = _held_out(settings, len(images))
        kept = _kept(len(images), held_out, settings.gap)
        grid = structures.specification.grid
        model = forward_model(context.study.need(Forward), grid, seed=context.study.seed, solver=context.study.solver)
        data = _data(settings, model, images[held_out].reshape(-1, *grid.shape), context.study.seed)
        charts = _fitted(context.study, images[kept])
        write_atomically(paths[0], charts_to_bytes(charts))
        measured = _measured(settings, charts, model, images[kept].reshape(-1, *grid.shape), context.study.seed)
        truth = images[held_out] if settings.data is None else np.full((len(data), images.shape[1]), np.nan)
        measured |= {"data": data, "truth": truth, "grid": np.array([grid.shape, grid.spacing], dtype=float)}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **measured)
        write_atomically(paths[1], buffer.getvalue())
    return str(paths[0].resolve()), tuple(path.stat().st_mtime_ns for path in paths)


def _images(structures: Structures) -> Array:
    """Return the values of structures as images (n, p); DataError if they have several channels."""
    if structures.values.ndim < 3 or structures.values.shape[1] != 1:
        raise DataError(
            f"dataset: '{structures.specification.kind}' of {structures.values.shape[1]} channels cannot be inverted: "
            "give images of phases or grey values"
        )
    return np.asarray(structures.values[:, 0], dtype=np.float64).reshape(len(structures), -1)


def _held_out(settings: Invert, count: int) -> Array:
    """Return the indices of the images that are measured."""
    if settings.data is not None:
        return np.zeros(0, dtype=int)
    chosen = np.array(settings.images or range(max(0, count - settings.count), count))
    if chosen.max() >= count:
        raise DataError(f"invert.images: found {chosen.max()}, the data set has images 0 to {count - 1}")
    return chosen


def _kept(count: int, held_out: Array, gap: int) -> Array:
    """Return the indices of the images that charts are fitted to."""
    near = held_out[:, None] + np.arange(-gap, gap + 1)
    kept = np.setdiff1d(np.arange(count), near)
    if not len(kept):
        raise DataError(f"invert.gap: {gap} images around each measured one leave none of {count}: lower it")
    return kept


def _fitted(study: Study, images: Array) -> ImageCharts:
    own = study.find(Charts) or Charts()
    shape = Shape(own.count, own.dimensions, own.components, images.shape[1], own.width)
    return fit_charts(images, shape, epochs=own.epochs, seed=study.seed)


def _data(settings: Invert, model: ForwardModel, images: Array, seed: int) -> Array:
    """Return the data (images, m): those of a file, or simulated ones with noise."""
    if settings.data is None:
        checked(model, images[0])
        return _simulated(settings, model, images, seed)
    if not settings.data.is_file():  # only here: a run is read where the file is not
        raise DataError(
            f"invert.data: '{settings.data}' is not a file: give a .npy file with a row of data for each image, or "
            "leave the key out to simulate them"
        )
    try:
        data = np.asarray(np.load(settings.data, allow_pickle=False), dtype=np.float64)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"invert.data: '{settings.data}' is no .npy file of numbers ({error}): write it anew") from None
    if data.ndim != 2 or not len(data) or not np.isfinite(data).all():
        raise DataError(
            f"invert.data: '{settings.data}' holds an array {data.shape}, expected finite numbers, a row for each image"
        )
    return data


def _noisy(settings: Invert, model: ForwardModel, image: Array, seed: int) -> Array:
    data = checked(model, image)
    return np.asarray(data + settings.noise * np.random.default_rng(seed).standard_normal(data.shape))


def _errors(settings: Invert, charts: ImageCharts, model: ForwardModel, images: Array) -> Array:
    """Return the errors (e, m) of charts and model in the data of images (n, *grid)."""
    simulator = model.for_data()
    low, high = (images.min(), images.max()) if settings.cut and len(images) else (-np.inf, np.inf)
    found = [checked(simulator, x) - checked(model, _on_charts(charts, x)[2].clip(low, high)) for x in images]
    return np.array(found).reshape(len(found), -1 if found else 0)


@torch.no_grad()
def _on_charts(charts: ImageCharts, image: Array) -> tuple[int, Array, Array]:
    """Return chart and latents (d,) of an image (*grid), and the image there."""
    k, z = place_of(charts, torch.as_tensor(image.ravel()))
    return k, z.numpy(), charts.decode(k, z[None])[0].reshape(image.shape).numpy()


def _measured(settings: Invert, charts: ImageCharts, model: ForwardModel, images: Array, seed: int) -> dict[str, Array]:
    """Return what candidates and images for calibration give, where candidates are on the charts, and model errors."""
    spread = np.arange(1, settings.candidates + 1) * len(images) // (settings.candidates + 1)
    places = [_on_charts(charts, images[k]) for k in spread]
    few = images[: max(1, min(CALIBRATION, len(images)))]
    for_errors, for_width = (images[rows] for rows in _parts(settings, len(images)))
    return {
        "candidates": np.stack([checked(model, image) for *_, image in places]),
        "chart": np.array([k for k, *_ in places]),
        "latents": np.stack([z for _, z, _ in places]),
        "calibration": few.reshape(len(few), -1),
        "calibration_data": _simulated(settings, model, few, seed_of(seed, "calibration")),
        "levels": np.array([images.min(), images.max(), math.sqrt(images.reshape(len(images), -1).var(axis=0).mean())]),
        "errors": _errors(settings, charts, model, for_errors),
        "unseen": for_width.reshape(len(for_width), images[0].size),
        "unseen_data": _simulated(settings, model, for_width, seed_of(seed, "unseen")),
    }


def _parts(settings: Invert, count: int) -> tuple[Array, Array]:
    """Return which of `count` images, none of which the charts have seen, tell model errors and width of intervals."""
    rows, asked = unseen(count), settings.model_errors + settings.calibration
    if asked and (len(rows) < asked or settings.model_errors == 1):
        raise DataError(
            f"invert.model_errors, calibration: {asked} unseen images are asked for, of {count} the charts leave "
            f"{len(rows)}: take from 2 to so many, or add images"
        )
    spread = rows[np.arange(asked) * len(rows) // max(1, asked)]
    chosen = np.zeros(asked, dtype=bool)
    chosen[np.arange(settings.calibration) * asked // max(1, settings.calibration)] = True
    return spread[~chosen], spread[chosen]


def _simulated(settings: Invert, model: ForwardModel, images: Array, seed: int) -> Array:
    """Return noisy data (n, m) of images (n, *grid)."""
    simulator = model.for_data()
    data = [_noisy(settings, simulator, image, seed_of(seed, "noise", k)) for k, image in enumerate(images)]
    return np.array(data).reshape(len(data), -1 if data else 0)
