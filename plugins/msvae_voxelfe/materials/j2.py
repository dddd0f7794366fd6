"""Small-strain J2 plasticity with isotropic hardening: radial return and its consistent tangent, for arrays of points.

    q = sqrt(3/2 s:s) <= y(a) = y0 + H a + Q (1 - exp(-b a)),   a: accumulated plastic strain

(Simo and Hughes 1998, Computational Inelasticity, boxes 3.1 and 3.2; Voce hardening.) Strains and stresses are vectors
(6, ...) in the order 11 22 33 23 13 12, with engineering shear strains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NORMAL = torch.tensor([1.0, 1, 1, 0, 0, 0], dtype=torch.float64)
DOUBLED = torch.tensor([1.0, 1, 1, 2, 2, 2], dtype=torch.float64)  # shear components stand twice in a tensor product
RETURN_STEPS = 25


@dataclass(frozen=True, eq=False)
class Material:
    """Parameters (...) at every point: bulk and shear modulus, initial yield stress, H, Q in Pa, and b."""

    bulk: Tensor
    shear: Tensor
    yield_stress: Tensor
    hardening: Tensor
    saturation: Tensor
    rate: Tensor


@dataclass(frozen=True, eq=False)
class History:
    """Plastic strain (6, ...), engineering shear, and accumulated plastic strain (...)."""

    plastic: Tensor
    accumulated: Tensor


def radial_return(strain: Tensor, history: History, m: Material) -> tuple[Tensor, Tensor, History]:
    """Return stress (6, ...), consistent tangent (6, 6, ...) and the new history for a total strain (6, ...)."""
    elastic = strain - history.plastic
    volume = elastic[:3].sum(dim=0)
    ones, twice = (v.reshape(6, *(1,) * (strain.ndim - 1)) for v in (NORMAL, DOUBLED))
    trial = 2 * m.shear * (elastic / twice - volume / 3 * ones)
    equivalent = (1.5 * (trial * trial * twice).sum(dim=0)).sqrt()
    slip, slope = _slip(equivalent, history.accumulated, m)
    flowing = slip > 0
    safe = torch.where(equivalent > 0, equivalent, torch.ones_like(equivalent))
    ratio = 1 - 3 * m.shear * slip / safe
    stress = ratio * trial + m.bulk * volume * ones
    direction = torch.where(flowing, 1.5 * trial / safe, torch.zeros_like(trial))  # d(plastic strain) / d slip
    new = History(history.plastic + slip * direction * twice, history.accumulated + slip)
    return stress, _tangent(m, ratio, direction, slope, flowing), new


def _slip(equivalent: Tensor, accumulated: Tensor, m: Material) -> tuple[Tensor, Tensor]:
    """Return the plastic slip (...) that brings the trial stress back to the yield surface, and the hardening slope."""
    slip = torch.zeros_like(equivalent)

    def flow(a: Tensor) -> tuple[Tensor, Tensor]:
        decay = torch.exp(-m.rate * a)
        return m.yield_stress + m.hardening * a + m.saturation * (
            1 - decay
        ), m.hardening + m.saturation * m.rate * decay

    for _ in range(RETURN_STEPS):
        stress, slope = flow(accumulated + slip)
        excess = equivalent - 3 * m.shear * slip - stress
        change = torch.where(m.shear > 0, excess / (3 * m.shear + slope).clamp_min(1e-300), torch.zeros_like(excess))
        slip = (slip + change).clamp_min(0)
        if change.abs().max() <= 1e-14 or bool((excess <= 1e-12 * m.yield_stress).all()):
            break
    return slip, flow(accumulated + slip)[1]


def _tangent(m: Material, ratio: Tensor, direction: Tensor, slope: Tensor, flowing: Tensor) -> Tensor:
    """Return d stress / d strain (6, 6, ...): elastic where nothing flows."""
    identity = torch.diag(torch.tensor([1.0, 1, 1, 0.5, 0.5, 0.5], dtype=torch.float64))
    spherical = torch.outer(NORMAL, NORMAL)
    tail = (1,) * ratio.ndim
    deviator = (identity - spherical / 3).reshape(6, 6, *tail)
    unit = direction / 1.5**0.5  # of length 1
    stiffness = 1 + slope / (3 * m.shear).clamp_min(1e-300)
    softening = torch.where(flowing, 1 / stiffness - (1 - ratio), torch.zeros_like(ratio))
    tangent: Tensor = (
        m.bulk * spherical.reshape(6, 6, *tail)
        + 2 * m.shear * ratio * deviator
        - 2 * m.shear * softening * unit[:, None] * unit[None]
    )
    return tangent
