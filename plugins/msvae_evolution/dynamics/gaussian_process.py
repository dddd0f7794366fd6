"""A Gaussian process of the change of a site's latents, given those around it; the same at every site."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msvae_evolution.dynamics.layers import extended
from msvae_evolution.dynamics.learnt import octaves

__all__ = ["GaussianProcess"]

NEIGHBOURS = 9  # components of the surroundings, per latent, that distances are measured in
LENGTHS = (0.5, 1.0, 2.0, 4.0)  # of the kernel, in median distances
NOISES = (0.03, 0.1, 0.3)  # variances, in those of the changes
POINTS = 2000  # that the process is conditioned on


class GaussianProcess(nn.Module):
    """Squared-exponential kernel over the principal components of a patch of latents, conditioned on random patches.

    Length and noise maximise the marginal likelihood (Rasmussen and Williams 2006, eq. 5.8).
    """

    basis: Tensor
    centre: Tensor
    points: Tensor
    weights: Tensor
    length: Tensor
    level: Tensor

    def __init__(self, latents: int, parameters: int, periodic: tuple[bool, ...], *, patch: int = 5) -> None:
        super().__init__()
        self.periodic, self.reach = periodic, patch // 2 if periodic != (False,) else 0
        size = latents * (2 * self.reach + 1) ** len(periodic)
        kept = min(size, NEIGHBOURS * latents)
        self.register_buffer("basis", torch.zeros(size, kept))
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("points", torch.zeros(POINTS, kept + 1 + parameters))
        self.register_buffer("weights", torch.zeros(POINTS, latents))
        self.register_buffer("length", torch.ones(()))
        self.register_buffer("level", torch.zeros(latents))

    def patches(self, z: Tensor) -> Tensor:
        """Return the latents around every site (n, sites, size)."""
        x = extended(z, self.periodic, self.reach)
        for axis in range(2, z.ndim):
            x = x.unfold(axis, 2 * self.reach + 1, 1)
        x = x.movedim(1, -1)
        return x.flatten(1, z.ndim - 2).flatten(2)

    def inputs(self, z: Tensor, start: Tensor, parameters: Tensor) -> Tensor:
        """Return what distances are measured between (n, sites, k)."""
        seen = (self.patches(z) - self.centre) @ self.basis
        known = torch.cat([start.log()[:, None], parameters], dim=1)
        return torch.cat([seen, known[:, None].expand(-1, seen.shape[1], -1)], dim=2)

    @torch.no_grad()
    def fit(self, z: Tensor, slopes: Tensor, start: Tensor, parameters: Tensor) -> None:
        """Condition on random sites of latents (n, d, *sites) and their slopes of the same shape."""
        patches = self.patches(z)
        rows = torch.randint(len(z), (POINTS,))
        sites = torch.randint(patches.shape[1], (POINTS,))
        chosen = patches[rows, sites]
        self.centre.copy_(chosen.mean(dim=0))
        _, _, axes = torch.linalg.svd(chosen - self.centre, full_matrices=False)
        self.basis.copy_(axes[: self.basis.shape[1]].T)
        known = torch.cat([start.log()[:, None], parameters], dim=1)[rows]
        self.points.copy_(torch.cat([(chosen - self.centre) @ self.basis, known], dim=1))
        targets = slopes.flatten(2).transpose(1, 2)[rows, sites]
        self.level.copy_(targets.mean(dim=0))
        self._choose((targets - self.level).double())

    def _choose(self, targets: Tensor) -> None:
        """Choose length and noise by the marginal likelihood, and compute the weights."""
        distances = torch.cdist(self.points, self.points).double()
        middle, variance = distances.median(), targets.var()
        best = -torch.inf
        for length in LENGTHS:
            kernel = variance * torch.exp(-0.5 * (distances / (length * middle)) ** 2)
            for noise in NOISES:
                factor = torch.linalg.cholesky(kernel + noise * variance * torch.eye(len(kernel)))
                weights = torch.cholesky_solve(targets, factor)
                evidence = -0.5 * (targets * weights).sum() - targets.shape[1] * factor.diagonal().log().sum()
                if evidence > best:
                    best = float(evidence)
                    self.length.copy_(length * middle)
                    self.weights.copy_(variance * weights)

    def forward(self, z: Tensor, start: Tensor, end: Tensor, parameters: Tensor) -> Tensor:
        inputs = self.inputs(z, start, parameters)
        kernel = torch.exp(-0.5 * (torch.cdist(inputs, self.points.expand(len(z), -1, -1)) / self.length) ** 2)
        slope = (kernel @ self.weights + self.level).transpose(1, 2).reshape(z.shape)
        return z + octaves(start, end).reshape(-1, *(1,) * (z.ndim - 1)) * slope
