"""Scores of predicted properties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msvae.structures import Array

__all__ = ["determination", "index_of", "most_varying"]


def determination(predicted: Array, true: Array) -> float:
    """Return the coefficient of determination 1 - SSE/SST of two vectors, over known values."""
    known = np.isfinite(true)
    error, spread = (true - predicted)[known], true[known] - true[known].mean()
    return float(1 - (error**2).sum() / max(float((spread**2).sum()), 1e-300))


def most_varying(values: Array) -> int:
    """Return which component of properties (n, k) varies most: the one that represents the property in a table."""
    return int(np.nan_to_num(np.nanvar(values, axis=0)).argmax())


def index_of(component: int, shape: Sequence[int]) -> str:
    """Return the index of a component by its number, as a study has it; nothing for a scalar.

    >>> index_of(4, (3, 3)), index_of(0, ())
    ('[1, 1]', '')
    """
    return str([int(k) for k in np.unravel_index(component, tuple(shape))]) if shape else ""
