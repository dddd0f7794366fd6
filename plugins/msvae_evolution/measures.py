"""What frames are compared by: characteristic length, two-point function, growth exponent."""

from __future__ import annotations

import numpy as np

from msvae import Array

__all__ = ["characteristic_lengths", "growth_exponent", "root_mean_square", "two_point"]


def characteristic_lengths(values: Array, spacing: tuple[float, ...]) -> Array:
    """Return 2 pi / <k> (n,) in m of frames (n, *grid): <k> is the first moment of the structure factor.

    Zhu, Chen, Shen and Tikare 1999, Phys. Rev. E 60, 3564 (eq. 12).
    """
    axes = tuple(range(1, values.ndim))
    deviation = values - values.mean(axis=axes, keepdims=True)
    power = np.abs(np.fft.fftn(deviation, axes=axes)) ** 2
    parts = [2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(values.shape[1:], spacing, strict=True)]
    k = np.sqrt(sum(part**2 for part in np.meshgrid(*parts, indexing="ij")))
    with np.errstate(invalid="ignore", divide="ignore"):  # of a uniform frame
        return np.asarray(2 * np.pi * power.sum(axis=axes) / (power * k).sum(axis=axes))


def two_point(values: Array) -> Array:
    """Return the mean over all points and axes (n, lags) of the product of the values at a lag along an axis.

    Lags are 0 to half of the shortest axis; frames (n, *grid) continue on their other side.
    """
    axes = tuple(range(1, values.ndim))
    power = np.abs(np.fft.fftn(values, axes=axes)) ** 2
    products = np.fft.ifftn(power, axes=axes).real / values[0].size
    lags = min(values.shape[1:]) // 2 + 1
    along = [np.moveaxis(products, axis, 1).reshape(len(values), values.shape[axis], -1)[:, :lags, 0] for axis in axes]
    return np.asarray(np.mean(along, axis=0))


def root_mean_square(values: Array) -> float:
    """Return the root mean square of values; NaN where there are none."""
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")


def growth_exponent(times: Array, lengths: Array) -> float:
    """Return the exponent of a power law of mean lengths (n, m) at times (m,), by least squares of the logarithms."""
    logarithms = np.log(lengths).mean(axis=0)
    return float(np.polyfit(np.log(times), logarithms, 1)[0])
