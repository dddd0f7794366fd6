"""Programs of a few lines, and the solver of one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Structures

Make = Callable[..., Any]
SHARE = {"name": "share", "pattern": r"share = (\S+)"}


@pytest.fixture
def external(tmp_path: Path) -> Make:
    """Return a function that gives the solver of a Python program."""

    def make(program: str = "print('share =', 0.5)", *arguments: str, **settings: Any) -> Any:
        command = [sys.executable, "-I", "-c", program, *arguments]
        given = {"command": command, "outputs": [SHARE], "scratch": str(tmp_path / "scratch"), **settings}
        return msvae.load_solver("external", **given)

    return make


@pytest.fixture
def voxels() -> Callable[..., Structures]:
    """Return a function that gives structures of two phases with edges of 2, 3 and 4 voxels of different lengths."""

    def make(n: int = 1, shape: tuple[int, ...] = (2, 3, 4), seed: int = 0) -> Structures:
        labels = np.random.default_rng(seed).integers(0, 2, (n, *shape))
        return Structures.from_labels(labels, [1e-6, 2e-6, 3e-6][: len(shape)])

    return make
