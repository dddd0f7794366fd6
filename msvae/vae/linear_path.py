"""A linear path beside the networks: whitened principal components of the training structures.

The networks start as a zero residual, so that training starts from probabilistic PCA (Tipping and Bishop 1999, J. R.
Stat. Soc. B 61, 611) and improves on it. Without the path, a briefly trained VAE is worse than PCA. The components are
not trained: at the networks' learning rate they would turn into noise within a few steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["LinearPath", "zero_last_layer"]

ROWS = 5000  # training structures that the components are computed from
LARGEST = 100_000_000  # numbers of a component matrix, or of the structures it is computed from


class LinearPath(nn.Module):
    """Affine maps between features (n, channels, *grid) and latents (n, d), given conditions (n, k).

    encoder: (size, d), decoder: (d, size), by_condition: (k, size), centre: (size,). gain: of the decoder's output over
    the features, less their level (channels, 1 ...). deviation: (d,), of the exact posterior of probabilistic PCA;
    noise: of its features.
    """

    encoder: Tensor
    decoder: Tensor
    by_condition: Tensor
    centre: Tensor
    level: Tensor
    deviation: Tensor
    noise: Tensor

    def __init__(self, shape: tuple[int, ...], latents: int, conditions: int) -> None:
        super().__init__()
        size = math.prod(shape)
        self.shape = shape
        self.gain = nn.Parameter(torch.ones(()))
        self.register_buffer("encoder", torch.zeros(size, latents))
        self.register_buffer("decoder", torch.zeros(latents, size))
        self.register_buffer("by_condition", torch.zeros(conditions, size))
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("level", torch.zeros(shape[0], *(1,) * (len(shape) - 1)))
        self.register_buffer("deviation", torch.ones(latents))
        self.register_buffer("noise", torch.ones(()))

    @staticmethod
    def fits(shape: tuple[int, ...], latents: int) -> bool:
        """Return whether the matrices are small enough to be used."""
        return math.prod(shape) * latents <= LARGEST

    @torch.no_grad()
    def fit(self, features: Tensor, conditions: Tensor, *, levelled: bool) -> None:
        """Fit the components to training features after subtracting their linear regression on the conditions.

        levelled: whether the likelihood itself adds the mean over all structures and voxels.
        """
        rows = min(len(features), ROWS, max(2, LARGEST // math.prod(self.shape)))
        x = features[:rows].flatten(1).float()
        known = torch.cat([torch.ones(len(x), 1, dtype=x.dtype), conditions[:rows].float()], dim=1)
        effect = torch.linalg.lstsq(known, x, driver="gelsd").solution
        rest = x - known @ effect
        values, components = _principal(rest, self.encoder.shape[1])
        count = int((values > 1e-6 * values.max().clamp_min(1e-30)).sum()) if len(values) else 0
        values, components = values[:count], components[:, :count]
        left = (rest.square().sum() / len(x) - values.sum()).clamp_min(1e-12) / max(x.shape[1] - count, 1)
        scale = (values - left).clamp_min(1e-3 * values).sqrt()  # of the components, less the noise in them
        self.encoder.zero_()[:, :count] = components * (scale / (scale**2 + left))
        self.decoder.zero_()[:count] = (components * scale).T
        self.noise.copy_(left.sqrt())
        self.by_condition.copy_(effect[1:])
        self.centre.copy_(effect[0])
        if levelled:
            self.level.copy_(self.centre.reshape(self.shape[0], -1).mean(dim=1).reshape(self.level.shape))
        self.deviation.fill_(1.0)[:count] = (left / (scale**2 + left)).sqrt().clamp(0.01, 1.0)

    def encode(self, features: Tensor, conditions: Tensor) -> Tensor:
        """Return the means (n, d) of the exact posteriors of probabilistic PCA."""
        return (features.flatten(1) - self.centre - conditions @ self.by_condition) @ self.encoder

    def decode(self, latents: Tensor, conditions: Tensor) -> Tensor:
        """Return the decoder's output (n, channels, *grid) for latents (n, d)."""
        features = self.centre + conditions @ self.by_condition + latents @ self.decoder
        return self.gain * (features.reshape(-1, *self.shape) - self.level)


def _principal(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues of the covariance of x (n, size), descending, and its eigenvectors (size, m)."""
    n, size = x.shape
    if n < size:
        values, vectors = torch.linalg.eigh(x @ x.T / n)
        values, vectors = values.flip(0)[:count].clamp_min(0), vectors.flip(1)[:, :count]
        return values, x.T @ vectors / (n * values).clamp_min(1e-30).sqrt()
    values, vectors = torch.linalg.eigh(x.T @ x / n)
    return values.flip(0)[:count].clamp_min(0), vectors.flip(1)[:, :count]


def zero_last_layer(network: nn.Module) -> None:
    """Set the last linear or convolutional layer of a network to zero, so that it starts as a zero residual."""
    layers = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    if layers:
        nn.init.zeros_(layers[-1].weight)
        if layers[-1].bias is not None:
            nn.init.zeros_(layers[-1].bias)
