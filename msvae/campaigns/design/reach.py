"""Reach: targets that no structure of the phases can have, found before anything is labelled or trained."""

from __future__ import annotations

import numpy as np

from msvae.campaigns.design.campaign import InverseDesign
from msvae.campaigns.design.judge import bounds_of
from msvae.errors import TargetError
from msvae.metrics.bounds import COARSE
from msvae.stages.context import Context
from msvae.structures import Array, Structures

__all__ = ["check_reach"]


def check_reach(context: Context, design: InverseDesign, structures: Structures) -> None:
    """Raise TargetError for a target beyond the tensors of all phases; where guards are off, nothing is asked.

    A diagonal entry of an effective tensor is at most the largest phase's (Voigt 1889), and at least the smallest
    eigenvalue of all phases' (Reuss 1929).
    """
    if not design.guards or not design.targets:
        return
    phases = bounds_of(context, structures).phases
    for k, target in enumerate(design.targets):
        for number, (low, high) in zip(target.numbers, target.ends, strict=True):
            pure = phases.get(number.property)
            if pure is None or len(number.component) != 2 or number.component[0] != number.component[1]:
                continue
            least, most = _reach(pure, number.component[0])
            slack = target.tolerance * target.scale
            if low - slack > most * (1 + COARSE) or high + slack < least * (1 - COARSE):
                raise TargetError(
                    f"{context.study.source.at(['design', 'targets', k])}: {target.text} is asked of {number}, and no "
                    f"structure of these phases is outside of {least:.4g} to {most:.4g} (their own values): change the "
                    "target, or the materials"
                )


def _reach(pure: Array, axis: int) -> tuple[float, float]:
    """Return the ends of what a diagonal entry of an effective tensor can be; pure: tensors (phases, v, v)."""
    return float(np.linalg.eigvalsh(pure)[:, 0].min()), float(pure[:, axis, axis].max())
