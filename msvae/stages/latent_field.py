"""The field of latents over a part, fitted to the part's own image or with given lengths; created once and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from msvae.errors import StudyError
from msvae.metrics.regional import autocorrelation
from msvae.sampling.fields.covariance import Coregionalization, Correlation
from msvae.sampling.fields.latent_field import LatentField, Observations
from msvae.sampling.fields.marginals import FlowMarginals, Marginals, NormalScores
from msvae.sampling.fields.settings import FieldSettings, Region
from msvae.seeds import seed_of
from msvae.stages.context import Context
from msvae.structures import Array, Grid, Structures
from msvae.vae.model import VAE

__all__ = ["FILE", "cells_of", "cut", "decoded_fractions", "encoded", "image_of", "latent_field", "matched"]

FILE = "latent_field.safetensors"
TRIALS = 3  # of the strength of a field's correlation
SAMPLED = 2000  # structures that are decoded in a trial, at least


def latent_field(context: Context, vae: VAE) -> Path:
    """Return the file with the run's field of latents, fitting it if need be."""
    path = context.run.path / FILE
    if not path.exists():
        settings = context.study.need(FieldSettings)
        field = _given(context, vae) if settings.lengths else _fitted(context, vae)
        if settings.observed:
            field = replace(field, given=_observed(context, vae, settings))
        field.save(path)
    return path


def image_of(context: Context) -> Structures:
    """Return the image (a batch of one) from which the data set's structures come; StudyError if there is none."""
    image = context.study.need_dataset().image(seed_of(context.study.seed, "dataset"))
    if image is None:
        raise StudyError(
            f"{context.study.source.at(['dataset'])}: it has no image of a whole part to cut structures from (for "
            "'simulated' set dataset.image_shape); or give field.lengths"
        )
    return image


def cut(image: Structures, size: tuple[int, ...], region: Region = (), key: str = "region") -> tuple[Structures, Array]:
    """Cut a region of an image into adjacent structures of a size; return them and their centres (n, d) in m."""
    whole = image.specification.grid
    region = region or tuple((0, n) for n in whole.shape)
    if len(region) != whole.dimensions or any(not a < b <= n for (a, b), n in zip(region, whole.shape, strict=True)):
        raise StudyError(f"field.{key}: found {region}, expected [first, end) inside {whole.shape} for every axis")
    counts = [(b - a) // s for (a, b), s in zip(region, size, strict=True)]
    if min(counts) < 1:
        raise StudyError(f"field.{key}: {region} holds no structure of {size} voxels: make it larger")
    corners = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), axis=-1).reshape(-1, len(size))
    first = corners * size + [a for a, _ in region]
    pieces = [image.values[0][(slice(None), *(slice(c, c + s) for c, s in zip(f, size, strict=True)))] for f in first]
    grid = Grid.of(size, whole.spacing, periodic=False)
    batch = Structures(np.stack(pieces), replace(image.specification, grid=grid))
    return batch, np.asarray((first + np.array(size) / 2) * whole.spacing)


def encoded(context: Context, vae: VAE, region: Region, key: str = "region") -> tuple[Structures, Array, Array]:
    """Cut and encode a region of the image; return structures, their latents (n, c) and centres (n, d) in m."""
    pieces, centres = cut(image_of(context), vae.blueprint.specification.grid.shape, region, key)
    return pieces, vae.encode(Structures(pieces.values, vae.blueprint.specification)), centres


def _observed(context: Context, vae: VAE, settings: FieldSettings) -> Observations:
    """Return the latents of the observed structures at their positions in the part."""
    spacing = np.array(vae.blueprint.specification.grid.spacing)
    if len(settings.origin) != len(spacing):
        raise StudyError(f"field.origin: found {settings.origin}, expected a voxel's number along each axis")
    _, latents, centres = encoded(context, vae, settings.observed, "observed")
    return Observations(centres - np.array(settings.origin) * spacing, latents)


def _fitted(context: Context, vae: VAE) -> LatentField:
    settings = context.study.need(FieldSettings)
    pieces, latents, centres = encoded(context, vae, settings.region)
    marginals: Any = FlowMarginals.of(vae) if settings.marginals == "flow" else "normal-score"
    field = LatentField.fit(centres, latents, trend=settings.trend, marginals=marginals)
    if not pieces.specification.is_discrete:
        return field
    return matched(field, vae, pieces, centres, seed_of(context.study.seed, "matched"))


def matched(field: LatentField, vae: VAE, pieces: Structures, centres: Array, seed: int) -> LatentField:
    """Return a field whose decoded neighbours correlate as those of the image do, in the fraction of the last phase.

    The decoder is nonlinear, so that decoded structures correlate less than their latents do. The correlation is raised
    until the means over samples agree. pieces: adjacent structures (n), at centres (n, d) in m.
    """
    shape = tuple(int(n) for n in np.round(np.ptp(centres, axis=0) / pieces.specification.grid.lengths) + 1)
    cells = cells_of(pieces.specification.grid, shape)
    wanted = autocorrelation(pieces.fractions[:, -1].reshape(shape), 1)
    factor, best, nearest = 1.0, field, np.inf
    for trial in range(TRIALS):
        tried = replace(field, covariance=field.covariance.strengthened(factor))
        drawn = tried.sample_on(cells, max(1, SAMPLED // len(pieces)), seed_of(seed, trial))
        found = float(np.mean([autocorrelation(decoded_fractions(vae, z, shape), 1) for z in drawn]))
        if abs(found - wanted) < nearest:
            best, nearest = tried, abs(found - wanted)
        if not found > 0 or not wanted > 0:
            break
        factor *= float(np.clip(wanted / found, 0.5, 2.0))
    return best


def cells_of(grid: Grid, shape: tuple[int, ...]) -> Grid:
    """Return the grid that has one voxel per structure, for a number of adjacent structures along each axis."""
    return Grid.of(shape, grid.lengths, periodic=False)


def decoded_fractions(vae: VAE, latents: Array, shape: tuple[int, ...]) -> Array:
    """Return the fractions (*shape) of the last phase in structures decoded from a grid of latents."""
    return vae.decode(np.asarray(latents).reshape(-1, vae.latents)).fractions[:, -1].reshape(shape)


def _given(context: Context, vae: VAE) -> LatentField:
    """Return a field with given lengths, whose latents have the distribution of the data set's latents."""
    settings = context.study.need(FieldSettings)
    latents = vae.encode(context.run.structures)
    marginals: Marginals = FlowMarginals.of(vae) if settings.marginals == "flow" else NormalScores(latents)
    scores = marginals.scores(latents)
    matrix = np.eye(vae.latents) if marginals.whitened else np.corrcoef(scores.T).reshape(vae.latents, vae.latents)
    covariance = Coregionalization.of(Correlation(settings.lengths, settings.smoothness), matrix)
    return LatentField(covariance, marginals, np.zeros((1, vae.latents)))
