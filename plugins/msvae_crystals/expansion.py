"""Cluster expansions: fitted to known energies by ridge or lasso, with their cross-validation score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from msvae import Array, Crystal, DataError
from msvae_crystals.clusters import Orbit, correlations, orbits

__all__ = ["Expansion", "Terms", "fitted"]

PENALTIES = {"ridge": np.logspace(-8, 2, 21), "lasso": np.logspace(-6, -1, 16)}  # of standardised correlations
PIECE = 32  # structures whose correlations are computed at a time


@dataclass(frozen=True)
class Terms:
    """What is expanded in: a crystal, cut-offs (m) of pairs, triplets and so on, and the number of species."""

    crystal: Crystal
    cutoffs: tuple[float, ...]
    species: int

    @property
    def orbits(self) -> tuple[Orbit, ...]:
        """The orbits, in the order of the coefficients; the constant comes before them."""
        return orbits(self.crystal, self.cutoffs, self.species)

    def features(self, values: Array) -> Array:
        """Return 1 and the correlations (n, 1 + orbits) of occupations (n, channels, *grid)."""
        pieces = [values[k : k + PIECE] for k in range(0, len(values), PIECE)]
        found = [correlations(piece, self.orbits, self.species) for piece in pieces]
        return np.concatenate([np.ones((len(values), 1)), np.concatenate([np.empty((0, len(self.orbits))), *found])], 1)


@dataclass(frozen=True)
class Expansion:
    """Energies per site as a sum over orbits.

    coefficients: (1 + orbits,), in J, of the mean products. score: root mean square error of cross-validation in J, NaN
    if nothing was fitted. penalty: that it chose. structures: number of them that were fitted to.
    """

    terms: Terms
    coefficients: Array
    score: float = float("nan")
    penalty: float = 0.0
    structures: int = 0

    def energies(self, values: Array) -> Array:
        """Return the energy per site (n,) in J of occupations (n, channels, *grid)."""
        return np.asarray(self.terms.features(values) @ self.coefficients)


def fitted(
    terms: Terms,
    values: Array,
    energies: Array,
    *,
    method: Literal["ridge", "lasso"],
    folds: int,
    penalty: float | None,
) -> Expansion:
    """Return the expansion of known energies (n,) in J per site of occupations (n, channels, *grid).

    penalty: of the squares (ridge) or sizes (lasso) of standardised coefficients; None takes the one with the smallest
    error of cross-validation, which is the score, so that this is a little too good. Folds are random, with one seed.
    """
    if len(energies) < folds:
        raise DataError(
            f"{folds} folds of cross-validation need as many structures with an energy, found {len(energies)}"
        )
    features = terms.features(values)[:, 1:]
    scale = float(energies.std()) or 1.0
    fold = np.random.default_rng(0).permutation(np.arange(len(energies)) % folds)
    tried = PENALTIES[method] if penalty is None else [penalty]
    scores = []
    for strength in tried:
        predicted = np.empty(len(energies))
        for k in range(folds):
            constant, slopes = _regression(features[fold != k], energies[fold != k] / scale, method, float(strength))
            predicted[fold == k] = constant + features[fold == k] @ slopes
        scores.append(float(np.sqrt(np.mean((predicted - energies / scale) ** 2))) * scale)
    best = int(np.argmin(scores))
    constant, slopes = _regression(features, energies / scale, method, float(tried[best]))
    coefficients = np.concatenate([[constant], slopes]) * scale
    return Expansion(terms, coefficients, scores[best], float(tried[best]), len(energies))


def _regression(x: Array, y: Array, method: str, penalty: float) -> tuple[float, Array]:
    """Return constant and slopes (p,) of y (n,) on x (n, p), standardised for the penalty."""
    from sklearn.linear_model import Lasso, Ridge

    mean, spread = x.mean(axis=0), x.std(axis=0)
    known = spread > 1e-12
    model: Any = (
        Ridge(penalty * len(y), solver="svd") if method == "ridge" else Lasso(penalty, max_iter=20_000, tol=1e-5)
    )
    model.fit((x[:, known] - mean[known]) / spread[known], y)
    slopes = np.zeros(x.shape[1])
    slopes[known] = model.coef_ / spread[known]
    return float(model.intercept_ - mean @ slopes), slopes
