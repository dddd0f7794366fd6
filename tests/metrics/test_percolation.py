"""Critical distances against closed forms, the definition by tiling, and what they say of permeability."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from msvae import load_solver
from msvae.metrics.percolation import critical_distances, winding
from msvae.structures import Structures


def test_channels_have_their_widths() -> None:
    """Two channels along one axis, of 4 and of 2 voxels; none along the other, for which walls would have to move."""
    image = np.zeros((1, 16, 12), dtype=bool)
    image[0, 1:5], image[0, 8:10] = True, True
    found = critical_distances(image, (2e-6, 2e-6))
    assert found[0, 1] == pytest.approx(1.5 * 2e-6)  # of the middle of the wider one, from voxel centres
    assert found[0, 0] == pytest.approx(-3.5 * 2e-6)  # both walls have to be crossed, the wider one is of 7 voxels
    turned = critical_distances(image.transpose(0, 2, 1), (2e-6, 2e-6))
    np.testing.assert_allclose(turned[0], found[0, ::-1])


def test_a_phase_that_is_everywhere_or_nowhere() -> None:
    images = np.stack([np.ones((4, 6), dtype=bool), np.zeros((4, 6), dtype=bool)])
    np.testing.assert_allclose(critical_distances(images, (1.0, 1.0)), [[3.0, 3.0], [-3.0, -3.0]])
    assert critical_distances(images[:0], (1.0, 1.0)).shape == (0, 2)


@pytest.mark.parametrize("shape", [(12, 9), (7, 8, 6)])
def test_a_path_winds_where_three_periods_of_it_are_one_cluster(shape: tuple[int, ...]) -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(40):
        image = ndimage.gaussian_filter(rng.standard_normal(shape), 1.0, mode="wrap") > rng.uniform(-0.1, 0.2)
        labels, _ = ndimage.label(np.tile(image, (3,) * len(shape)))
        middle = labels[tuple(slice(n, 2 * n) for n in shape)]
        for axis, n in enumerate(shape):
            after = labels[tuple(slice(2 * m, 3 * m) if a == axis else slice(m, 2 * m) for a, m in enumerate(shape))]
            joined = bool(((middle == after) & (middle > 0)).any())
            assert winding(image)[axis] == joined, (axis, n)
            seen.add(joined)
    assert seen == {True, False}


def test_diagonal_paths_wind_along_both_axes() -> None:
    image = np.eye(5, dtype=bool) | np.roll(np.eye(5, dtype=bool), 1, axis=1)
    assert winding(image).tolist() == [True, True]


def test_permeable_structures_are_those_with_a_way_along_every_axis_and_wider_ways_are_more_permeable() -> None:
    rng = np.random.default_rng(1)
    fields = [ndimage.gaussian_filter(rng.standard_normal((12, 12, 12)), 1.5, mode="wrap") for _ in range(40)]
    labels = np.stack([f > np.quantile(f, rng.uniform(0.5, 0.9)) for f in fields])
    critical = critical_distances(labels, (1e-6,) * 3)
    solver = load_solver("permeability", pores=1)
    found = solver.evaluate(Structures.from_labels(labels.astype(int), 1e-6, phases=2))["permeability"]
    known = (np.diagonal(found, axis1=1, axis2=2) > 0).all(axis=1)
    assert 5 < known.sum() < 35
    np.testing.assert_array_equal((critical > 0).all(axis=1), known)
    diagonal = found[known][:, range(3), range(3)]
    assert np.corrcoef(np.log(diagonal).ravel(), critical[known].ravel())[0, 1] > 0.7
