"""Correction of positions on axes by what the solver found there: Broyden's method for every structure at once.

Broyden 1965, Math. Comp. 19, 577. An axis is only as good as the samples to which it was fitted; the slope that the
solver shows between two tries tells how far to go from the nearer one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae.structures import Array

__all__ = ["Correction"]

LARGEST = 1.0  # standard deviations of a property that a step may change the positions by
SOFT = 0.1  # of the largest singular value of a slope: what is smaller is damped


@dataclass(eq=False)
class Correction:
    """The nearest tries so far of n structures, and the slopes of their properties along the axes.

    wanted: properties (n, k) as the axes have them. at: positions (n, k) of the nearest tries. found: their properties,
    NaN where unknown. slopes: (n, k, k). latents: (n, d) of the nearest tries.
    """

    wanted: Array
    at: Array
    found: Array
    slopes: Array
    latents: Array

    @classmethod
    def start(cls, wanted: Array, at: Array, found: Array, latents: Array) -> Correction:
        """Return the state after the first tries, as if the axes were right about slopes."""
        slopes = np.tile(np.eye(wanted.shape[1]), (len(wanted), 1, 1))
        return cls(wanted, at.copy(), found.copy(), slopes, latents.copy())

    def steps(self) -> Array:
        """Return the positions (n, k) to try next."""
        u, sizes, v = np.linalg.svd(self.slopes)
        damped = sizes / (sizes**2 + (SOFT * sizes.max(axis=1, keepdims=True)) ** 2)
        missing = np.nan_to_num(self.wanted - self.found)
        step = np.einsum("nji,nj,nkj,nk->ni", v, damped, u.swapaxes(1, 2), missing)
        length = np.abs(step).max(axis=1, keepdims=True)
        return np.asarray(self.at + step * np.minimum(1.0, LARGEST / np.maximum(length, 1e-300)))

    def learn(self, at: Array, found: Array, latents: Array) -> None:
        """Update slopes with what was found (n, k) at new positions, and keep the tries that are nearer."""
        step, rise = at - self.at, found - self.found
        known = np.isfinite(rise).all(axis=1) & (np.abs(step).max(axis=1) > 0)
        wrong = rise - np.einsum("nij,nj->ni", self.slopes, step)
        change = wrong[:, :, None] * step[:, None] / np.maximum((step**2).sum(axis=1), 1e-300)[:, None, None]
        self.slopes = np.where(known[:, None, None], self.slopes + change, self.slopes)
        nearer = _distance(found, self.wanted) < _distance(self.found, self.wanted)
        for name, new in (("at", at), ("found", found), ("latents", latents)):
            setattr(self, name, np.where(nearer[:, None], new, getattr(self, name)))


def _distance(found: Array, wanted: Array) -> Array:
    """Return the largest distance (n,) from what is wanted; what is unknown is farthest."""
    return np.asarray(np.nan_to_num(np.abs(found - wanted).max(axis=1), nan=np.inf))
