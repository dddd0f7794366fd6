"""Acquisition effort: choosing candidates may take as long as one evaluation, or 0.3 s if that is longer.

Nothing here reads a clock. A run measures once how long its solver takes, and the effort follows from that number
alone, so that a search asks the same questions on any number of ranks and after a restart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from msvae.structures import Specification

__all__ = ["QUESTION", "Effort", "rounded"]

QUESTION = 0.3  # s that a question may take however fast the solver is
MANY = 300  # plain candidates of a question, at most
WORK = 800_000  # voxels of phases that are decoded and described in a question of .3 s
EACH = 4000  # voxels that a structure costs beside its own
FEWEST = 8  # candidates of which one is chosen, however large they are
LEARNING = 20  # steps in which a head learns from new designs in .3 s


def rounded(seconds: float) -> float:
    """Round seconds to a power of ten, which a machine's load does not change; at least a microsecond.

    >>> rounded(0.02)
    0.01
    """
    return float(f"1e{round(math.log10(max(seconds, 1e-6)))}")


@dataclass(frozen=True)
class Effort:
    """The acquisition effort for a solver that takes a given number of seconds per structure."""

    seconds: float = QUESTION

    @property
    def worth(self) -> float:
        """The effort per question, relative to 0.3 s."""
        return max(1.0, self.seconds / QUESTION)

    @property
    def plain(self) -> int:
        """The number of plain candidates that a fast solver evaluates while it would wait for a question."""
        return min(MANY, round(QUESTION / self.seconds)) if self.seconds < QUESTION else 0

    @property
    def learning(self) -> int:
        """The number of training steps in which a head learns from new designs."""
        return int(min(300, LEARNING * self.worth))

    def candidates(self, specification: Specification) -> int:
        """The number of structures that may be decoded and described per question."""
        size = (math.prod(specification.grid.shape) + EACH) * max(1, len(specification.constituents) - 1)
        return int(max(FEWEST, WORK * self.worth / size))
