"""Scores of models on the held-out structures, as rows of text."""

from __future__ import annotations

import numpy as np

from msvae.metrics.prediction import determination, index_of, most_varying
from msvae.stages.context import Context
from msvae.stages.sides import sides_of
from msvae.structures import Array, Structures
from msvae.vae.model import VAE
from msvae.vae.structure_head import StructureHead

__all__ = ["scores"]


def scores(
    context: Context, structures: Structures, vae: VAE, head: StructureHead | None
) -> list[tuple[str, str, str]]:
    """Return rows (what, measure, value) over the held-out structures."""
    test = structures[sides_of(context, structures, vae.blueprint).held_out]
    latents = vae.encode(test)
    conditions = _conditions(vae, test)
    again = vae.decode(latents, conditions)
    rows = [("structures", "held back", str(len(test))), reconstruction_score(test, again)]
    predictions = {"head on latents": vae.predict(latents)}
    if head is not None:
        predictions["structure-space head"] = head.predict(test)
    for who, predicted in predictions.items():
        for name, array in predicted.items():
            rows += _prediction_scores(who, name, array, test.properties[name])
    return rows


def reconstruction_score(test: Structures, again: Structures) -> tuple[str, str, str]:
    """Return the score of reconstructions: share of equal sites, or mean squared error."""
    if test.specification.is_discrete:
        return "reconstruction", "equal sites", f"{(test.values == again.values).mean():.4f}"
    return "reconstruction", "mean squared error", f"{((test.values - again.values) ** 2).mean():.5f}"


def _prediction_scores(who: str, name: str, predicted: Array, true: Array) -> list[tuple[str, str, str]]:
    """Return scores of the component that varies most."""
    flat_true, flat_predicted = true.reshape(len(true), -1), predicted.reshape(len(true), -1)
    k = most_varying(flat_true)
    label = f"{who}: {name}{index_of(k, true.shape[1:])}"
    error = np.abs(flat_predicted[:, k] - flat_true[:, k])
    return [
        (label, "R2", f"{determination(flat_predicted[:, k], flat_true[:, k]):.4f}"),
        (label, "mean absolute error", f"{np.nanmean(error):.4g}"),
    ]


def _conditions(vae: VAE, structures: Structures) -> Array | None:
    return vae.known_conditions(structures) if vae.blueprint.settings.conditions else None
