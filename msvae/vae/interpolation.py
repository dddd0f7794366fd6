"""Paths between two latents."""

from __future__ import annotations

import numpy as np

from msvae.structures import Array

__all__ = ["arc", "line"]


def line(first: Array, last: Array, n: int) -> Array:
    """Return n points (n, d) on the line from one to another, ends included."""
    t = np.linspace(0, 1, n)[:, None]
    return np.asarray((1 - t) * first + t * last)


def arc(first: Array, last: Array, n: int) -> Array:
    """Return n points (n, d) on an arc around the origin with linear radius; a line if it meets the origin."""
    sizes = np.linalg.norm(first), np.linalg.norm(last)
    cosine = first @ last / (sizes[0] * sizes[1]) if min(sizes) else 1.0
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:
        return line(first, last, n)
    t = np.linspace(0, 1, n)[:, None]
    unit = (np.sin((1 - t) * angle) * first / sizes[0] + np.sin(t * angle) * last / sizes[1]) / np.sin(angle)
    return np.asarray(((1 - t) * sizes[0] + t * sizes[1]) * unit)
