"""Guards: whether a design can be believed, for an optimiser finds first what a model has never seen.

Every guard is a number with a limit that the data set itself sets: typicality, the log-density of the latents under the
fitted prior (at least that of all but 0.5 % of the structures); re-encoding, how far the latents are from those of what
they decode to; novelty, the distance of the decoded structure's descriptors from those of its nearest neighbours in the
data set (at most those of all but 0.5 %). After the solver: bounds, no effective tensor is above the arithmetic or
below the harmonic mean of its phases (Voigt 1889, Reuss 1929).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from msvae.metrics.descriptors import feature_vectors
from msvae.structures import Array, Structures
from msvae.vae.aggregate import Aggregate
from msvae.vae.model import VAE

__all__ = ["Bounds", "Guards"]

SHARE = 0.005  # of the data set's structures that a guard would refuse
NEIGHBOURS = 5
SLACK = 1e-3  # of a bound, for the solver's own error


@dataclass(frozen=True, eq=False)
class Guards:
    """What designs are held against. limits: the largest value of each guard that is accepted, by name."""

    vae: VAE
    tree: cKDTree
    centre: Array
    width: Array
    scatter: Array
    limits: Mapping[str, float]

    @classmethod
    def of(cls, vae: VAE, structures: Structures, *, most: int = 1000) -> Guards:
        """Return the guards that (at most so many of) a data set's structures set."""
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
        return cls(vae, tree, centre, width, own.scatter, limits)

    def judge(self, latents: Array, structures: Structures) -> dict[str, Array]:
        """Return by how much (n,) latents (n, d) and what they decode to exceed each guard's limit; 0 is accepted."""
        features = (feature_vectors(structures) - self.centre) / self.width
        k = min(NEIGHBOURS, self.tree.n)
        distance = self.tree.query(features, k=k)[0].reshape(len(features), k).mean(axis=1)
        found = {"typicality": self._atypical(latents), "re-encoding": self._moved(latents, structures)}
        return {name: v - self.limits[name] for name, v in {**found, "novelty": distance}.items()}

    def accept(self, latents: Array, structures: Structures) -> Array:
        """Return which (n,) pass every guard."""
        return np.asarray(np.max(list(self.judge(latents, structures).values()), axis=0) <= 0)

    def _atypical(self, latents: Array) -> Array:
        """Return minus the log-density (n,) under the fitted prior; without one, squared distances from the mean."""
        aggregate = self.vae.aggregate
        if isinstance(aggregate, Aggregate) and aggregate.conditions == 0:
            return -aggregate.log_prob(np.asarray(latents), np.zeros((len(latents), 0)))
        return np.asarray(np.square(latents / self.scatter).sum(axis=1))

    def _moved(self, latents: Array, structures: Structures) -> Array:
        return np.asarray(np.sqrt(np.square((self.vae.encode(structures) - latents) / self.scatter).mean(axis=1)))


@dataclass(frozen=True, eq=False)
class Bounds:
    """Effective tensors of a solver's pure phases, by property: (phases, v, v); none where they have no meaning."""

    phases: Mapping[str, Array]

    @classmethod
    def of(cls, properties: Mapping[str, Array]) -> Bounds:
        """Return the bounds that properties (phases, *shape) of pure phases set; NaN is taken to be an empty one."""
        found = {name: np.nan_to_num(np.asarray(array)) for name, array in properties.items()
                 if array.ndim == 3 and array.shape[1] == array.shape[2] and np.isfinite(array).any()}  # fmt: skip
        return cls(found)

    def excess(self, structures: Structures, properties: Mapping[str, Array]) -> Array:
        """Return how far (n,) tensors are outside of Voigt's and Reuss's bounds, over Voigt's; 0 inside."""
        worst = np.zeros(len(structures))
        for name, pure in self.phases.items():
            voigt = np.einsum("np,pij->nij", structures.fractions, pure)
            size = np.linalg.eigvalsh(voigt)[:, -1]
            tensors = np.asarray(properties[name])
            known = np.isfinite(tensors).all(axis=(1, 2))
            tensors = np.where(known[:, None, None], tensors, voigt)
            above = np.linalg.eigvalsh(tensors - voigt)[:, -1]
            below = np.linalg.eigvalsh(self._reuss(structures, pure) - tensors)[:, -1]
            worst = np.maximum(worst, np.where(known, np.maximum(above, below) / np.maximum(size, 1e-300), 0.0))
        return np.asarray(np.where(worst > SLACK, worst, 0.0))

    @staticmethod
    def _reuss(structures: Structures, pure: Array) -> Array:
        """Return the harmonic means (n, v, v), zero where an empty phase is in the structure."""
        solid = np.array([np.linalg.matrix_rank(p) == len(p) for p in pure])
        inverse = np.stack([np.linalg.inv(p) if ok else np.zeros_like(p) for p, ok in zip(pure, solid, strict=True)])
        bare = structures.fractions[:, ~solid].sum(axis=1) > 0
        mean = np.einsum("np,pij->nij", structures.fractions, inverse)
        result = np.zeros_like(mean)
        result[~bare] = np.linalg.inv(mean[~bare])
        return np.asarray(result)
