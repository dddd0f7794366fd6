"""The latent flow: exact both ways, one axis a property, and a density that a normal distribution does not reach."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from msvae import DataError
from msvae.vae.priors.latent_flow import fit_latent_flow


def bent_latents(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return latents (n, 4) on a bent sheet, and a property that no single one of them carries."""
    rng = np.random.default_rng(seed)
    s = rng.standard_normal((n, 4))
    z = np.stack([s[:, 0] + 0.5 * s[:, 1] ** 2, s[:, 1], s[:, 2] * (1 + 0.5 * np.tanh(s[:, 1])), s[:, 3]], axis=1)
    turn, _ = np.linalg.qr(np.random.default_rng(9).standard_normal((4, 4)))
    return z @ turn, (2 * s[:, 0] + 5)[:, None]


def test_the_property_has_its_axis_and_the_others_do_not_carry_it() -> None:
    z, y = bent_latents(3000, 0)
    flow = fit_latent_flow(z, y, ("p",), seed=0)
    test, known = bent_latents(1000, 1)
    axes = flow.axes(test)
    correlation = np.corrcoef(np.concatenate([axes, known], axis=1).T)[-1, :-1]
    assert correlation[0] >= 0.9
    assert np.abs(correlation[1:]).max() <= 0.15
    np.testing.assert_allclose(flow.latents_of(axes), test, atol=1e-5)
    normal = stats.multivariate_normal(z.mean(axis=0), np.cov(z.T))
    assert flow.log_prob(test).mean() > normal.logpdf(test).mean() + 0.05
    moved = axes.copy()
    moved[:, 0] = flow.standardised(np.array([[7.0]]))[0, 0]
    again = flow.axes(flow.latents_of(moved))
    np.testing.assert_allclose(again, moved, atol=1e-5)


def test_the_density_is_the_derivative_of_the_map() -> None:
    z, y = bent_latents(400, 0)
    flow = fit_latent_flow(z, y, ("p",), seed=0)
    step, point = 1e-6, z[:1]
    jacobian = np.stack(
        [(flow.axes(point + step * e) - flow.axes(point - step * e))[0] / (2 * step) for e in np.eye(4)]
    )
    s = flow.axes(point)[0]
    expected = stats.norm.logpdf(s).sum() + np.log(abs(np.linalg.det(jacobian)))
    assert flow.log_prob(point)[0] == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_fitted_is_refused() -> None:
    z, y = bent_latents(30, 0)
    with pytest.raises(DataError, match="at least 20"):
        fit_latent_flow(z[:5], y[:5], ("p",), seed=0)
    with pytest.raises(DataError, match="all 1 properties known"):
        fit_latent_flow(z, np.full_like(y, np.nan), ("p",), seed=0)
    with pytest.raises(DataError, match="between 1 and 4"):
        fit_latent_flow(z, np.repeat(y, 5, axis=1), tuple("abcde"), seed=0)
