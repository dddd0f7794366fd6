"""An inverse variational autoencoder: a decoder R(x|y) from bits to occupations, an encoder Q(y|x) back.

Nothing but energies trains it. With w(x) the Boltzmann weight and p0(y) fair bits, the loss is the mean of
log p0 + log R - log w - log Q, an upper bound of -log Z (Cantwell 2022, arXiv:2209.10423; Karcz, Messina, Kawasaki,
Bourasseau 2024, arXiv:2408.14928).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from msvae import Array

__all__ = ["InverseVAE", "Sample", "fit"]

WIDTH = 128
RATE = 3e-3  # of learning
CLIPPED = 10.0  # norm of a gradient


@dataclass(frozen=True, eq=False)
class Sample:
    """Occupations (n, N) drawn for bits (n, d), their fields (n, N, K), log R (n,), and log Q - log p0 (n,)."""

    bits: Array
    occupations: Array
    fields: Array
    density: Array
    recognised: Array


class InverseVAE(nn.Module):
    """R and Q at any inverse temperature, in units of `scale`.

    counts: of every constituent, where they are conserved; occupations are then drawn site by site, with what is left.
    """

    def __init__(self, sites: int, species: int, bits: int, counts: Sequence[int] | None, scale: float) -> None:
        super().__init__()
        self.sites, self.species, self.bits, self.scale = sites, species, bits, scale
        self.counts = None if counts is None else torch.tensor(counts, dtype=torch.float32)
        self.decoder = _network(bits + 1, sites * species, 0.1)
        self.encoder = _network(sites * species + 1, bits)

    def forward(self, y: Tensor, beta: Tensor) -> Tensor:
        """Return the logits (n, N, K) of constituents for bits (n, d) at inverse temperatures (n, 1)."""
        out: Tensor = self.decoder(torch.cat([2 * y - 1, beta / self.scale], dim=1))
        logits: Tensor = functional.log_softmax(out.reshape(len(y), self.sites, self.species), dim=2)
        return logits

    def drawn(self, logits: Tensor) -> Tensor:
        """Return occupations (n, N)."""
        if self.counts is None:
            free: Tensor = torch.distributions.Categorical(logits=logits).sample()
            return free
        left = self.counts.repeat(len(logits), 1)
        found = torch.empty(logits.shape[:2], dtype=torch.long)
        for site in range(self.sites):
            found[:, site] = torch.distributions.Categorical(logits=logits[:, site] + left.log()).sample()
            left = left - functional.one_hot(found[:, site], self.species)
        return found

    def density(self, logits: Tensor, x: Tensor) -> Tensor:
        """Return log R (n,) of occupations."""
        if self.counts is not None:
            taken = functional.one_hot(x, self.species).cumsum(dim=1)
            before = functional.pad(taken, (0, 0, 1, 0))[:, :-1]
            logits = torch.log_softmax(logits + (self.counts - before).log(), dim=2)
        return logits.gather(2, x[..., None]).sum(dim=(1, 2))

    def recognised(self, x: Tensor, y: Tensor, beta: Tensor) -> Tensor:
        """Return log Q(y|x) (n,)."""
        seen = functional.one_hot(x, self.species).flatten(1).float() * 2 - 1
        logits = self.encoder(torch.cat([seen, beta / self.scale], dim=1))
        return -functional.binary_cross_entropy_with_logits(logits, y, reduction="none").sum(dim=1)

    def sample(self, count: int, beta: float, rng: np.random.Generator) -> Sample:
        """Return occupations drawn from p0 R at an inverse temperature."""
        y = torch.as_tensor(rng.integers(0, 2, (count, self.bits)), dtype=torch.float32)
        with torch.random.fork_rng([]), torch.no_grad():
            torch.manual_seed(int(rng.integers(2**62)))
            fields = self(y, torch.full((count, 1), beta))
            x = self.drawn(fields)
            density = self.density(fields, x).double().numpy()
        occupations, bits = x.numpy(), y.numpy()
        return Sample(bits, occupations, fields.numpy(), density, self.back(occupations, bits, beta))

    def back(self, occupations: Array, bits: Array, beta: float) -> Array:
        """Return log Q - log p0 (n,) of bits, given occupations."""
        with torch.no_grad():
            found = self.recognised(
                torch.as_tensor(occupations), torch.as_tensor(bits), torch.full((len(bits), 1), beta)
            )
        return np.asarray(found.double().numpy() + self.bits * math.log(2))


def _network(inputs: int, outputs: int, gain: float = 1.0) -> nn.Sequential:
    """Return a perceptron. gain: of its last weights."""
    last = nn.Linear(WIDTH, outputs)
    with torch.no_grad():
        last.weight.mul_(gain)
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), last)


def fit(
    vae: InverseVAE, energy: Callable[[Array], Array], betas: Sequence[float], *, steps: int, batch: int, seed: int
) -> None:
    """Train at inverse temperatures in turn, for steps of a batch of occupations.

    Score-function gradients with the mean of the other samples as a baseline (leave-one-out; Kool, van Hoof, Welling
    2019). energy: of occupations (n, N).
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        optimiser = torch.optim.AdamW(vae.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
        beta = torch.tensor(betas, dtype=torch.float32).repeat(-(-batch // len(betas)))[:batch, None]
        for step in range(steps):
            ramp = min(1.0, 2 * (step + 1) / steps)  # from high temperature down
            optimiser.zero_grad()
            _loss(vae, energy, beta * ramp).backward()
            nn.utils.clip_grad_norm_(vae.parameters(), CLIPPED)
            optimiser.step()
            schedule.step()


def _loss(vae: InverseVAE, energy: Callable[[Array], Array], beta: Tensor) -> Tensor:
    """Return a loss whose gradient is that of the mean bound, for each inverse temperature."""
    y = torch.bernoulli(torch.full((len(beta), vae.bits), 0.5))
    logits = vae(y, beta)
    with torch.no_grad():
        x = vae.drawn(logits)
        weight = -beta[:, 0] * torch.as_tensor(energy(x.numpy()), dtype=torch.float32)
    density, back = vae.density(logits, x), vae.recognised(x, y, beta)
    bound = (density - weight - back - vae.bits * math.log(2)).detach()
    advantage = torch.zeros_like(bound)
    for value in beta.unique():  # each temperature has a baseline of its own
        own = beta[:, 0] == value
        count = max(int(own.sum()), 2)
        advantage[own] = (bound[own] - bound[own].mean()) * count / (count - 1)
    return (advantage * density - back).mean()
