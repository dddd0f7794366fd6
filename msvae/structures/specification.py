"""The specification that all structures of a batch share: kind, channels, grid and constituents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from msvae.errors import DataError
from msvae.structures.grid import Grid

__all__ = ["KINDS", "Kind", "Specification"]

Kind = Literal["phases", "field", "composition", "occupation"]
KINDS: tuple[Kind, ...] = ("phases", "field", "composition", "occupation")
DISCRETE = ("phases", "occupation")


@dataclass(frozen=True)
class Specification:
    """What all structures of a batch have in common.

    constituents: names of the phases, elements or species, or of the components of a field.
    """

    kind: Kind
    channels: int
    grid: Grid
    constituents: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"a structure's kind is one of {', '.join(KINDS)}, found '{self.kind}'")
        if self.channels < 1 or not self.constituents:
            raise DataError(
                f"structures of kind '{self.kind}' need at least one channel and one constituent, "
                f"found {self.channels} and {len(self.constituents)}"
            )
        if self.kind in ("composition", "field") and len(self.constituents) != self.channels:
            raise DataError(
                f"structures of kind '{self.kind}' name each of their {self.channels} channels, "
                f"found {len(self.constituents)} names"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (channels, *grid) of one structure's values."""
        return (self.channels, *self.grid.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 for phases and occupations, float32 for fields and compositions."""
        return np.dtype(np.uint8 if self.kind in DISCRETE else np.float32)

    @property
    def is_discrete(self) -> bool:
        """Whether the values are integers that name a constituent."""
        return self.kind in DISCRETE
