"""Conversion of targeted numbers to properties, and linear models of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from msvae.structures import Array
from msvae.study.numbers import Component

__all__ = ["properties_of", "slopes_of"]

RIDGE = 1e-2  # of the squared coordinates' mean, by which linear models are kept small


def slopes_of(points: Array, values: Array) -> Array:
    """Return the slopes (d, m) of a linear model of values (n, m) over points (n, d), by ridge regression."""
    inner, outer = points - points.mean(axis=0), values - values.mean(axis=0)
    square = inner.T @ inner
    return np.asarray(
        np.linalg.solve(
            square + (RIDGE * np.trace(square) / len(square) + 1e-12) * np.eye(len(square)), inner.T @ outer
        )
    )


def properties_of(targets: Sequence[Component], values: Array) -> dict[str, Array]:
    """Return properties in which only the targeted numbers are known, from their values (..., targets)."""
    found: dict[str, Array] = {}
    for k, target in enumerate(targets):
        sizes = [1 + max(t.component[a] for t in targets if t.property == target.property)
                 for a in range(len(target.component))]  # fmt: skip
        array = found.setdefault(target.property, np.full((*values.shape[:-1], *sizes), np.nan))
        place: tuple[Any, ...] = (..., *target.component)
        array[place] = values[..., k]
    return found
