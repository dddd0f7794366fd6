"""The simulator of Cahn-Hilliard frames: mass, free energy, and frames that go on as the simulation does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from msvae import DataError, Simulator
from msvae.campaigns.launch import launch
from msvae_evolution.measures import characteristic_lengths, growth_exponent, two_point
from msvae_evolution.tiff_series import TiffSeries
from msvae_microstructures import processes
from msvae_microstructures.cahn_hilliard import CahnHilliard


def test_mass_is_kept_and_free_energy_never_rises() -> None:
    rng = np.random.default_rng(0)
    start = 0.6 + rng.uniform(-0.05, 0.05, (32, 32))
    frames = processes.spinodal(start, 5e-6 * np.arange(200), height=85.0, gradient=0.0175)
    mass = frames.mean(axis=(1, 2))
    assert np.abs(mass / mass[0] - 1).max() < 1e-10
    energies = [processes.spinodal_energy(c, height=85.0, gradient=0.0175) for c in frames]
    assert (np.diff(energies) <= 1e-12 * energies[0]).all()


def test_the_energy_of_a_wave_is_the_integral_by_hand() -> None:
    x = np.arange(64) / 64
    c = np.broadcast_to(0.5 + 0.1 * np.cos(2 * np.pi * x)[:, None], (64, 64))
    bulk = ((c * (1 - c)) ** 2).mean()
    slope = 0.5 * (0.1 * 2 * np.pi) ** 2 / 2
    assert processes.spinodal_energy(c, height=3.0, gradient=0.2) == pytest.approx(3.0 * bulk + 0.2 * slope)


def test_a_frame_goes_on_as_its_simulation() -> None:
    dataset = CahnHilliard(simulations=2, frames=3, shape=(16, 16), first=5e-4, duration=1.5e-3)
    assert isinstance(dataset, Simulator)
    frames = dataset.load(0)
    ahead = dataset.advance(frames[[0, 3]], 5e-4, 1.5e-3)
    np.testing.assert_allclose(ahead.values, frames.values[[2, 5]], atol=1e-5)
    np.testing.assert_array_equal(ahead.properties["time"], 1.5e-3)
    energies = dataset.energies(frames).reshape(2, 3)
    assert (np.diff(energies, axis=1) < 0).all()
    with pytest.raises(ValueError, match="runs forward in time"):
        dataset.advance(frames, 1e-3, 5e-4)


def test_measures_of_a_wave_and_of_a_power_law() -> None:
    x = np.arange(32) / 32
    wave = np.broadcast_to(np.cos(2 * np.pi * 4 * x), (1, 32, 32))
    assert characteristic_lengths(wave, (1 / 32, 1 / 32))[0] == pytest.approx(0.25)
    along = 0.5 * np.cos(2 * np.pi * 4 * x[:17])
    np.testing.assert_allclose(two_point(wave)[0], 0.5 * (along + 0.5), atol=1e-12)
    times = np.array([1.0, 2.0, 5.0])
    assert growth_exponent(times, np.array([[2.0], [3.0]]) * times ** (1 / 3)) == pytest.approx(1 / 3)


def test_a_folder_of_tiff_files_is_a_series_each(tmp_path: Path) -> None:
    stack = (np.random.default_rng(0).random((3, 2, 8, 8)) * 255).astype(np.uint8)
    for k, pages in enumerate(stack):
        tifffile.imwrite(tmp_path / f"{k}.tif", pages)
    frames = TiffSeries(tmp_path, times=(1.0, 2.0)).load(0)
    np.testing.assert_allclose(frames.values[:, 0], stack.reshape(-1, 8, 8) / 255, atol=1e-6)
    np.testing.assert_array_equal(frames.groups, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(frames.properties["time"], [1, 2, 1, 2, 1, 2])
    with pytest.raises(DataError, match="has 2 frames, found 3 times"):
        TiffSeries(tmp_path, times=(1.0, 2.0, 3.0)).load(0)


def test_frames_of_an_instrument_evolve_without_a_simulator(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    frames = CahnHilliard(simulations=8, frames=2, shape=(16, 16), first=5e-4, duration=1e-3).load(0)
    for k, pages in enumerate(frames.values.reshape(8, 2, 16, 16)):
        tifffile.imwrite(folder / f"{k}.tif", pages)
    study = f"""
campaign = "evolve"
[dataset]
name = "tiff-series"
path = "{folder}"
times = [1.0, 2.0]
[architecture]
name = "convolutional"
[model]
latents = 4
features = 16
[training]
epochs = 2
held_back = 0.5
[evolve]
epochs = 2
width = 16
samples = 2
"""
    (tmp_path / "study.toml").write_text(study)
    table = launch(tmp_path / "study.toml", tmp_path / "run")
    assert table is not None
    assert float(table.rows[0][2]) > 0
    with pytest.raises(DataError, match="no property 'time'"):
        launch(tmp_path / "study.toml", tmp_path / "other", overrides=["dataset.times=[]"])
