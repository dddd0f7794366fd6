"""The information in latents: which are active, and which factor of the structures each one encodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from msvae.structures import Array

__all__ = ["active_units", "disentanglement", "divergence_by_latent"]

BINS = 20


def active_units(means: Array) -> Array:
    """Return which latents (d,) vary over structures: Var[mean] > 0.01 (Burda et al. 2016, arXiv:1509.00519)."""
    return np.asarray(means.var(axis=0) > 0.01)


def divergence_by_latent(means: Array, deviations: Array) -> Array:
    """Return the mean divergence (d,) of normal posteriors from N(0, 1), in nats."""
    return np.asarray((0.5 * (means**2 + deviations**2 - 1) - np.log(deviations)).mean(axis=0))


def disentanglement(latents: Array, factors: Array, *, seed: int = 0) -> Mapping[str, float]:
    """Return scores from 0 to 1 of latents (n, d) against known factors (n, f).

    mig: mutual information gap (Chen et al. 2018, arXiv:1802.04942). sap: separated attribute predictability (Kumar et
    al. 2018, arXiv:1711.00848). disentanglement, completeness, informativeness: DCI by boosted trees (Eastwood and
    Williams 2018).
    """
    information = np.array([[_mutual_information(z, y) for y in factors.T] for z in latents.T])
    entropy = np.array([_mutual_information(y, y) for y in factors.T])
    fit = np.array([[np.corrcoef(z, y)[0, 1] ** 2 if z.std() > 0 else 0.0 for y in factors.T] for z in latents.T])
    importance, explained = _importance(latents, factors, seed)
    return {
        "mig": float((_gap(information) / np.maximum(entropy, 1e-12)).mean()),
        "sap": float(_gap(fit).mean()),
        "disentanglement": _concentration(importance, axis=1),
        "completeness": _concentration(importance, axis=0),
        "informativeness": explained,
    }


def _mutual_information(a: Array, b: Array) -> float:
    """Return the mutual information of two variables cut into bins of equal counts, in nats."""
    first, second = (np.minimum(np.argsort(np.argsort(v)) * BINS // len(v), BINS - 1) for v in (a, b))
    joint = np.bincount(first * BINS + second, minlength=BINS**2).reshape(BINS, BINS) / len(a)
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / product[filled])).sum())


def _gap(scores: Array) -> Array:
    """Return the gap (f,) between the best latent and the second best."""
    if len(scores) < 2:
        return np.asarray(scores[0])
    ordered = np.sort(scores, axis=0)
    return np.asarray(ordered[-1] - ordered[-2])


def _importance(latents: Array, factors: Array, seed: int) -> tuple[Array, float]:
    """Return the importance (d, f) of each latent for each factor, and the mean R2 on a held-out third."""
    from sklearn.ensemble import GradientBoostingRegressor

    cut = 2 * len(latents) // 3
    columns, scores = [], []
    for y in factors.T:
        trees = GradientBoostingRegressor(n_estimators=50, random_state=seed % 2**31).fit(latents[:cut], y[:cut])
        columns.append(trees.feature_importances_)
        scores.append(max(0.0, trees.score(latents[cut:], y[cut:])))
    return np.stack(columns, axis=1), float(np.mean(scores))


def _concentration(importance: Array, axis: int) -> float:
    """Return 1 - entropy along an axis, weighted by importance; 1 where every row (or column) has one entry."""
    total = importance.sum(axis=axis)
    share = importance / np.maximum(np.expand_dims(total, axis), 1e-12)
    size = importance.shape[axis]
    if size < 2:
        return 1.0
    entropy = -(share * np.log(np.maximum(share, 1e-12))).sum(axis=axis) / np.log(size)
    return float(((1 - entropy) * total).sum() / max(float(total.sum()), 1e-12))
