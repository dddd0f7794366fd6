"""Compressible Neo-Hookean material in 3D and in plane strain, for arrays of deformation gradients.

    psi = mu/2 (F:F - 3 - 2 ln J) + lambda/2 ((J^2 - 1)/2 - ln J)        (Mechanical MNIST; Lejeune 2020)
    P   = mu (F - F^-T) + lambda/2 (J^2 - 1) F^-T
    A   = dP/dF:  A_iJkL = mu d_ik d_JL + (mu - lambda/2 (J^2 - 1)) H_iL H_kJ + lambda J^2 H_iJ H_kL,   H = F^-T

psi is given less its value at F = I. Where both moduli are zero (a pore), so are psi, P and A, whatever F is.
"""

from __future__ import annotations

import numpy as np

from msvae import Array


def determinant(f: Array) -> Array:
    """Return J (...) of deformation gradients (..., d, d)."""
    if f.shape[-1] == 3:
        return np.asarray(np.linalg.det(f))
    return np.asarray(f[..., 0, 0] * f[..., 1, 1] - f[..., 0, 1] * f[..., 1, 0])


def energy(f: Array, lam: Array, mu: Array) -> Array:
    """Return psi (...) for F (..., d, d) and Lame's parameters (...) in Pa."""
    j = np.where(mu > 0, determinant(f), 1.0)
    square = (f * f).sum(axis=(-1, -2)) + 3 - f.shape[-1]  # in plane strain the third stretch is one
    return np.asarray(mu / 2 * (square - 3 - 2 * np.log(j)) + lam / 2 * ((j * j - 1) / 2 - np.log(j)))


def stress_and_tangent(f: Array, lam: Array, mu: Array) -> tuple[Array, Array]:
    """Return P (..., d, d) and A (..., d, d, d, d) with the indices i, J, k, L."""
    j = determinant(f)
    h = _cofactor(f) / np.where(mu > 0, j, 1.0)[..., None, None]
    pressure = lam / 2 * (j * j - 1)
    stress = mu[..., None, None] * (f - h) + pressure[..., None, None] * h
    outer = h[..., :, :, None, None] * h[..., None, None, :, :]  # H_iJ H_kL
    tangent = (lam * j * j)[..., None, None, None, None] * outer
    tangent = tangent + (mu - pressure)[..., None, None, None, None] * outer.swapaxes(-1, -3)  # H_iL H_kJ
    for i in range(f.shape[-1]):
        for axis in range(f.shape[-1]):
            tangent[..., i, axis, i, axis] += mu
    return stress, tangent


def _cofactor(f: Array) -> Array:
    """Return J F^-T (..., d, d)."""
    if f.shape[-1] == 2:
        entries = np.stack([f[..., 1, 1], -f[..., 1, 0], -f[..., 0, 1], f[..., 0, 0]], axis=-1)
        return np.asarray(entries.reshape(f.shape))
    rows = [np.cross(f[..., (i + 1) % 3, :], f[..., (i + 2) % 3, :]) for i in range(3)]
    return np.stack(rows, axis=-2)
