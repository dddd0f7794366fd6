"""The exact partition function of the periodic Ising model in two dimensions, without a field."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from msvae import Array

__all__ = ["ising", "kaufman"]


def ising(shape: tuple[int, int], beta: float, field: float = 0.0) -> float:
    """Return log Z of rows x columns spins, at coupling 1, by the transfer matrix of a column of at most 12 spins.

    >>> round(ising((4, 4), 0.4407), 6)
    15.522246
    """
    rows, columns = shape
    if rows > 12:
        raise ValueError(f"a transfer matrix of 2^{rows} states is too large: at most 12 rows")
    states = 2 * ((np.arange(2**rows)[:, None] >> np.arange(rows)) & 1) - 1
    own = (states * np.roll(states, 1, axis=1)).sum(axis=1) + field * states.sum(axis=1)
    matrix = beta * (states @ states.T) + beta / 2 * (own[:, None] + own[None])
    shift = float(matrix.max())
    values = np.linalg.eigvalsh(np.exp(matrix - shift))
    return columns * shift + float(logsumexp(columns * np.log(np.abs(values)), b=np.sign(values) ** columns))


def kaufman(shape: tuple[int, int], beta: float) -> float:
    """Return log Z of rows x columns spins, at coupling 1, of any size (Kaufman 1949, Phys. Rev. 76, 1232, eq. 43).

    >>> round(kaufman((4, 4), 0.4407), 6)
    15.522246
    """
    rows, columns = shape
    r = np.arange(2 * rows)
    cosh = np.cosh(2 * beta) ** 2 / np.sinh(2 * beta) - np.cos(np.pi * r / rows)
    gamma = np.arccosh(np.maximum(cosh, 1.0))
    gamma[0] = abs(2 * beta + np.log(np.tanh(beta)))
    half = columns / 2 * gamma
    products = [float(term(half[first::2]).sum()) for first in (1, 0) for term in (_log_cosh, _log_sinh)]
    cold = 1.0 if np.sinh(2 * beta) > 1 else -1.0  # gamma_0 changes its sign at the critical temperature
    head = -np.log(2) + rows * columns / 2 * np.log(2 * np.sinh(2 * beta))
    return float(head + logsumexp(np.array(products), b=np.array([1.0, 1.0, 1.0, cold])))


def _log_cosh(x: Array) -> Array:
    """Return the logarithms of 2 cosh x."""
    return np.asarray(np.logaddexp(x, -x))


def _log_sinh(x: Array) -> Array:
    """Return the logarithms of 2 sinh x, for x >= 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(x + np.log1p(-np.exp(-2 * x)))
