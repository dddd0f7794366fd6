"""Random processes that make periodic microstructures: each is a function of a grid's shape and a generator.

Lengths are in voxels here; the data set converts from metres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from msvae import Array


def gaussian_field(shape: Sequence[int], rng: np.random.Generator, *, lengths: Sequence[float]) -> Array:
    """Return a standard Gaussian random field with covariance exp(-sum_i (r_i / l_i)^2), periodic on the grid."""
    spectrum = np.fft.rfftn(rng.standard_normal(shape))
    spectrum *= np.exp(-_squared_frequencies(shape, lengths) / 8)
    field = np.fft.irfftn(spectrum, s=tuple(shape), axes=range(len(shape)))
    deviation = field.std()
    return np.asarray((field - field.mean()) / (deviation if deviation > 0 else 1.0))


def thresholded(field: Array, fraction: float) -> Array:
    """Return labels 0 and 1 such that the largest `fraction` of the values is phase 1, to the nearest voxel."""
    order = np.argsort(field, axis=None, kind="stable")
    labels = np.zeros(field.size, dtype=np.uint8)
    labels[order[field.size - round(fraction * field.size) :]] = 1
    return labels.reshape(field.shape)


def overlapping_spheres(
    shape: Sequence[int],
    rng: np.random.Generator,
    *,
    fraction: float,
    radius: float,
    steps: Sequence[float] | None = None,
) -> Array:
    """Return labels of overlapping spheres (phase 1) of equal radius, centres a Poisson process.

    steps: edges of a voxel in the unit of the radius; one by default.

    The expected fraction is 1 - exp(-rho V) (Torquato 2002, Random Heterogeneous Materials, eq. 5.45).
    """
    d, edges = len(shape), np.ones(len(shape)) if steps is None else np.array(steps)
    ball = math.pi ** (d / 2) / math.gamma(d / 2 + 1) * radius**d
    count = rng.poisson(-math.log1p(-fraction) * math.prod(shape * edges) / ball)
    if count == 0:
        return np.zeros(shape, dtype=np.uint8)
    places = rng.uniform(0, shape, (count, d)) * edges
    distance, _ = cKDTree(places, boxsize=shape * edges).query(_centres(shape) * edges)
    return np.asarray(distance <= radius, dtype=np.uint8).reshape(shape)


def voronoi(
    shape: Sequence[int],
    rng: np.random.Generator,
    *,
    grain: float,
    fractions: Sequence[float],
    steps: Sequence[float] | None = None,
) -> Array:
    """Return labels of a Voronoi tessellation; each grain is of a phase drawn with the given fractions.

    grain: edge of the cube of a mean grain's volume. steps: edges of a voxel in the same unit; one by default.
    """
    d, edges = len(shape), np.ones(len(shape)) if steps is None else np.array(steps)
    count = max(1, round(math.prod(shape * edges) / grain**d))
    places = rng.uniform(0, shape, (count, d)) * edges
    _, nearest = cKDTree(places, boxsize=shape * edges).query(_centres(shape) * edges)
    phases = rng.choice(len(fractions), size=count, p=fractions)
    return np.asarray(phases[nearest], dtype=np.uint8).reshape(shape)


def spinodal(
    start: Array, times: Sequence[float] | Array, *, height: float = 85.0, gradient: float = 0.0175, step: float = 5e-6
) -> Array:
    """Return the concentrations (len(times), *shape) of a spinodal decomposition on a periodic unit square or cube.

    Cahn-Hilliard: dc/dt = lap(f'(c) - gradient lap c), f = height c^2 (1 - c)^2, mobility 1; semi-implicit in Fourier
    space (Chen and Shen 1998, Comput. Phys. Commun. 108, 147) with the stabilising constant of the double well.
    """
    shape, edge = start.shape, max(start.shape)
    k2 = _squared_frequencies(shape, [edge] * len(shape))
    stabiliser = height
    inverse = 1 / (1 + step * (stabiliser * k2 + gradient * k2**2))
    drive = step * k2 * inverse
    from scipy import fft

    c = fft.rfftn(start)
    frames: list[Array] = []
    asked = np.round(np.asarray(times) / step).astype(int).tolist()
    for done in range(max(asked) + 1):
        real = fft.irfftn(c, s=shape)
        frames += [real] * asked.count(done)
        force = real * (2 * height * (1 - real) * (1 - 2 * real) - stabiliser)
        c = c * inverse - drive * fft.rfftn(force)
    return np.stack(frames)


def spinodal_energy(c: Array, *, height: float, gradient: float) -> float:
    """Return the free energy per volume, mean of height c^2 (1 - c)^2 + gradient / 2 |grad c|^2, of `spinodal`."""
    k2 = _squared_frequencies(c.shape, [max(c.shape)] * c.ndim)
    curvature = np.fft.irfftn(k2 * np.fft.rfftn(c), s=c.shape, axes=range(c.ndim))
    return float((height * (c * (1 - c)) ** 2 + 0.5 * gradient * c * curvature).mean())


def _squared_frequencies(shape: Sequence[int], lengths: Sequence[float]) -> Array:
    """Return sum_i (k_i l_i)^2 on the half grid of a real transform, k in radians per voxel, l in voxels."""
    d = len(shape)
    total = np.zeros((1,) * d)
    for axis, (n, length) in enumerate(zip(shape, lengths, strict=True)):
        k = np.fft.rfftfreq(n) if axis == d - 1 else np.fft.fftfreq(n)
        total = total + (2 * np.pi * k * length).reshape([-1 if a == axis else 1 for a in range(d)]) ** 2
    return np.asarray(total)


def _centres(shape: Sequence[int]) -> Array:
    axes = np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij")
    return np.stack([a.ravel() for a in axes], axis=1)
