"""Structures: a batch of microstructures, their specification, their properties, and their evaluations beside them."""

from msvae.structures.grid import Grid
from msvae.structures.properties import Array, Properties, Quantity
from msvae.structures.specification import KINDS, Kind, Specification
from msvae.structures.structures import Structures

__all__ = ["KINDS", "Array", "Grid", "Kind", "Properties", "Quantity", "Specification", "Structures"]
