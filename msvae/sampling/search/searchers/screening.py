"""Screening of candidates: decoding in batches, and the probability that the solver succeeds."""

from __future__ import annotations

import numpy as np
import torch

from msvae.structures import Array, Structures
from msvae.vae.model import VAE

__all__ = ["chance_of_answer", "decoded"]

TOGETHER = 32  # latents that are decoded at once
TREES = 80  # that say whether a design will fail


@torch.no_grad()
def decoded(vae: VAE, latents: Array) -> Structures:
    """Decode latents (n, d) in batches: faster than `vae.decode`, and equal to it up to round-off."""
    if not vae.blueprint.specification.is_discrete:
        return vae.decode(latents)
    z, told = torch.as_tensor(latents, dtype=torch.float32), vae.network_conditions(None, len(latents))
    parts = [vae.likelihood.mode(vae.reconstruct(z[rows], told[rows], vae.sites)).numpy()
             for rows in (slice(k, k + TOGETHER) for k in range(0, len(z), TOGETHER))]  # fmt: skip
    return Structures(np.concatenate(parts), vae.blueprint.specification)


def chance_of_answer(points: Array, failed: Array, where: Array, seed: int) -> Array:
    """Return the probability (m,) of success at points (m, k), estimated from past designs (n, k)."""
    from sklearn.ensemble import ExtraTreesClassifier

    forest = ExtraTreesClassifier(TREES, min_samples_leaf=2, random_state=seed % 2**31)
    chance = forest.fit(points, ~failed).predict_proba(where)
    return np.asarray(chance[:, -1]) if len(forest.classes_) == 2 else np.full(len(where), 0.5)
