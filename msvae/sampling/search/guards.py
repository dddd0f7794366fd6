"""Guards reject designs far from the training data, where models err and to which optimisers are drawn.

Every guard is a number whose limit is derived from the data set: typicality, the log-density of the latents under the
fitted prior (at least that of all but 0.5 % of the structures); re-encoding, the distance of the latents from those of
the re-encoded decoded structure; novelty, the distance of the decoded structure's descriptors from those of its nearest
neighbours in the data set (at most those of all but 0.5 %). In a large latent space re-encoding moves samples of the
prior further than those of real structures: its limit accepts nine in ten of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from msvae.metrics.descriptors import feature_vectors
from msvae.structures import Array, Structures
from msvae.vae.model import VAE
from msvae.vae.priors.aggregate import Aggregate

__all__ = ["Guards"]

SHARE = 0.005  # of the data set's structures that a guard would refuse
SAMPLED, USUAL = 200, 0.9  # samples of the prior, and the share of them whose re-encoding is accepted in any case
NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Guards:
    """The guards that designs have to pass. limits: the largest accepted value of each guard, by name."""

    vae: VAE
    tree: cKDTree
    centre: Array
    width: Array
    scatter: Array
    limits: Mapping[str, float]

    @classmethod
    def of(cls, vae: VAE, structures: Structures, *, most: int = 1000) -> Guards:
        """Return the guards derived from a data set's structures, or from a limited number of them."""
        chosen = structures[:most]
        features = feature_vectors(chosen)
        latents = vae.draw(chosen, 0)  # not the means: the prior's samples are as scattered as draws
        centre, width = features.mean(axis=0), features.std(axis=0)
        width = np.where(width > 0, width, 1.0)
        tree = cKDTree((features - centre) / width)
        near = tree.query((features - centre) / width, k=min(NEIGHBOURS + 1, len(chosen)))[0][:, 1:].mean(axis=1)
        own = cls(vae, tree, centre, width, latents.std(axis=0) + 1e-9, {})
        found = {"typicality": own._atypical(latents), "re-encoding": own._moved(latents, vae.decode(latents)),
                 "novelty": near}  # fmt: skip
        limits = {name: float(np.quantile(values, 1 - SHARE)) for name, values in found.items()}
        drawn = vae.sample_latents(SAMPLED, 0)
        usual = float(np.quantile(own._moved(drawn, vae.decode(drawn)), USUAL))
        limits["re-encoding"] = max(limits["re-encoding"], usual)
        return cls(vae, tree, centre, width, own.scatter, limits)

    def judge(self, latents: Array, structures: Structures) -> dict[str, Array]:
        """Return the excess (n,) of latents (n, d) and their decoded structures over each guard's limit; 0 passes."""
        features = (feature_vectors(structures) - self.centre) / self.width
        k = min(NEIGHBOURS, self.tree.n)
        distance = self.tree.query(features, k=k)[0].reshape(len(features), k).mean(axis=1)
        found = {"typicality": self._atypical(latents), "re-encoding": self._moved(latents, structures)}
        return {name: v - self.limits[name] for name, v in {**found, "novelty": distance}.items()}

    def accept(self, latents: Array, structures: Structures) -> Array:
        """Return which designs (n,) pass every guard."""
        return np.asarray(np.max(list(self.judge(latents, structures).values()), axis=0) <= 0)

    def _atypical(self, latents: Array) -> Array:
        """Return minus the log-density (n,) under the fitted prior; without one, squared distances from the mean."""
        aggregate = self.vae.aggregate
        if isinstance(aggregate, Aggregate) and aggregate.conditions == 0:
            return -aggregate.log_prob(np.asarray(latents), np.zeros((len(latents), 0)))
        return np.asarray(np.square(latents / self.scatter).sum(axis=1))

    def _moved(self, latents: Array, structures: Structures) -> Array:
        return np.asarray(np.sqrt(np.square((self.vae.encode(structures) - latents) / self.scatter).mean(axis=1)))
