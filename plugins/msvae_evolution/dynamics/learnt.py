"""Dynamics that are networks: a neural ordinary differential equation, a linear map, and a conditional flow."""

from __future__ import annotations

import math
from typing import cast

import torch
import zuko
from torch import Tensor, nn

from msvae_evolution.dynamics.layers import Convolution, Trunk

__all__ = ["Flow", "Linear", "NeuralOde", "octaves"]

OCTAVE_STEPS = 1  # of the midpoint rule, in which time doubles


def octaves(start: Tensor, end: Tensor) -> Tensor:
    """Return log2 of the ratio of times (n,); negative backward."""
    return torch.log2(end / start)


class NeuralOde(nn.Module):
    """dz / d log2 t = g(z, log t, parameters), by the midpoint rule (Chen et al. 2018, arXiv:1806.07366).

    g is a convolutional network, so that a shifted frame evolves into a shifted one.
    """

    def __init__(self, latents: int, parameters: int, periodic: tuple[bool, ...], *, width: int, blocks: int) -> None:
        super().__init__()
        self.trunk = Trunk(latents, 2 + parameters, periodic, width=width, blocks=blocks)
        self.leave = Convolution(width, latents, periodic, width=1)
        nn.init.zeros_(self.leave.own.weight)

    def slope(self, z: Tensor, time: Tensor, direction: Tensor, parameters: Tensor) -> Tensor:
        """Return dz / d log2 t; direction: 1 forward and -1 backward (n,)."""
        known = torch.cat([time.log()[:, None], direction[:, None], parameters], dim=1)
        return cast(Tensor, self.leave(self.trunk(z, known)))

    def forward(self, z: Tensor, start: Tensor, end: Tensor, parameters: Tensor) -> Tensor:
        whole = octaves(start, end)
        shape = (-1, *(1,) * (z.ndim - 1))
        for k in range(OCTAVE_STEPS):
            step = (whole / OCTAVE_STEPS).reshape(shape)
            time = start * 2 ** (whole * k / OCTAVE_STEPS)
            middle = start * 2 ** (whole * (k + 0.5) / OCTAVE_STEPS)
            half = z + step / 2 * self.slope(z, time, whole.sign(), parameters)
            z = z + step * self.slope(half, middle, whole.sign(), parameters)
        return z


class Linear(nn.Module):
    """A linear map of the latents around a site, whose coefficients are linear in log t and the parameters."""

    def __init__(self, latents: int, parameters: int, periodic: tuple[bool, ...]) -> None:
        super().__init__()
        inputs = (latents + 1) * (2 + parameters)
        self.map = Convolution(inputs, latents, periodic, width=7 if periodic != (False,) else 1)
        nn.init.zeros_(self.map.own.weight)

    def forward(self, z: Tensor, start: Tensor, end: Tensor, parameters: Tensor) -> Tensor:
        shape = (-1, *(1,) * (z.ndim - 1))
        known = torch.cat([torch.ones_like(start)[:, None], start.log()[:, None], parameters], dim=1)
        level = torch.cat([z, torch.ones_like(z[:, :1])], dim=1)
        spread = (known[:, :, None].reshape(*known.shape, *(1,) * (z.ndim - 1)) * level[:, None]).flatten(1, 2)
        return z + octaves(start, end).reshape(shape) * cast(Tensor, self.map(spread))


class Flow(nn.Module):
    """A spline flow of every site's next latents, given features of the present ones around it.

    Neural spline flows: Durkan et al. 2019, arXiv:1906.04032.
    """

    def __init__(self, latents: int, parameters: int, periodic: tuple[bool, ...], *, width: int, blocks: int) -> None:
        super().__init__()
        self.ode = NeuralOde(latents, parameters, periodic, width=width, blocks=blocks)
        self.trunk = Trunk(latents, 2 + parameters, periodic, width=width, blocks=1)
        self.spread = nn.Parameter(torch.tensor(-1.5))
        self.flow = zuko.flows.NSF(latents, context=width, transforms=2, hidden_features=(width,))

    def forward(self, z: Tensor, start: Tensor, end: Tensor, parameters: Tensor) -> Tensor:
        return cast(Tensor, self.ode(z, start, end, parameters))

    def rest(self, z: Tensor, start: Tensor, end: Tensor, parameters: Tensor) -> torch.distributions.Distribution:
        """Return the distribution of what is left of the next latents (n * sites, d), in its own units."""
        known = torch.cat([start.log()[:, None], octaves(start, end)[:, None], parameters], dim=1)
        features = self.trunk(z, known).movedim(1, -1).flatten(0, -2)
        return cast(torch.distributions.Distribution, self.flow(features))

    def scale(self) -> Tensor:
        """The unit of what is left."""
        return self.spread.exp()

    def negative_log_likelihood(self, rest: Tensor, given: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Return - log p of what is left (n, d, *sites) in nats per latent; given: z, start, end, parameters."""
        flat = rest.movedim(1, -1).flatten(0, -2)
        found = self.rest(*given).log_prob(flat / self.scale()).mean() / rest.shape[1]
        return self.spread - found

    def sample(self, z: Tensor, start: Tensor, end: Tensor, parameters: Tensor) -> Tensor:
        """Return next latents (n, d, *sites), one of each, by torch's generator."""
        drawn: Tensor = self.rest(z, start, end, parameters).sample() * self.scale()
        shape = (len(z), *z.shape[2:], z.shape[1])
        assert math.prod(shape) == drawn.numel()
        expected: Tensor = self(z, start, end, parameters)
        return expected + drawn.reshape(shape).movedim(-1, 1)
