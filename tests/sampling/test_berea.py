"""Berea sandstone: what SVEs of one part of a core say of the porosity of blocks of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from msvae import Grid
from msvae.sampling.latent_field import LatentField

SIZE, SPACING = 25, 50e-6  # voxels along an SVE's edge, and that edge in m


def porosities(image: Any) -> Any:
    """Return the porosity (*cells) of every SVE of an image (*voxels) of pores."""
    n = [k // SIZE for k in image.shape]
    cut = image[: n[0] * SIZE, : n[1] * SIZE, : n[2] * SIZE]
    return cut.reshape(n[0], SIZE, n[1], SIZE, n[2], SIZE).mean(axis=(1, 3, 5))


def blocks(cells: Any) -> Any:
    """Return the mean of every block of four cells' edge."""
    n = [k // 4 for k in cells.shape]
    cut = cells[: n[0] * 4, : n[1] * 4, : n[2] * 4]
    return cut.reshape(n[0], 4, n[1], 4, n[2], 4).mean(axis=(1, 3, 5)).ravel()


def autocorrelation(cells: Any, lag: int) -> float:
    """Return the correlation of cells this far from each other along an axis, averaged over the axes."""
    rest = cells - cells.mean()
    found = []
    for axis in range(3):
        n = cells.shape[axis]
        near, far = (np.take(rest, range(*ends), axis) for ends in ((0, n - lag), (lag, n)))
        found.append((near * far).mean() / cells.var())
    return float(np.mean(found))


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
    real = blocks(other).std(ddof=1)
    found = np.mean([blocks(part).std(ddof=1) for part in parts])
    assert 0.8 < found / real < 1.25
    shuffled = [np.random.default_rng(k).permutation(part.ravel()).reshape(part.shape) for k, part in enumerate(parts)]
    assert np.mean([blocks(part).std(ddof=1) for part in shuffled]) / real < 0.8
