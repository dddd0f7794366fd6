"""Reach: detects targets that no structure of the phases can have, before anything is labelled or trained."""

from __future__ import annotations

import numpy as np

from msvae.campaigns.design.campaign import InverseDesign
from msvae.campaigns.design.judge import bounds_of
from msvae.errors import TargetError
from msvae.metrics.bounds import COARSE
from msvae.run.journal import FIRST
from msvae.stages.context import Context
from msvae.structures import Array, Structures
from msvae.vae.blueprint import component_values

__all__ = ["check_dependence", "check_reach"]


def check_reach(context: Context, design: InverseDesign, structures: Structures) -> None:
    """Raise TargetError for a target beyond the tensors of all phases; without guards, nothing is checked.

    A diagonal entry of an effective tensor is at most the largest phase's (Voigt 1889), and at least the smallest
    eigenvalue of all phases' (Reuss 1929).
    """
    if not design.guards or not design.targets:
        return
    phases = bounds_of(context, structures).phases
    for k, target in enumerate(design.targets):
        for number, low, high in target.accepted:
            pure = phases.get(number.property)
            if pure is None or len(number.component) != 2:
                continue
            least, most = _reach(pure, number.component)
            if low > most + COARSE * abs(most) or high < least - COARSE * abs(least):
                unit = number.unit or next((q.unit for q in context.quantities if q.name == number.property), "")
                asked = f"{target.text} {unit}".strip()
                raise TargetError(
                    f"{context.study.source.at(['design', 'targets', k])}: {asked} is asked of {number}, and no "
                    f"structure of these phases is outside of {least:.4g} to {most:.4g} (that follows from their own "
                    "values): change the target, or the materials"
                )


def check_dependence(context: Context, design: InverseDesign, structures: Structures) -> None:
    """Raise TargetError for a target of a number that has one other value in all labelled structures."""
    for k, target in enumerate(design.targets):
        for number, low, high in target.accepted:
            values = component_values(structures.properties, number)
            values = values[np.isfinite(values)]
            if len(values) >= FIRST and (values == values[0]).all() and not low <= values[0] <= high:
                raise TargetError(
                    f"{context.study.source.at(['design', 'targets', k])}: {target.text} is asked of {number}, which "
                    f"is {values[0]:g} in each of the {len(values)} labelled structures: it does not depend on the "
                    "structure (see the solver's boundary); ask for another number"
                )


def _reach(pure: Array, component: tuple[int, ...]) -> tuple[float, float]:
    """Return the least and largest possible values of an entry of an effective tensor; pure: tensors (phases, v, v).

    All its eigenvalues lie between the least and the largest of the phases', so that an entry off the diagonal is at
    most half of their difference.
    """
    values = np.linalg.eigvalsh(pure)
    least, most = float(values[:, 0].min()), float(values[:, -1].max())
    i, j = component
    return (least, float(pure[:, i, i].max())) if i == j else ((least - most) / 2, (most - least) / 2)
