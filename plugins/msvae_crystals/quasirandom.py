"""Special quasirandom structures: occupations whose pairs are as in a random alloy, though their cell is small.

Zunger, Wei, Ferreira and Bernard, Phys. Rev. Lett. 65 (1990) 353. Found by simulated annealing of the Warren-Cowley
parameters, by exchanges of two atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from msvae import Array, Count, Fraction, Quantity, Rule, Structures, Unit, seed_of
from msvae_crystals.parent import Occupations, check_rest
from msvae_crystals.short_range_order import shells_of, warren_cowley

HOT, COLD = 1.0, 1e-4  # temperatures at begin and end, in units of a typical change of the objective
BelowOne = Rule("fractions whose sum is below 1", lambda fractions: sum(fractions) < 1)


@dataclass(frozen=True)
class SpecialQuasirandom(Occupations):
    """Special quasirandom structures of a crystal, with exact numbers of each species.

    fractions: of the species but the last, rounded to whole atoms. shape: unit cells along each axis. count: number of
        structures. shells: of neighbours whose pairs are to be as in a random alloy; the s-th has the weight 1 / s.
    steps: exchanges of two atoms that are tried for each structure.
    The known property "warren_cowley" (shells, species, species) says how near to random the structures came.
    """

    name = "special-quasirandom"
    fractions: Annotated[tuple[Fraction, ...], BelowOne] = (0.5,)
    shape: Annotated[tuple[Annotated[Count, Unit("cells")], ...], Field(min_length=3, max_length=3)] = (2, 2, 2)
    count: Count = 10
    shells: Annotated[Count, Field(le=20)] = 4
    steps: Count = 20_000

    def __post_init__(self) -> None:
        check_rest(self.species, self.fractions, "number")

    def load(self, seed: int) -> Structures:
        crystal = self.parent()
        specification = self.specification(crystal, self.shape)
        shells = shells_of(crystal, self.shape, self.shells)
        size, species = int(np.prod(specification.shape)), len(self.species)
        numbers = [round(fraction * size) for fraction in self.fractions]
        start = np.repeat(np.arange(species), [*numbers, size - sum(numbers)])
        found = []
        for k in range(self.count):
            rng = np.random.default_rng(seed_of(seed, "quasirandom", k))
            found.append(_annealed(rng.permutation(start), shells, species, self.steps, rng))
        values = np.array(found, dtype=np.uint8).reshape(self.count, *specification.shape)
        quantity = Quantity("warren_cowley", "1", (self.shells, species, species))
        return Structures(values, specification, {"warren_cowley": warren_cowley(values, shells, species)}, (quantity,))

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        return cls(count=n, steps=200).load(seed)


class _Pairs:
    """Numbers of pairs (shells, species, species) of an occupation, and what changing a site does to them."""

    def __init__(self, occupation: Array, shells: Sequence[tuple[Array, Array]], species: int) -> None:
        size = len(occupation)
        self.occupation, self.species = occupation.copy(), species
        order = [np.argsort(first, kind="stable") for first, _ in shells]
        lists = [second[o].reshape(size, -1) for o, (_, second) in zip(order, shells, strict=True)]
        self.near = np.concatenate(lists, axis=1)  # (sites, neighbours of all shells)
        self.shell = np.repeat(np.arange(len(lists)), [neighbours.shape[1] for neighbours in lists])
        self.own = self.near == np.arange(size)[:, None]  # a site's own images, in a small cell
        fractions = np.bincount(occupation, minlength=species) / size
        self.weight = 1 / (1 + np.arange(len(lists)))[:, None, None]
        totals = np.array([neighbours.size for neighbours in lists])[:, None, None]
        self.expected = totals * np.outer(fractions, fractions)
        self.scale = np.where(self.expected > 0, self.expected, 1.0)
        self.counts = np.zeros((len(lists), species, species))
        pairs = (self.shell[None], self.occupation[:, None], self.occupation[self.near])
        np.add.at(self.counts, np.broadcast_arrays(*pairs), 1)

    @property
    def objective(self) -> float:
        """Weighted sum of squares of the Warren-Cowley parameters; 0 for a random alloy."""
        return float((self.weight * ((self.counts - self.expected) / self.scale) ** 2).sum())

    def change(self, site: int, to: int) -> None:
        """Put another species on a site."""
        before, own = int(self.occupation[site]), self.own[site]
        codes = self.shell[~own] * self.species + self.occupation[self.near[site, ~own]]
        around = np.bincount(codes, minlength=self.counts.shape[0] * self.species).reshape(-1, self.species)
        images = np.bincount(self.shell[own], minlength=self.counts.shape[0])
        for species, sign in ((before, -1), (to, 1)):
            self.counts[:, species, :] += sign * around
            self.counts[:, :, species] += sign * around
            self.counts[:, species, species] += sign * images
        self.occupation[site] = to

    def exchange(self, a: int, b: int) -> None:
        """Exchange the species of two sites."""
        first, second = int(self.occupation[a]), int(self.occupation[b])
        self.change(a, second)
        self.change(b, first)


def _annealed(
    occupation: Array, shells: Sequence[tuple[Array, Array]], species: int, steps: int, rng: np.random.Generator
) -> Array:
    """Return the best occupation that so many exchanges of two atoms find."""
    pairs = _Pairs(occupation, shells, species)
    now = pairs.objective
    best, kept = now, occupation.copy()
    unit = now or 1.0
    for temperature in unit * HOT * (COLD / HOT) ** np.linspace(0, 1, steps):
        a, b = rng.integers(len(occupation), size=2)
        if pairs.occupation[a] == pairs.occupation[b]:
            continue
        pairs.exchange(a, b)
        new = pairs.objective
        if new <= now or rng.random() < np.exp((now - new) / temperature):
            now = new
        else:
            pairs.exchange(a, b)
        if now < best:
            best, kept = now, pairs.occupation.copy()
            if best < 1e-20:
                break
    return kept
