"""What the tests of the atomistic solvers share: the published potential, and occupations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import Grid, Specification, Structures

EV = 1.602176634e-19


@pytest.fixture
def potential(data: Path, lammps: None) -> str:
    """Return the path of the potential of Farkas and Caro, J. Mater. Res. 35 (2020) 3031."""
    return str(data / "eam" / "FeNiCrCoAl-heaweight.eam.alloy")


@pytest.fixture
def occupation() -> Callable[..., Structures]:
    """Return a function that gives occupations of a face-centred cubic crystal, random or of one species."""

    def make(n: int = 1, shape: tuple[int, ...] = (2, 2, 2), pure: int | None = None, **more: Any) -> Structures:
        settings = {"constant": 3.56e-10, "names": ("Fe", "Ni"), "channels": 4, "periodic": True, "seed": 0, **more}
        spacing, names = settings["constant"], settings["names"]
        size = (n, settings["channels"], *shape)
        rng = np.random.default_rng(settings["seed"])
        values = rng.integers(0, len(names), size) if pure is None else np.full(size, pure)
        grid = Grid.of(shape, spacing, periodic=settings["periodic"])
        return Structures(values.astype(np.uint8), Specification("occupation", settings["channels"], grid, names))

    return make
