"""Which rows of a table count."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from msvae import Array

__all__ = ["taken"]

TAKES: Mapping[str, Callable[[Array], Array]] = {
    "last": lambda a: a[-1],
    "first": lambda a: a[0],
    "all": lambda a: a,
    "mean": lambda a: a.mean(axis=0),
    "sum": lambda a: a.sum(axis=0),
    "minimum": lambda a: a.min(axis=0),
    "maximum": lambda a: a.max(axis=0),
}


def taken(rows: Array, take: str) -> Array:
    """Return what counts of rows (n, ...), n > 0; of rows with one number, the number.

    >>> taken(np.array([[1.0], [3.0]]), "mean")
    array(2.)
    """
    found = TAKES[take](np.asarray(rows, dtype=float))
    return np.asarray(found[..., 0] if rows.ndim > 1 and rows.shape[-1] == 1 else found)
