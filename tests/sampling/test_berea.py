"""Berea sandstone: what SVEs of one part of a core say of the porosity of blocks of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from msvae import Grid, Run, Structures
from msvae.campaigns.launch import launch
from msvae.metrics.regional import autocorrelation, block_scatter
from msvae.sampling.fields.latent_field import LatentField
from msvae.stages.latent_field import cut, matched

SIZE, SPACING = 25, 50e-6  # voxels along an SVE's edge, and that edge in m


def porosities(image: Any) -> Any:
    """Return the porosity (*cells) of every SVE of an image (*voxels) of pores."""
    n = [k // SIZE for k in image.shape]
    cut = image[: n[0] * SIZE, : n[1] * SIZE, : n[2] * SIZE]
    return cut.reshape(n[0], SIZE, n[1], SIZE, n[2], SIZE).mean(axis=(1, 3, 5))


def test_the_scatter_of_blocks_is_that_of_the_sandstone_and_that_of_uncorrelated_cells_is_not(data: Path) -> None:
    """Fitted to z < 128, compared with z >= 144: porosity of SVEs of 25^3 voxels and of blocks of 100^3."""
    pores = tifffile.imread(data / "berea" / "berea.tif") == 0
    known, other = porosities(pores[:128]), porosities(pores[144:])
    axes = [(np.arange(n) + 0.5) * SPACING for n in known.shape]
    centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    field = LatentField.fit(centres, known.reshape(-1, 1))
    parts = field.sample_on(Grid.of((8, 16, 16), SPACING, periodic=False), 20, seed=0)[..., 0]
    assert abs(np.mean([autocorrelation(part, 1) for part in parts]) - 0.18) < 0.05
    assert np.mean([autocorrelation(part, 2) for part in parts]) < 0.08
    real = block_scatter(other, 4)
    found = np.mean([block_scatter(part, 4) for part in parts])
    assert 0.8 < found / real < 1.25
    shuffled = [np.random.default_rng(k).permutation(part.ravel()).reshape(part.shape) for k, part in enumerate(parts)]
    assert np.mean([block_scatter(part, 4) for part in shuffled]) / real < 0.8


@pytest.mark.slow
def test_decoded_parts_scatter_as_the_sandstone_does(data: Path, tmp_path: Path) -> None:
    """The same with a VAE: its latents are the field, and what they decode to has the porosities."""
    tiff = data / "berea" / "berea.tif"
    study = f"""
campaign = "train"
[dataset]
name = "tiff"
path = "{tiff}"
dimensions_of = 3
labels = [255, 0]
patch = [25, 25, 25]
region = [[0, 128], [0, 400], [0, 400]]
spacing = 2e-6
[model]
latents = 24
[training]
epochs = 30
precision = "bfloat16"
"""
    (tmp_path / "study.toml").write_text(study)
    launch(tmp_path / "study.toml", tmp_path / "run")
    run = Run.open(tmp_path / "run")
    vae, loaded = run.model, run.study.need_dataset()
    image = loaded.image(0)
    assert image is not None
    pieces, centres = cut(image, (SIZE,) * 3, ((0, 128), (0, 400), (0, 400)))
    latents = vae.encode(Structures(pieces.values, vae.blueprint.specification))
    field = matched(LatentField.fit(centres, latents), vae, pieces, centres, seed=1)
    grid = Grid.of((8, 16, 16), SIZE * 2e-6, periodic=False)
    sampled = field.sample_on(grid, 3, seed=0)
    parts = [vae.decode(z.reshape(-1, vae.latents)).fractions[:, 1].reshape(grid.shape) for z in sampled]
    found = [np.mean([autocorrelation(part, lag) for part in parts]) for lag in (1, 2)]
    real = block_scatter(porosities(image.labels[0, 144:] == 1), 4)
    scatter = np.mean([block_scatter(part, 4) for part in parts]) / real
    loose = [np.random.default_rng(k).permutation(part.ravel()).reshape(part.shape) for k, part in enumerate(parts)]
    control = np.mean([block_scatter(part, 4) for part in loose]) / real
    assert abs(found[0] - 0.18) < 0.05, (found, scatter, control)
    assert found[1] < 0.08, (found, scatter, control)
    assert 0.8 < scatter < 1.25, (found, scatter, control)
    assert control < scatter, (found, scatter, control)
