"""Windows: a part is covered evenly, blended without seams, and keeps what its windows hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msvae import VAE, DataError, Grid, Run, Specification, Structures
from msvae.campaigns.launch import launch
from msvae.sampling.fields.covariance import Coregionalization, Correlation
from msvae.sampling.fields.gaussian_field import field_at
from msvae.sampling.fields.windows import Windows

SQUARE = Specification("phases", 1, Grid.of((8, 8), 1.0, periodic=False), ("matrix", "pore"))


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("shape", [(8, 8), (21, 33), (5, 64)])
def test_weights_add_up_to_one_and_a_part_cut_into_windows_is_put_together_again(
    overlap: float, shape: tuple[int, int]
) -> None:
    windows = Windows(SQUARE, Grid.of(shape, 1.0, periodic=False), overlap)
    image = np.random.default_rng(0).standard_normal(shape)
    wide = np.pad(image, 16)

    def pieces() -> list[np.ndarray]:
        return [wide[None, r + 16 : r + 24, c + 16 : c + 24] for r, c in windows.corners]

    np.testing.assert_allclose(windows.blend(lambda: iter(pieces()))[0], image, atol=1e-5)
    total = np.zeros(np.array(shape) + 32)
    for r, c in windows.corners:
        total[r + 16 : r + 24, c + 16 : c + 24] += windows.weight
    np.testing.assert_allclose(total[16:-16, 16:-16], 1.0, atol=1e-12)
    assert (windows.centres >= 0).all()


@pytest.fixture
def vae(study_file: Callable[..., Path], tmp_path: Path) -> VAE:
    study = study_file("train")
    launch(study, tmp_path / "run", overrides=["dataset.count=200", "training.epochs=20", "model.latents=6"])
    return Run.open(tmp_path / "run").model


def windows_of(vae: VAE, shape: tuple[int, int]) -> Windows:
    grid = Grid.of(shape, vae.blueprint.specification.grid.spacing, periodic=False)
    return Windows(vae.blueprint.specification, grid, 0.5)


def grid_pattern(windows: Windows, part: Structures) -> float:
    """Return the amplitude of the windows' own period in how often neighbouring voxels differ, over the mean."""
    labels, (step, _) = part.labels[0].astype(int), windows.steps
    rates = [np.abs(np.diff(labels, axis=a)).mean(axis=1 - a) for a in (0, 1)]
    places = np.arange(1, len(labels)) % step
    by_place = np.mean([[r[places == k].mean() for k in range(step)] for r in rates], axis=0)
    return float(2 * np.abs(np.fft.rfft(by_place / by_place.mean())[1]) / step)


@pytest.mark.slow
def test_patches_that_settle_keep_no_trace_of_the_windows_grid_and_groups_get_their_fractions(vae: VAE) -> None:
    windows = windows_of(vae, (128, 128))
    latents = vae.sample_latents(len(windows.corners), 1)
    patched = windows.patched(vae, latents, 3)
    np.testing.assert_array_equal(windows.patched(vae, latents, 3).values, patched.values)
    assert patched.values.shape == (1, 1, 128, 128)
    assert abs(patched.fractions[0, 1] - vae.decode(latents).fractions[:, 1].mean()) < 0.05
    settled = windows.settled(vae, windows.settled(vae, patched, 4, 0, drawn=True), 1, 1)
    along = windows.centres[:, 0] / windows.part.lengths[0]
    groups, asked = (along > 0.5).astype(int), np.where(along > 0.5, 0.55, 0.35)
    part = windows.levelled(vae, windows.smoothed(vae, settled), asked, groups)
    inner, found = windows.inner, windows.cut(part).fractions[:, 1]
    for group in (0, 1):
        own = inner & (groups == group)
        assert found[own].mean() == pytest.approx(asked[own].mean(), abs=0.01)
    blended = windows.fill(vae, latents)
    assert grid_pattern(windows, part) < 0.5 * grid_pattern(windows, blended)


def test_a_field_of_latents_becomes_a_part_without_seams(vae: VAE) -> None:
    windows = windows_of(vae, (64, 64))
    grid = windows.part
    step = windows.steps[0] * grid.spacing[0]
    model = Coregionalization.of(Correlation((2 * step, 2 * step)), np.eye(6))
    crossings, interior, fractions = [], [], []
    for seed in range(4):
        latents = field_at(model, windows.centres, seed).T
        part = windows.fill(vae, latents)
        assert part.values.shape == (1, 1, 64, 64)
        rows = part.labels[0].astype(int)
        jumps = np.abs(np.diff(rows, axis=0)).mean(axis=1)
        borders = np.isin(np.arange(1, 64), windows.corners[:, 0])
        crossings.append(jumps[borders].mean())
        interior.append(jumps[~borders].mean())
        whole = vae.decode(latents)
        fractions.append((part.fractions[0, 1], whole.fractions[:, 1].mean()))
    assert np.mean(crossings) <= 1.1 * np.mean(interior)
    found, expected = np.array(fractions).T
    assert np.abs(found - expected).max() < 0.08
    with pytest.raises(DataError, match="windows, found latents of 3"):
        windows.fill(vae, np.zeros((3, 6)))


def test_windows_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="of its own spacing"):
        Windows(SQUARE, Grid.of((9, 9), 2.0))
    with pytest.raises(DataError, match=r"0 to 0\.5"):
        Windows(SQUARE, Grid.of((9, 9), 1.0), 0.7)
