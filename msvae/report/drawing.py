"""Common parts of all figures: the drawing, its axes, and the picture of a structure."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from msvae.errors import RunError
from msvae.structures import Structures

__all__ = ["Drawing", "axes_of", "check_panels", "picture"]

PANELS = 400  # axes of a figure, each of which takes some hundredths of a second


@dataclass(frozen=True)
class Drawing:
    """A figure with its file name and its caption."""

    name: str
    caption: str
    figure: Figure

    def _repr_png_(self) -> bytes:
        """Return the figure as a notebook shows it."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
        return buffer.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the figure in the format given by the file's extension."""
        self.figure.savefig(path, bbox_inches="tight")


def axes_of(figure: Figure, rows: int, columns: int) -> list[Any]:
    """Return the axes of a figure, row by row; RunError if there are unreasonably many."""
    check_panels(rows * columns)
    return list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def check_panels(count: int) -> None:
    """Raise RunError for a figure with too many axes to be drawn in reasonable time."""
    if count > PANELS:
        raise RunError(f"a figure of {count} panels is not drawn, {PANELS} at most: its data are damaged")


def picture(axis: Any, structures: Structures, k: int) -> None:
    """Draw an image, or the middle slice of a volume, or the numbers of a composition as bars."""
    values = structures.values[k, 0]
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    if values.ndim < 2:
        axis.bar(
            structures.specification.constituents,
            np.atleast_1d(structures.values[k].ravel())[: len(structures.specification.constituents)],
        )
        return
    values = values[values.shape[0] // 2] if values.ndim == 3 else values
    top = len(structures.specification.constituents) - 1 if structures.specification.is_discrete else None
    high, wide = structures.specification.grid.spacing[-2:]
    axis.imshow(values, cmap="cividis", vmin=0 if top else None, vmax=top, interpolation="nearest", aspect=high / wide)
