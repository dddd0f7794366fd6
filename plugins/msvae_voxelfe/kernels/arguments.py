"""Arguments of the compiled kernels: forces, the inverse of the homogeneous problem, and working memory."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from msvae import Array
from msvae_voxelfe.kernels.plan import Plan

LANES = 8  # complex numbers of single precision in a vector of kernels.c


@dataclass(frozen=True, eq=False)
class Forces:
    """Pairs of forces; layout (2,) is the distance in memory of components and of planes, in real numbers."""

    memory: Array
    layout: Array

    @property
    def arrays(self) -> Mapping[str, Array]:
        return {"force": self.memory, "layout": self.layout}


@dataclass(frozen=True, eq=False)
class Inverse:
    """The inverse of the homogeneous problem as preconditioner.h takes it.

    grid (6,): nodes along the axes, then what is beyond them. tables: of the axes' transforms, forwards and then
    backwards, one after the other; starts (6,): where each begins.
    """

    grid: Array
    symbol: Array
    factors: Array
    tables: Array
    starts: Array

    @property
    def arrays(self) -> Mapping[str, Array]:
        return vars(self)


@dataclass(frozen=True, eq=False)
class Workspace:
    """Memory of the kernels for one pair of load cases, as large as they ask for: see call.h."""

    plan: Plan
    work: Array
    rows: Array
    edges: Array
    sums: Array
    units: Array

    @property
    def arrays(self) -> Mapping[str, Array]:
        return {name: array for name, array in vars(self).items() if name != "plan"}


class _Numbers(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_long))


class Call:
    """Calls functions that take a `struct call` of call.h, and reports the arrays that it refuses."""

    def __init__(self, described: str, real: np.dtype[Any]) -> None:
        """described: types and names of the arrays in the structure's order, as `voxelfe_arrays` has them."""
        words = described.split()
        kinds = {"real": real, "double": np.dtype(np.float64), "long": np.dtype(np.int64)}
        self.kinds = {name: kinds[kind] for kind, name in zip(words[::2], words[1::2], strict=True)}
        self.names = list(self.kinds)
        numbers = [(name, ctypes.c_long) for name in ("threads", "pieces", "limit", "wanted")]
        fields = [*((name, _Numbers) for name in self.names), *numbers]
        self.structure = type("Structure", (ctypes.Structure,), {"_fields_": fields})

    def __call__(self, function: Any, arrays: Mapping[str, Array], plan: Plan, limit: int = 0) -> int:
        """Return what a function returns for some of the arrays; complex ones are pairs of real ones.

        ValueError for an array of another type, not contiguous, or of another size than the function touches.
        """
        given: Any = self.structure(threads=plan.threads, pieces=plan.pieces, limit=limit)
        for name, array in arrays.items():
            kind, parts = self.kinds[name], 2 if array.dtype.kind == "c" else 1
            if not array.flags.c_contiguous or array.real.dtype != kind:
                raise ValueError(f"'{name}' must be a contiguous array of {kind}, found {array.dtype}")
            setattr(given, name, _Numbers(array.ctypes.data, parts * array.size))
        found = int(function(ctypes.byref(given)))
        if found >= 0:
            return found
        if -found > len(self.names):
            raise ValueError(f"forces that are not aligned, or no such grid: {arrays['grid']} in {plan}")
        name = self.names[-found - 1]
        raise ValueError(f"'{name}' holds {getattr(given, name).size} numbers, the kernels need {given.wanted}")
