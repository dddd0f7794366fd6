"""Human-readable properties: suitable unit prefixes, and error estimates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from msvae.structures import Array

__all__ = ["described", "in_fitting_unit"]

PREFIXES = {12: "T", 9: "G", 6: "M", 3: "k", 0: "", -3: "m", -6: "u", -9: "n", -12: "p"}
POWERS = {"Pa": 1, "J": 1, "N": 1, "W": 1, "m": 1, "m^2": 2, "m^3": 3, "J/m": 1, "N/m": 1, "J/m^3": 1}


def in_fitting_unit(values: Array, unit: str) -> tuple[Array, str]:
    """Return values and their unit, with the prefix that brings the largest value between 1 and 1000 if possible.

    Units that take no prefix are left unchanged.

    >>> in_fitting_unit(np.array([1.5e-12, 0.0]), "m^2")
    (array([1.5, 0. ]), 'um^2')
    >>> in_fitting_unit(np.array(2.1e11), "Pa")
    (array(210.), 'GPa')
    """
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    power = POWERS.get(unit)
    if power is None or largest == 0:
        return values, unit
    decade = 3 * math.floor(math.log10(largest) / (3 * power) + 1e-12)
    decade = min(max(decade, min(PREFIXES)), max(PREFIXES))
    return np.asarray(values / 10.0 ** (decade * power)), PREFIXES[decade] + unit


def described(name: str, value: Mapping[str, Any]) -> str:
    """Return a property as text: its unit, both errors of the largest entry, and its values with 5 digits.

    value: "value", "unit", and "discretisation_error" and "iteration_error", which may be None.

    >>> print(described("permeability", {"value": [1.6e-12, 0.0], "unit": "m^2", "discretisation_error": [4e-14, 0.0],
    ...                                  "iteration_error": None}))
    permeability (um^2; discretisation error about 0.04, 2.5 %):
    [1.6 0]
    """
    whole = np.array(value["value"], dtype=np.float64)
    shown, unit = in_fitting_unit(whole, value["unit"])
    sizes = np.where(np.isfinite(whole), np.abs(whole), 0.0)
    place = np.unravel_index(int(np.argmax(sizes)), whole.shape) if whole.size else ()
    scale = float(whole[place]) / float(shown[place]) if shown[place] else 1.0
    notes = [unit]
    for key in ("discretisation_error", "iteration_error"):
        if value.get(key) is not None:
            error = float(np.abs(np.broadcast_to(value[key], whole.shape)[place]))
            percent = f", {100 * error / abs(float(whole[place])):.2g} %" if whole[place] else ""
            notes.append(f"{key.replace('_', ' ')} about {error / scale:.2g}{percent}")
    text = np.array2string(shown, formatter={"float_kind": "{:.5g}".format}, threshold=400)
    return f"{name} ({'; '.join(notes)}):\n{text}"
