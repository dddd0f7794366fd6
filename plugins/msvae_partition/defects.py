"""Concentrations of a defect from the ratio of two partition functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msvae import Run, StudyError

__all__ = ["FOUND", "defects"]

FOUND = "partition.json"


def defects(found: Mapping[str, Any], against: Path, sites: int) -> list[dict[str, float]]:
    """Return at each temperature the defects per site and the half-width of the interval.

    found: of cells of so many sites that have one defect, anywhere. against: the run of cells without it. Where defects
    are few and do not meet, their number per site is the ratio of the partition functions over the number of sites;
    what a defect exchanges with its surroundings is in the chemical potentials, or in the energies' references.
    """
    earlier = Run.open(against).read_json(FOUND, dict, ("temperatures", "estimates"))
    if earlier is None:
        raise StudyError(f"partition.against: the run '{against}' has no partition function: finish it first")
    of = dict(zip(np.round(earlier["temperatures"], 6), earlier["estimates"], strict=True))
    result = []
    for kelvin, estimate in zip(np.round(found["temperatures"], 6), found["estimates"], strict=True):
        if kelvin not in of:
            known = ", ".join(f"{t:g}" for t in of)
            raise StudyError(f"partition.against: the run '{against}' has {known} K, this study {kelvin:g} K too")
        own = float(np.exp(estimate["log_z"] - of[kelvin]["log_z"]) / sites)
        result.append({"per_site": own, "half_width": own * float(np.hypot(estimate["half_width"],
                       of[kelvin]["half_width"]))})  # fmt: skip
    return result
