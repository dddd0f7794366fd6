"""Attribution: how much the predicted class, or number, depends on each feature of the alloys.

Permutation (after Breiman 2001, Machine Learning 45, 5): how far the prediction changes where a feature is taken from
another alloy. Shapley values (Shapley 1953; of models: Lundberg and Lee 2017, arXiv:1705.07874, with features that
are left out taken from a background): the share of a feature in an alloy's prediction, exact over all coalitions. Both
describe the model and not the alloys; how well they agree between trainings says how far to trust them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb
from typing import cast

import numpy as np
import torch
from torch import nn

from msvae import VAE, Array, Structures
from msvae_alloys.modules import Descriptors

EXPLAINED, BACKGROUND, TURNS = 64, 16, 5  # alloys; others whose features stand for left-out ones; permutations
FEATURES = (
    "bulk modulus", "molar volume", "melting temperature", "valence electrons", "size mismatch",
    "electronegativity mismatch", "mixing entropy", "mixing enthalpy", "number of elements", "elements themselves",
)  # fmt: skip
ALONE = len(FEATURES) - 1  # columns that are a feature each; the rest are fractions and their logarithms

Function = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Attribution:
    """What a prediction depends on. permuted, shapley: (features,) mean absolute effects on the prediction.

    permuted: change of the prediction where a feature is another alloy's. shapley: of the values (n, features) of
    `values`, whose sum over the features is the prediction less its mean over the background.
    """

    permuted: Array
    values: Array

    @property
    def shapley(self) -> Array:
        """The mean absolute Shapley value (features,)."""
        return np.asarray(np.abs(self.values).mean(axis=0))


def explains(vae: VAE) -> bool:
    """Return whether the model predicts conditions from an alloy's descriptors."""
    encoder = None if vae.guess is None else vae.guess.encoder
    return isinstance(encoder, nn.Sequential) and len(encoder) == 2 and isinstance(encoder[0], Descriptors)


def attribution(vae: VAE, alloys: Structures, condition: int, value: float, seed: int) -> Attribution:
    """Return what the model's prediction of a condition depends on, over some of the alloys.

    value: the class whose probability is explained; of a number it is the mean, in standard deviations.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(alloys))
    described, predict = _described(vae, alloys[np.sort(rows[: EXPLAINED + BACKGROUND])], condition, int(value))
    order = rng.permutation(len(described))
    explained, background = described[order[BACKGROUND:]], described[order[:BACKGROUND]]
    explained = explained if len(explained) else described
    return Attribution(permutation(predict, explained, rng), shapley(predict, explained, background))


def permutation(predict: Function, described: Array, rng: np.random.Generator) -> Array:
    """Return the mean absolute change (features,) of the prediction of (n, columns) where a feature is permuted."""
    before, effects = predict(described), np.zeros(len(FEATURES))
    for feature in range(len(FEATURES)):
        for _ in range(TURNS):
            changed = described.copy()
            changed[:, columns(feature)] = described[rng.permutation(len(described))][:, columns(feature)]
            effects[feature] += np.abs(predict(changed) - before).mean() / TURNS
    return effects


def shapley(predict: Function, described: Array, background: Array) -> Array:
    """Return the exact Shapley values (n, features) of predictions, with the background's features for absent ones."""
    count, n = len(FEATURES), len(described)
    worth = np.zeros((2**count, n))
    for coalition in range(2**count):
        mixed = np.tile(background, (n, 1))
        for feature in range(count):
            if coalition >> feature & 1:
                mixed[:, columns(feature)] = np.repeat(described[:, columns(feature)], len(background), axis=0)
        worth[coalition] = predict(mixed).reshape(n, -1).mean(axis=1)
    values = np.zeros((n, count))
    for coalition in range(2**count):
        size = bin(coalition).count("1")
        for feature in range(count):
            if not coalition >> feature & 1:
                weight = 1 / (count * comb(count - 1, size))
                values[:, feature] += weight * (worth[coalition | 1 << feature] - worth[coalition])
    return values


def columns(feature: int) -> slice:
    """Return the columns of the descriptors that are a feature."""
    return slice(feature, feature + 1) if feature < ALONE else slice(ALONE, None)


def _described(vae: VAE, alloys: Structures, condition: int, value: int) -> tuple[Array, Function]:
    """Return descriptors (n, columns) of alloys, and the prediction as a function of them."""
    guess = vae.guess
    assert guess is not None
    first, rest = cast("nn.Sequential", guess.encoder)
    with torch.no_grad():
        described = first(vae.likelihood.features(torch.as_tensor(alloys.values.copy()))).double().numpy()

    @torch.no_grad()
    def predict(rows: Array) -> Array:
        found = guess.read(rest(torch.as_tensor(rows).float()))
        if condition in found.classes:
            return np.asarray(found.classes[condition].exp()[:, value].double())
        return np.asarray(found.mean[:, vae.conditions.given_numbers.index(condition)].double())

    return described, predict
