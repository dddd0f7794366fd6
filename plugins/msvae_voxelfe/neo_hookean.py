"""Compressible Neo-Hookean material in plane strain, for arrays of deformation gradients.

    psi = mu/2 (F:F - 3 - 2 ln J) + lambda/2 ((J^2 - 1)/2 - ln J)        (Mechanical MNIST; Lejeune 2020)
    P   = mu (F - F^-T) + lambda/2 (J^2 - 1) F^-T
    A   = dP/dF:  A_iJkL = mu d_ik d_JL + (mu - lambda/2 (J^2 - 1)) H_iL H_kJ + lambda J^2 H_iJ H_kL,   H = F^-T

psi is given less its value at F = I.
"""

from __future__ import annotations

import numpy as np

from msvae import Array


def determinant(f: Array) -> Array:
    """Return J (...) of deformation gradients (..., 2, 2)."""
    return np.asarray(f[..., 0, 0] * f[..., 1, 1] - f[..., 0, 1] * f[..., 1, 0])


def energy(f: Array, lam: Array, mu: Array) -> Array:
    """Return psi (...) for F (..., 2, 2) and Lame's parameters (...) in Pa."""
    j = determinant(f)
    square = (f * f).sum(axis=(-1, -2)) + 1  # the third stretch is one
    return np.asarray(mu / 2 * (square - 3 - 2 * np.log(j)) + lam / 2 * ((j * j - 1) / 2 - np.log(j)))


def stress_and_tangent(f: Array, lam: Array, mu: Array) -> tuple[Array, Array]:
    """Return P (..., 2, 2) and A (..., 2, 2, 2, 2) with the indices i, J, k, L."""
    j = determinant(f)
    h = (
        np.stack([f[..., 1, 1], -f[..., 1, 0], -f[..., 0, 1], f[..., 0, 0]], axis=-1).reshape(f.shape)
        / j[..., None, None]
    )
    pressure = lam / 2 * (j * j - 1)
    stress = mu[..., None, None] * (f - h) + pressure[..., None, None] * h
    outer = h[..., :, :, None, None] * h[..., None, None, :, :]  # H_iJ H_kL
    tangent = (lam * j * j)[..., None, None, None, None] * outer
    tangent = tangent + (mu - pressure)[..., None, None, None, None] * outer.swapaxes(-1, -3)  # H_iL H_kJ
    for i in range(2):
        for axis in range(2):
            tangent[..., i, axis, i, axis] += mu
    return stress, tangent
