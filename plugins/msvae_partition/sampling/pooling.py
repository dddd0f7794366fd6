"""Averages at one temperature from the occupations of all: what is rare where it is cold is common where it is hot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from msvae import Array
from msvae_partition.sampling.annealing import Cooled, normalised

__all__ = ["pooled_means"]


def pooled_means(cooled: Sequence[Cooled], betas: Sequence[float], values: Sequence[Array]) -> list[Array]:
    """Return the averages (B, f) in each batch at each of K inverse temperatures, from the batches at all of them.

    values: K arrays (n, f), of the n occupations at each. Each occupation counts by its density at the temperature over
    the mean of its densities at all (Shirts and Chodera 2008, J. Chem. Phys. 129, 124105, with the partition functions
    of the annealing).
    """
    shape = cooled[0].weights.shape
    logs = np.array([logsumexp(one.weights) - np.log(one.weights.size) for one in cooled])
    energies = np.concatenate([one.population.energies.reshape(shape) for one in cooled], axis=1)
    shares = np.concatenate([normalised(one.weights) for one in cooled], axis=1)
    densities = -np.asarray(betas)[:, None, None] * energies - logs[:, None, None]
    mixture = logsumexp(densities, axis=0)
    observed = np.concatenate([v.reshape(*shape, -1) for v in values], axis=1)
    return [np.asarray(np.einsum("bm,bmf->bf", normalised(np.log(shares) + own - mixture), observed))
            for own in densities]  # fmt: skip
