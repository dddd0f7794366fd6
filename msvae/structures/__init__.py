"""Structures: batches of microstructures with their specification, their properties and their evaluations."""

from msvae.structures.crystal import VACANCY, Crystal
from msvae.structures.grid import Grid
from msvae.structures.properties import Array, Properties, Quantity
from msvae.structures.specification import KINDS, Kind, Specification
from msvae.structures.structures import Structures

__all__ = [
    "KINDS",
    "VACANCY",
    "Array",
    "Crystal",
    "Grid",
    "Kind",
    "Properties",
    "Quantity",
    "Specification",
    "Structures",
]
