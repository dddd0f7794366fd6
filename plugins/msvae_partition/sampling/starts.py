"""Where the annealing starts: uniform occupations, or those of an inverse VAE, with the density of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import gammaln, logsumexp

from msvae import Array
from msvae_partition.expansion.symmetry import Lattice
from msvae_partition.sampling.annealing import Cooled, Path, anneal
from msvae_partition.sampling.chains import Moves, Population
from msvae_partition.sampling.inverse_vae import InverseVAE

__all__ = ["FromInverseVAE", "Start", "Uniform", "spread"]


@dataclass(eq=False)
class Uniform:
    """All occupations, or all with some counts of constituents, equally likely; one annealing for all temperatures."""

    lattice: Lattice
    counts: tuple[int, ...] | None
    path: Path = field(default_factory=Path)
    name: str = "uniform"

    @property
    def log_count(self) -> float:
        """The logarithm of the number of occupations."""
        if self.counts is None:
            return self.lattice.sites * math.log(self.lattice.species)
        return float(gammaln(self.lattice.sites + 1) - gammaln(np.array(self.counts) + 1).sum())

    def drawn(self, count: int, rng: np.random.Generator) -> Array:
        """Return occupations (n, N)."""
        if self.counts is None:
            return rng.integers(0, self.lattice.species, (count, self.lattice.sites))
        return rng.permuted(np.tile(np.repeat(np.arange(len(self.counts)), self.counts), (count, 1)), axis=1)

    def cooled(
        self, moves: Moves, betas: Sequence[float], shape: tuple[int, int], sweeps: int, rng: np.random.Generator
    ) -> Iterator[Cooled]:
        """Yield batches of occupations (B, m) at inverse temperatures in ascending order."""
        population = Population.of(moves.expansion, self.drawn(math.prod(shape), rng))
        yield from anneal(moves, (population, np.full(shape, self.log_count)), betas, self.path, sweeps=sweeps, rng=rng)

    def forget(self) -> None:
        """Forget the steps that were found."""
        self.path = Path()

    @property
    def steps(self) -> int:
        """The number of steps that were found."""
        return len(self.path.steps)


@dataclass(eq=False)
class FromInverseVAE:
    """The decoder's occupations at each temperature; the encoder's density of their bits completes the weights.

    Bits stay as they are while the occupations move: the start is p0(y) R(x|y), the way leads to p0(y) w(x), and the
    last weight, Q(y|x) / p0(y), makes up for what is frozen in (one of two signs of the order, say).
    """

    vae: InverseVAE
    paths: dict[float, Path] = field(default_factory=dict)
    name: str = "inverse-vae"

    def cooled(
        self, moves: Moves, betas: Sequence[float], shape: tuple[int, int], sweeps: int, rng: np.random.Generator
    ) -> Iterator[Cooled]:
        """Yield batches of occupations (B, m) at inverse temperatures."""
        for beta in betas:
            sample = self.vae.sample(math.prod(shape), beta, rng)
            population = Population.of(moves.expansion, sample.occupations, sample.fields)
            start, path = (population, -sample.density.reshape(shape)), self.paths.setdefault(beta, Path())
            for cooled in anneal(moves, start, [beta], path, sweeps=sweeps, rng=rng):
                bits = sample.bits[cooled.population.origins]
                back = self.vae.back(cooled.population.occupations.astype(np.int64), bits, beta)
                yield Cooled(cooled.population, cooled.weights + back.reshape(shape))

    def forget(self) -> None:
        """Forget the steps that were found."""
        self.paths.clear()

    @property
    def steps(self) -> int:
        """The number of steps that were found, over all temperatures."""
        return sum(len(path.steps) for path in self.paths.values())


Start = Uniform | FromInverseVAE


def spread(cooled: Cooled) -> float:
    """Return the relative standard deviation of the batches' partition functions."""
    own = logsumexp(cooled.weights, axis=1)
    shares = np.exp(own - logsumexp(own)) * len(own)
    return float(shares.std(ddof=1))
