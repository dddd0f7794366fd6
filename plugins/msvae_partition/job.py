"""What does not change over a run of the campaign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae import Context, seed_of
from msvae_partition.campaign import Partition
from msvae_partition.expansion.clusters import Clusters
from msvae_partition.expansion.ledger import Ledger
from msvae_partition.observables import Observables
from msvae_partition.sampling.starts import Uniform

__all__ = ["PILOT", "Job"]

PILOT = (8, 50)  # batches and occupations that look for steps, starts and configurations to learn from


@dataclass(frozen=True, eq=False)
class Job:
    """The parts of a run. betas: 1 / kT in 1/J, in ascending order."""

    context: Context
    settings: Partition
    ledger: Ledger
    clusters: Clusters
    observables: Observables
    uniform: Uniform
    betas: tuple[float, ...]

    def rng(self, *words: object) -> np.random.Generator:
        """Return the random numbers of a part of the run."""
        return np.random.default_rng(seed_of(self.context.study.seed, "partition", *map(str, words)))
