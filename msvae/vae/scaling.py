"""Scaling of properties and conditions to mean 0 and standard deviation 1, with unknown values left out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from msvae.structures import Array

__all__ = ["Standardiser"]


class Standardiser(nn.Module):
    """An affine map of vectors (n, k), fitted once and kept with the model's weights."""

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(size, dtype=torch.float64))

    def fit(self, values: Array, about_zero: Array | None = None) -> None:
        """Compute mean and standard deviation of values (n, k) from their known (finite) entries.

        A component that hardly varies beside the largest one is scaled by 1e-3 of that one's standard deviation, so
        that rounding noise in entries that vanish by symmetry is not learnt as a property.
        about_zero: (k,) components whose zero stays zero; they are scaled by the root mean square of the other values.
        """
        known = np.isfinite(values)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, values, 0).sum(axis=0) / count
        deviation = np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(axis=0) / count)
        floor = 1e-3 * deviation.max(initial=0.0) or 1.0
        scale = np.maximum(deviation, floor)
        if about_zero is not None and about_zero.any():
            other = known & (values != 0)
            square = np.where(other, values**2, 0).sum(axis=0) / np.maximum(other.sum(axis=0), 1)
            mean, scale = np.where(about_zero, 0.0, mean), np.where(about_zero, np.sqrt(square), scale)
        self.mean.copy_(torch.as_tensor(mean))
        self.scale.copy_(torch.as_tensor(scale))

    def forward(self, values: Tensor) -> Tensor:
        """Return standardised values as float32; NaN stays NaN."""
        return ((values.double() - self.mean) / self.scale).float()

    def inverse(self, values: Tensor) -> Tensor:
        """Return values in the property's own unit, float64."""
        return values.double() * self.scale + self.mean
