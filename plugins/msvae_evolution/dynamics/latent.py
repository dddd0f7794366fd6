"""The dynamics of a model's latents: forward and backward in time, with what they leave unexplained."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from msvae import Array
from msvae_evolution.campaign import Evolve
from msvae_evolution.codes import Code
from msvae_evolution.dynamics.gaussian_process import GaussianProcess
from msvae_evolution.dynamics.learnt import Flow, Linear, NeuralOde

__all__ = ["POOL", "LatentDynamics"]

POOL = 256  # fields of what is left, of each direction


class LatentDynamics(nn.Module):
    """Dynamics of latents (n, d) of a model, at times in units of a reference.

    What the dynamics leave unexplained of calibration frames is kept as whole fields, per square root of an octave of
    time. A sample adds one of them, shifted at random along periodic axes: dynamics that are equivariant leave errors
    that are.
    """

    centre: Tensor
    scale: Tensor
    reference: Tensor
    parameter_centre: Tensor
    parameter_scale: Tensor
    rests: Tensor
    counts: Tensor

    def __init__(self, code: Code, settings: Evolve) -> None:
        super().__init__()
        self.sites = code.sites or (1,)
        self.periodic = code.specification.grid.periodic if code.sites else (False,)
        self.latents, count = code.channels, len(settings.parameters)
        self.ratio = settings.ratio
        self.directions = nn.ModuleList(_network(settings, self.latents, count, self.periodic) for _ in range(2))
        self.register_buffer("centre", torch.zeros(self.latents, *(1,) * len(self.sites)))
        self.register_buffer("scale", torch.ones(self.latents, *(1,) * len(self.sites)))
        self.register_buffer("reference", torch.ones((), dtype=torch.float64))
        self.register_buffer("parameter_centre", torch.zeros(count))
        self.register_buffer("parameter_scale", torch.ones(count))
        self.register_buffer("rests", torch.zeros(2, POOL, self.latents, *self.sites))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))

    def standardised(self, latents: Array) -> Tensor:
        """Return latents (n, d) as standardised fields (n, latents, *sites)."""
        z = torch.as_tensor(latents).float().reshape(-1, self.latents, *self.sites)
        return (z - self.centre) / self.scale

    def plain(self, fields: Tensor) -> Tensor:
        """Return latents (n, d) of standardised fields."""
        return (fields * self.scale + self.centre).flatten(1)

    def network(self, *, forward: bool) -> nn.Module:
        """Return the network of a direction."""
        return self.directions[0 if forward else 1]

    def time(self, value: float, n: int) -> Tensor:
        """Return a time (n,) in units of the reference."""
        return torch.full((n,), value / float(self.reference))

    def known(self, parameters: Array) -> Tensor:
        """Return standardised parameters (n, k)."""
        given = torch.as_tensor(parameters).float()
        return (given - self.parameter_centre) / self.parameter_scale

    def way(self, start: float, end: float) -> list[float]:
        """Return the times from one to another, both included, at steps within the longest ratio."""
        count = max(1, math.ceil(abs(math.log(end / start)) / math.log(self.ratio) - 1e-6))
        return [start * (end / start) ** (k / count) for k in range(count)] + [end]

    @torch.no_grad()
    def step(self, fields: Tensor, start: float, end: float, parameters: Array) -> Tensor:
        """Return the expected fields (n, latents, *sites) at a time within the ratio of another."""
        n, network = len(fields), self.network(forward=end > start)
        return cast(Tensor, network(fields, self.time(start, n), self.time(end, n), self.known(parameters)))

    @torch.no_grad()
    def sample(self, fields: Tensor, start: float, end: float, parameters: Array, generator: torch.Generator) -> Tensor:
        """Return a sample (n, latents, *sites) at a time within the ratio of another, of every field."""
        network = self.network(forward=end > start)
        if isinstance(network, Flow):
            n = len(fields)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
                return network.sample(fields, self.time(start, n), self.time(end, n), self.known(parameters))
        octaves = abs(math.log2(end / start))
        return self.step(fields, start, end, parameters) + math.sqrt(octaves) * self._left(
            fields, start, end, generator
        )

    def _left(self, fields: Tensor, start: float, end: float, generator: torch.Generator) -> Tensor:
        """Return what is left of a step, of calibration frames, shifted at random (n, latents, *sites)."""
        direction = 0 if end > start else 1
        pool = self.rests[direction, : max(1, int(self.counts[direction]))]
        chosen = pool[torch.randint(len(pool), (len(fields),), generator=generator)]
        shifts = [torch.randint(n, (len(fields),), generator=generator).tolist() for n in self.sites]
        axes = [axis for axis, periodic in enumerate(self.periodic) if periodic]
        return torch.stack(
            [field.roll([shifts[a][k] for a in axes], [a + 1 for a in axes]) if axes else field
             for k, field in enumerate(chosen)]
        )  # fmt: skip


def _network(settings: Evolve, latents: int, parameters: int, periodic: tuple[bool, ...]) -> nn.Module:
    """Return the network of a direction, untrained."""
    if settings.dynamics == "linear":
        return Linear(latents, parameters, periodic)
    if settings.dynamics == "gaussian-process":
        return GaussianProcess(latents, parameters, periodic)
    kind = Flow if settings.dynamics == "flow" else NeuralOde
    return kind(latents, parameters, periodic, width=settings.width, blocks=settings.blocks)
