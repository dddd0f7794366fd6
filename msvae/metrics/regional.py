"""Regional statistics: how a quantity of cells side by side correlates with distance, and scatters over blocks."""

from __future__ import annotations

import numpy as np

from msvae.structures import Array

__all__ = ["autocorrelation", "block_scatter"]


def autocorrelation(cells: Array, lag: int) -> float:
    """Return the correlation of cells (*n) this far from each other along an axis, averaged over the axes."""
    rest = cells - cells.mean()
    ends = (slice(None, -lag), slice(lag, None))
    found = [(np.moveaxis(rest, a, 0)[ends[0]] * np.moveaxis(rest, a, 0)[ends[1]]).mean()
             for a in range(cells.ndim) if cells.shape[a] > lag]  # fmt: skip
    return float(np.mean(found) / cells.var()) if found else float("nan")


def block_scatter(cells: Array, edge: int) -> float:
    """Return the standard deviation of blocks of so many cells (*n) along every axis; NaN of fewer than two blocks."""
    blocks = cells
    for axis in range(cells.ndim):
        whole = cells.shape[axis] // edge
        if not whole:
            return float("nan")
        kept = np.take(blocks, np.arange(whole * edge), axis=axis)
        blocks = kept.reshape(*kept.shape[:axis], whole, edge, *kept.shape[axis + 1 :]).mean(axis=axis + 1)
    return float(blocks.std(ddof=1)) if blocks.size > 1 else float("nan")
