"""Other ways to a partition function, at a given number of energies: controls of `benchmarks/partition.py`.

All of them share one account: an occupation, or an image of it under the lattice's operations, is paid for once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import logsumexp

from msvae_partition.expansion.symmetry import Lattice

__all__ = ["CONTROLS", "Account", "SpentError"]

FREE = 200  # times the budget: moves among what was paid for already, after which a control ends


class SpentError(Exception):
    """No energies are left."""


@dataclass
class Account:
    """Energies of occupations (N,) of two constituents; `budget` of them are new ones."""

    lattice: Lattice
    energy: Callable[[np.ndarray], np.ndarray]
    budget: int
    known: dict[bytes, float] = field(default_factory=dict)
    calls: int = 0

    def __call__(self, occupation: np.ndarray) -> float:
        self.calls += 1
        row = self.lattice.canonical(occupation[None])[0]
        key = row.astype(np.uint8).tobytes()
        if key not in self.known:
            if len(self.known) >= self.budget:
                raise SpentError
            self.known[key] = float(self.energy(row[None])[0])
        if self.calls > FREE * self.budget:
            raise SpentError
        return self.known[key]


def importance(account: Account, betas: Sequence[float], rng: np.random.Generator) -> list[float]:
    """Uniform occupations, weighed."""
    found: list[float] = []
    try:
        while True:
            found.append(account(rng.integers(0, 2, account.lattice.sites)))
    except SpentError:
        pass
    energies, n = np.array(found), account.lattice.sites
    return [float(n * np.log(2) + logsumexp(-b * energies) - np.log(len(energies))) for b in betas]


def annealed(account: Account, betas: Sequence[float], rng: np.random.Generator, particles: int = 8) -> list[float]:
    """Annealed importance sampling with resampling (sequential Monte Carlo), one site a step (Neal 2001)."""
    n = account.lattice.sites
    x = rng.integers(0, 2, (particles, n))
    energies = np.array([account(row) for row in x])
    steps = max((account.budget - particles) // particles, len(betas))
    path = np.unique(np.concatenate([np.linspace(0, max(betas), steps + 1)[1:], betas]))
    log_z, now, found = n * np.log(2), 0.0, {}
    for beta in path:
        weights = -(beta - now) * energies
        log_z += float(logsumexp(weights) - np.log(particles))
        rows = rng.choice(particles, particles, p=np.exp(weights - logsumexp(weights)))
        x, energies, now = x[rows].copy(), energies[rows].copy(), float(beta)
        if beta in betas:
            found[float(beta)] = log_z
        try:
            for k in range(particles):
                _flip(account, x, energies, k, beta, rng)
        except SpentError:
            pass  # weights go on without moves
    return [found[b] for b in betas]


def _flip(account: Account, x: np.ndarray, energies: np.ndarray, k: int, beta: float, rng: np.random.Generator) -> None:
    new = x[k].copy()
    site = rng.integers(len(new))
    new[site] = 1 - new[site]
    energy = account(new)
    if np.log(rng.random()) < -beta * (energy - energies[k]):
        x[k], energies[k] = new, energy


def integrated(account: Account, betas: Sequence[float], rng: np.random.Generator, points: int = 13) -> list[float]:
    """Metropolis at a ladder of temperatures, and the integral of the mean energy."""
    ladder = np.unique(np.concatenate([np.linspace(0, max(betas), points), betas]))
    x = rng.integers(0, 2, (1, account.lattice.sites))
    energies, means, share = np.array([account(x[0])]), [], account.budget / len(ladder)
    for number, beta in enumerate(ladder):
        seen: list[float] = []
        try:
            while len(account.known) < share * (number + 1) and len(seen) < FREE * share:
                _flip(account, x, energies, 0, beta, rng)
                seen.append(float(energies[0]))
        except SpentError:
            pass
        half = seen[len(seen) // 2 :] or [float(energies[0])]
        means.append(np.mean(half))
    total = account.lattice.sites * np.log(2) - np.concatenate(
        [[0], np.cumsum(np.diff(ladder) * (np.array(means[1:]) + means[:-1]) / 2)]
    )
    return [float(total[np.searchsorted(ladder, b)]) for b in betas]


def wang_landau(account: Account, betas: Sequence[float], rng: np.random.Generator) -> list[float]:
    """The density of states by a walk that makes energies equally frequent (Wang and Landau 2001); 1/t schedule."""
    n = account.lattice.sites
    x = rng.integers(0, 2, (1, n))
    energies, log_g, step, count = np.array([account(x[0])]), {}, 1.0, 0
    try:
        while True:
            new = x[0].copy()
            site = rng.integers(n)
            new[site] = 1 - new[site]
            energy = account(new)
            here, there = (round(float(e), 6) for e in (energies[0], energy))
            if np.log(rng.random()) < log_g.get(here, 0.0) - log_g.get(there, 0.0):
                x[0], energies[0], here = new, energy, there
            count += 1
            log_g[here] = log_g.get(here, 0.0) + step
            step = min(1.0, max(len(log_g), 1) / count)  # Belardinelli and Pereyra 2007
    except SpentError:
        pass
    levels, values = np.array([*log_g]), np.array([*log_g.values()])
    values = values - logsumexp(values) + n * np.log(2)
    return [float(logsumexp(values - b * levels)) for b in betas]


CONTROLS = {
    "importance sampling": importance,
    "annealed, sequential Monte Carlo": annealed,
    "Metropolis, thermodynamic integration": integrated,
    "Wang-Landau": wang_landau,
}
