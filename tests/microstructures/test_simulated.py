"""Simulated structures: their fractions, their statistics, and that the seed decides them."""

from __future__ import annotations

import numpy as np
import pytest

from msvae_microstructures import processes
from msvae_microstructures.cahn_hilliard import CahnHilliard
from msvae_microstructures.simulated import Simulated


@pytest.mark.parametrize("process", ["gaussian-field", "spheres", "voronoi", "spinodal"])
@pytest.mark.parametrize("shape", [(16, 16), (8, 9, 10)])
def test_every_process_makes_two_phases_and_obeys_its_seed(process: str, shape: tuple[int, ...]) -> None:
    if process == "spinodal" and len(shape) == 3:
        shape = (6, 6, 6)
    made = Simulated(process=process, count=3, shape=shape, length=(3e-6, 3e-6), volume_fraction=(0.4, 0.6))  # type: ignore[arg-type]
    structures = made.load(seed=1)
    assert structures.specification.grid.shape == shape
    assert made.load(seed=1).ids == structures.ids
    assert made.load(seed=2).ids != structures.ids
    assert 0 < structures.fractions[:, 1].mean() < 1


def test_the_first_structures_do_not_depend_on_how_many_there_are() -> None:
    few, many = (Simulated(count=n, shape=(8, 8)).load(0) for n in (2, 5))
    assert few.ids == many.ids[:2]


def test_a_thresholded_field_has_the_asked_fraction_to_the_voxel() -> None:
    field = processes.gaussian_field((32, 32), np.random.default_rng(0), lengths=(4, 4))
    assert processes.thresholded(field, 0.25).sum() == 256


def test_a_gaussian_field_has_the_covariance_that_it_states() -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([processes.gaussian_field((64, 64), rng, lengths=(4.0, 8.0)) for _ in range(200)])
    for axis, length in ((1, 4.0), (2, 8.0)):
        for lag in (2, 4):
            found = (fields * np.roll(fields, lag, axis)).mean()
            assert found == pytest.approx(np.exp(-((lag / length) ** 2)), abs=0.03)


def test_overlapping_spheres_have_the_expected_fraction() -> None:
    rng = np.random.default_rng(0)
    found = np.mean([processes.overlapping_spheres((32, 32), rng, fraction=0.4, radius=3.0).mean() for _ in range(200)])
    assert found == pytest.approx(0.4, abs=0.02)


def test_voronoi_grains_have_the_asked_size() -> None:
    from scipy import ndimage

    labels = processes.voronoi(
        (128, 128), np.random.default_rng(0), grain=8.0, fractions=np.full(200, 1 / 200).tolist()
    )
    count = sum(ndimage.label(labels == k)[1] for k in np.unique(labels))
    assert count == pytest.approx((128 / 8) ** 2, rel=0.25)


def test_spinodal_decomposition_conserves_mass_and_separates_into_the_two_wells() -> None:
    start = 0.5 + np.random.default_rng(0).uniform(-0.05, 0.05, (32, 32))
    first, c = processes.spinodal(start, [0.0, 0.025])
    np.testing.assert_allclose(first, start)
    assert c.mean() == pytest.approx(start.mean(), abs=1e-9)
    assert (np.abs(c - 0.5) > 0.3).mean() > 0.6


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"count": 0}, "count"),
        ({"shape": (8,)}, "shape"),
        ({"volume_fraction": (0.0, 0.5)}, "volume_fraction"),
        ({"length": (2.0, 1.0)}, "length"),
        ({"spacing": -1.0}, "spacing"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Simulated(**settings)  # type: ignore[arg-type]


def test_frames_of_a_decomposition_coarsen_and_stay_together() -> None:
    structures = CahnHilliard(simulations=4, frames=3, shape=(32, 32)).load(0)
    assert structures.groups is not None
    assert structures.groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    np.testing.assert_allclose(structures.properties["time"][:3], [5e-4, 0.01275, 0.025])
    values = structures.values[:, 0].reshape(4, 3, 32, 32)
    np.testing.assert_allclose(values.mean(axis=(2, 3)), values[:, :1].mean(axis=(2, 3)) * np.ones((1, 3)), atol=1e-5)
    boundary = np.abs(np.diff(values, axis=2)).sum(axis=(2, 3))
    assert (boundary[:, 2] < boundary[:, 0]).all()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"simulations": 0}, "simulations"),
        ({"shape": (2, 2)}, "shape"),
        ({"mean": (1.5,)}, "mean"),
        ({"noise_grid": ()}, "noise_grid"),
        ({"height": (2.0, 1.0)}, "height"),
        ({"first": 1.0}, "first"),
    ],
)
def test_decompositions_that_mean_nothing_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CahnHilliard(**settings)  # type: ignore[arg-type]
