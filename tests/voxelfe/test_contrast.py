"""Phases that differ by many decades: perfect conductors, rigid inclusions, laminates of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Structures


def ball(n: int = 12) -> np.ndarray:
    places = np.indices((n, n, n)) - (n - 1) / 2
    return ((places**2).sum(axis=0) < (0.35 * n) ** 2).astype(int)


def tensor(name: str, labels: np.ndarray, *moduli: float, **settings: Any) -> np.ndarray:
    if name == "elasticity":
        phases = [{"youngs_modulus": e, "poissons_ratio": 0.3} for e in moduli]
    else:
        phases = [{"conductivity": k} for k in moduli]
    found = msvae.load_solver(name, phases=phases, **settings).evaluate(
        Structures.from_labels(labels[None], periodic=settings.get("boundary") != "auto")
    )
    assert isinstance(found, msvae.Properties)
    assert not found.failures
    return np.asarray(next(iter(found.values()))[0])


@pytest.mark.parametrize("host", [1.0, 1e-14])
@pytest.mark.parametrize("name", ["conductivity", "elasticity"])
def test_isolated_inclusions_tend_to_the_limits_of_infinite_and_of_no_modulus(name: str, host: float) -> None:
    """The property is a smooth function of the inverse ratio; at 1e3 it is a few times 1e-3 from the limit."""
    rigid = tensor(name, ball(), host, 1e21 * host)
    empty = tensor(name, ball(), host, 0.0)
    for ratio in (1e5, 1e8, 1e12, 1e16):
        np.testing.assert_allclose(tensor(name, ball(), host, ratio * host), rigid, rtol=1e-3, atol=1e-6 * host)
        np.testing.assert_allclose(tensor(name, ball(), host, host / ratio), empty, rtol=1e-3, atol=1e-6 * host)
    near, nearer = (tensor(name, ball(), host, ratio * host)[0, 0] for ratio in (1e3, 1e4))
    assert nearer + (nearer - near) / 9 == pytest.approx(rigid[0, 0], rel=1e-4)  # extrapolated from ordinary solutions


def test_a_perfect_conductor_in_the_dilute_limit_is_maxwells() -> None:
    """Maxwell 1873: k = k0 (1 + 3 f) for a fraction f of spheres, of voxels here: theirs is nearer to 3.4."""
    places = np.indices((24, 24, 24)) - 11.5
    labels = ((places**2).sum(axis=0) < 4**2).astype(int)
    found = tensor("conductivity", labels, 1e-14, 6e7)
    assert 3.0 < (found[0, 0] / 1e-14 - 1) / labels.mean() < 3.8


@pytest.mark.parametrize("ratio", [1e6, 1e12])
def test_a_laminate_has_both_its_levels(ratio: float) -> None:
    labels = np.zeros((6, 4, 4), dtype=int)
    labels[:2] = 1
    found = tensor("conductivity", labels, 1.0, ratio)
    expected = [1 / (4 / 6 + 2 / 6 / ratio), ratio / 3 + 2 / 3, ratio / 3 + 2 / 3]
    np.testing.assert_allclose(np.diag(found), expected, rtol=1e-4)
    stiff = np.diag(tensor("elasticity", labels, 1.0, ratio))
    assert stiff[1] == pytest.approx(ratio / 3 / (1 - 0.3**2), rel=1e-3)  # plates: plane stress, held along the other
    assert stiff[0] == pytest.approx(0.7 / 1.3 / 0.4 * 6 / 4, rel=1e-3)


def test_three_levels_and_grey_values() -> None:
    labels = ball()
    labels[0] = 2  # a plate that conducts along two axes, a sphere that is isolated
    found = np.diag(tensor("conductivity", labels, 1.0, 1e9, 1e6))
    np.testing.assert_allclose(found[1:], 1e6 / 12, rtol=1e-3)
    assert 1.5 < found[0] < 4
    grey = np.where(ball() == 1, 1.0, np.random.default_rng(0).uniform(0, 1e-12, (12,) * 3))
    solver = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 1e13}])
    values = solver.evaluate(Structures.from_values(grey[None]))
    assert not values.failures  # type: ignore[attr-defined]
    assert 1 < values["conductivity"][0, 0, 0] < 30


def test_mirrored_images_have_them_too() -> None:
    found = np.diag(tensor("conductivity", ball(), 1.0, 1e14, boundary="auto"))
    np.testing.assert_allclose(found, np.diag(tensor("conductivity", ball(), 1.0, 1e14)), rtol=1e-3)
