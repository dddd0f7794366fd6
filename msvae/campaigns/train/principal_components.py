"""The baseline of the model card: PCA with as many components as the model has latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from msvae.structures import Array, Structures

__all__ = ["PrincipalComponents"]


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """The control: principal components of the values, or of the indicators of the phases; samples are normal."""

    like: Structures
    components: Any

    @classmethod
    def of(cls, train: Structures, latents: int) -> PrincipalComponents:
        """Return it for as many components as the model has latents, or as there can be."""
        from sklearn.decomposition import PCA

        vectors = _vectors(train)
        count = min(latents, len(vectors) - 1, vectors.shape[1])
        return cls(train[:0], PCA(count, svd_solver="randomized", random_state=0).fit(vectors))

    def reconstruct(self, structures: Structures) -> Structures:
        """Return the nearest structures in the span of the components."""
        return self._structures(self.components.inverse_transform(self.scores(structures)))

    def scores(self, structures: Structures) -> Array:
        """Return the scores (n, d) of structures."""
        return np.asarray(self.components.transform(_vectors(structures)))

    def sample(self, n: int, seed: int) -> Structures:
        """Return structures from normal scores of the components' variances."""
        scores = np.random.default_rng(seed).standard_normal((n, self.components.n_components_))
        return self._structures(
            self.components.inverse_transform(scores * np.sqrt(self.components.explained_variance_))
        )

    def _structures(self, vectors: Array) -> Structures:
        specification = self.like.specification
        if specification.is_discrete:
            parts = vectors.reshape(len(vectors), *specification.shape, len(specification.constituents))
            return Structures(parts.argmax(axis=-1), specification)
        values = vectors.reshape(len(vectors), *specification.shape)
        if specification.kind == "composition":
            values = np.maximum(values, 1e-9)
            values = values / values.sum(axis=1, keepdims=True)
        return Structures(values, specification)


def _vectors(structures: Structures) -> Array:
    values = structures.values
    if structures.specification.is_discrete:
        values = np.eye(len(structures.specification.constituents), dtype=np.float32)[values.astype(int)]
    return np.asarray(values.reshape(len(values), -1), dtype=np.float32)
