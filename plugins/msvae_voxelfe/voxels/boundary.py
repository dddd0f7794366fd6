"""Boundary conditions on the sides of an image, and the default among them.

    "periodic"            it continues on the other side
    "mirrored"            it continues as its mirror image: sides slide without friction along rigid walls, or
                          potentials are held on two faces and the other sides insulated
    "uniform-displacement", "uniform-gradient"    the sides move as in a homogeneous material: no less stiff than truth
    "uniform-traction", "uniform-flux"            the sides bear uniform stress or flux: no stiffer than truth

The last two bracket the property of the material (Huet 1990, J. Mech. Phys. Solids 38, 813).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Boundary = Literal["auto", "periodic", "mirrored", "uniform-displacement", "uniform-traction"]
TRACTIONS = ("uniform-traction", "uniform-flux")  # conditions on stress or flux, not on displacement
Potential = Literal["auto", "periodic", "mirrored", "uniform-gradient", "uniform-flux"]


def resolved(boundary: str, periodic: Sequence[bool], *, open_sides: str = "mirrored") -> str:
    """Return the condition to solve with: "auto" is periodic where the structure is, else what fits open sides.

    >>> resolved("auto", (True, True)), resolved("auto", (False, True))
    ('periodic', 'mirrored')
    """
    if boundary != "auto":
        return boundary
    return "periodic" if all(periodic) else open_sides
