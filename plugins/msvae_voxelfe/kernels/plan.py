"""How threads share a grid: pieces along its first axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LARGE = 100_000  # voxels, from which on threads share the grid rather than load cases
THICK = 16  # planes of a piece, at least


@dataclass(frozen=True)
class Plan:
    """How threads share a grid: pieces along its first axis, whose number alone decides how sums are rounded."""

    threads: int = 1
    pieces: int = 1


ALONE = Plan()


def is_large(grid: tuple[int, ...]) -> bool:
    """Return whether threads share a grid rather than load cases."""
    return bool(np.prod(grid) >= LARGE)


def plan_of(grid: tuple[int, ...], threads: int) -> Plan:
    """Return how threads share a grid; a small grid is not divided, because threads then share the load cases."""
    pieces = 2 * (grid[0] // (2 * THICK)) if is_large(grid) else 0
    return Plan(min(threads, pieces), pieces) if pieces else ALONE
