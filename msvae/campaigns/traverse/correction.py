"""Correction of structures by what the solver found of them: Newton's method through a Gaussian process of the latents.

An axis is only as good as the samples to which it was fitted. The process is conditioned on everything that was solved
so far, so that it is best where the traversals are (Rasmussen and Williams 2006, Gaussian Processes for Machine
Learning, eq. 2.25).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.spatial.distance import cdist

from msvae.structures import Array

__all__ = ["Correction", "Surrogate"]

FEW = 500  # samples whose likelihood decides length and noise
NEWTON = 20  # steps through the process
DAMPING = 0.05  # of the largest singular value of a slope
LARGEST = 0.5  # that a step changes the latents by


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The mean of a Gaussian process from latents (n, d) to properties (n, k).

    length: of the squared exponential kernel. latents: where properties are known. weights: (n, k).
    """

    length: float
    latents: Array
    weights: Array

    @classmethod
    def of(cls, latents: Array, values: Array, length: float, noise: float) -> Surrogate:
        """Return the process conditioned on values (n, k), whose mean is near zero and whose spread near one."""
        kernel = _kernel(latents, latents, length) + noise * np.eye(len(latents))
        return cls(length, latents, linalg.cho_solve(linalg.cho_factor(kernel), values))

    def __call__(self, latents: Array) -> tuple[Array, Array]:
        """Return means (m, k) and their slopes (m, k, d)."""
        kernel = _kernel(latents, self.latents, self.length)
        mean = kernel @ self.weights
        towards = np.stack([(kernel * w) @ self.latents for w in self.weights.T], axis=1)
        return mean, (towards - mean[:, :, None] * latents[:, None]) / self.length**2


def likeliest(latents: Array, values: Array) -> tuple[float, float]:
    """Return length and noise of the likeliest process of values (n, k), by its first rows."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    size = np.sqrt(latents.shape[1]) * float(latents.std())
    kernel = RBF(size, (0.2 * size, 20 * size)) + WhiteKernel(0.1, (1e-4, 1.0))
    fitted = GaussianProcessRegressor(kernel, random_state=0).fit(latents[:FEW], values[:FEW]).kernel_
    return float(fitted.k1.length_scale), float(fitted.k2.noise_level)


@dataclass(eq=False)
class Correction:
    """Everything that was solved, and the nearest tries so far of n structures.

    known, values: latents (m, d) and properties (m, k) that were solved. wanted: (n, k). latents, found: the nearest
    tries (n, d) and their properties (n, k), NaN where unknown. length, noise: of the process.
    """

    known: Array
    values: Array
    wanted: Array
    latents: Array
    found: Array
    length: float
    noise: float

    @classmethod
    def start(cls, samples: tuple[Array, Array], wanted: Array, latents: Array, found: Array) -> Correction:
        """Return the state after samples and the first tries."""
        length, noise = likeliest(*samples)
        state = cls(*samples, wanted, latents, np.full_like(found, np.nan), length, noise)
        state.learn(latents, found)
        return state

    def next_latents(self) -> Array:
        """Return the latents (n, d) to try next: the nearest ones at which the process has what is wanted."""
        process = Surrogate.of(self.known, self.values, self.length, self.noise)
        at, mean = self.latents.copy(), process(self.latents)[0]
        shift = np.nan_to_num(self.found - mean)  # of the process at the nearest try
        for _ in range(NEWTON):
            mean, slopes = process(at)
            at = at + _least_step(slopes, self.wanted - mean - shift)
        return at

    def learn(self, latents: Array, found: Array) -> None:
        """Take in what the solver found (n, k), and keep the tries that are nearer."""
        good = np.isfinite(found).all(axis=1)
        self.known = np.concatenate([self.known, latents[good]])
        self.values = np.concatenate([self.values, found[good]])
        nearer = _distance(found, self.wanted) < _distance(self.found, self.wanted)
        self.latents = np.where(nearer[:, None], latents, self.latents)
        self.found = np.where(nearer[:, None], found, self.found)


def _least_step(slopes: Array, missing: Array) -> Array:
    """Return the shortest steps (n, d) that change properties by what is missing (n, k), damped and bounded."""
    u, sizes, v = np.linalg.svd(slopes, full_matrices=False)
    damped = sizes / (sizes**2 + (DAMPING * sizes.max(axis=1, keepdims=True)) ** 2 + 1e-300)
    step = np.einsum("nji,nj,nkj,nk->ni", v, damped, u, missing)
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return np.asarray(step * np.minimum(1.0, LARGEST / np.maximum(length, 1e-300)))


def _kernel(a: Array, b: Array, length: float) -> Array:
    return np.asarray(np.exp(-0.5 * cdist(a, b, "sqeuclidean") / length**2))


def _distance(found: Array, wanted: Array) -> Array:
    """Return the largest distance (n,) from what is wanted; what is unknown is farthest."""
    return np.asarray(np.nan_to_num(np.abs(found - wanted).max(axis=1), nan=np.inf))
