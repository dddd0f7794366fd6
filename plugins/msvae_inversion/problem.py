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
from msvae_inversion.manifold.fitting import fit_charts
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
    value of an image, and the scatter of its pixels.
    """

    data: Array
    truth: Array
    candidates: Array
    chart: Array
    latents: Array
    calibration: Array
    calibration_data: Array
    levels: Array


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
        return self.model(image.reshape(1, *self.grid))[0]

    def objective(self, data: Array) -> Objective:
        """Return half of the mean squared misfit over the noise's variance, as a function of an image (p,)."""
        y = torch.as_tensor(data)

        def misfit(image: Tensor) -> Tensor:
            value = ((self.model_of_pixels(image) - y) ** 2).mean() / (2 * self.settings.noise**2)
            if not torch.isfinite(value):
                raise DataError("forward: the model gives data that are not finite for an image on the way: mend it")
            return value

        return misfit


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
        simulator = model.for_data()
        checked(model, images[0])
        return np.stack([_noisy(settings, simulator, image, seed_of(seed, "noise", k))
                         for k, image in enumerate(images)])  # fmt: skip
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


def _measured(settings: Invert, charts: ImageCharts, model: ForwardModel, images: Array, seed: int) -> dict[str, Array]:
    """Return what candidates and images for calibration give, and where candidates are on the charts."""
    spread = np.arange(1, settings.candidates + 1) * len(images) // (settings.candidates + 1)
    places = [place_of(charts, torch.as_tensor(images[k].ravel())) for k in spread]
    with torch.no_grad():
        made = [charts.decode(k, z[None])[0].reshape(images.shape[1:]).numpy() for k, z in places]
    few = images[: max(1, min(CALIBRATION, len(images)))]
    simulator = model.for_data()
    return {
        "candidates": np.stack([checked(model, image) for image in made]),
        "chart": np.array([k for k, _ in places]),
        "latents": np.stack([z.numpy() for _, z in places]),
        "calibration": few.reshape(len(few), -1),
        "calibration_data": np.stack(
            [_noisy(settings, simulator, image, seed_of(seed, "calibration", k)) for k, image in enumerate(few)]
        ),
        "levels": np.array([images.min(), images.max(), math.sqrt(images.reshape(len(images), -1).var(axis=0).mean())]),
    }
