"""Grey values in words: labels or a threshold, phases and their fractions, and which of them percolate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae.errors import DataError
from msvae.metrics.percolation import winding
from msvae.structures import Array

__all__ = ["Phases", "mean_chords", "otsu", "percolating", "phases_of"]

FEW = 8  # different values, up to which they are labels
BINS = 256
APART, OVERLAPPING = 0.8, 0.7  # shares of the variance between the classes: two deltas have 1, one normal peak .64
RARE = 1e-3  # share of the voxels below which a label may be a fault of the image


@dataclass(frozen=True, eq=False)
class Phases:
    """Phases (*grid) of an image. labels: their grey values, or () with a threshold. words: of the histogram."""

    numbers: Array
    labels: tuple[int, ...]
    threshold: float | None
    words: str

    @property
    def count(self) -> int:
        """The number of phases."""
        return max(len(self.labels), 2)

    @property
    def fractions(self) -> Array:
        """The volume fraction (phases,) of each phase."""
        return np.bincount(self.numbers.ravel(), minlength=self.count) / self.numbers.size


def phases_of(values: Array, name: str, threshold: float | None = None) -> Phases:
    """Return the phases of grey values (*grid); DataError if all of them are equal, or on one side of the threshold."""
    least, most = float(values.min()), float(values.max())
    if least == most:
        raise DataError(
            f"'{name}': every pixel has the grey value {least:g}, so there is nothing to learn: give others"
        )
    if threshold is None and np.issubdtype(values.dtype, np.integer):
        labels, counts = np.unique(values, return_counts=True)
        if len(labels) <= FEW:
            rare = [int(grey) for grey, n in zip(labels, counts, strict=True) if n < RARE * values.size]
            doubt = f"; {', '.join(map(str, rare))} is rare and may be a fault of the image" if rare else ""
            words = f"{len(labels)} different grey values, {', '.join(map(str, labels))}: labels of phases{doubt}"
            return Phases(np.searchsorted(labels, values).astype(np.uint8), tuple(labels.tolist()), None, words)
    level, share = otsu(values)
    if threshold is None:
        words = f"grey values from {least:g} to {most:g}, {_in_words(share)}; proposed threshold {level:g} (Otsu)"
    elif not least <= threshold < most:
        raise DataError(f"--threshold {threshold:g}: the grey values of '{name}' are from {least:g} to {most:g}")
    else:
        words, level = f"grey values from {least:g} to {most:g}; threshold {threshold:g} as asked", threshold
    return Phases((values > level).astype(np.uint8), (), level, words)


def _in_words(share: float) -> str:
    if share >= APART:
        return "two populations well apart"
    if share >= OVERLAPPING:
        return "two populations that overlap: look at the phases before you trust them"
    return "one broad population: a threshold is a guess, a segmentation of your own is better"


def otsu(values: Array) -> tuple[float, float]:
    """Return the threshold of largest variance between two classes, and that variance's share of the whole.

    Otsu 1979, IEEE Trans. Systems, Man, and Cybernetics 9, 62. Integers give an integer, and the lower class has it.
    """
    whole = np.issubdtype(values.dtype, np.integer)
    least, most = float(values.min()), float(values.max())
    bins = int(most - least) + 1 if whole and most - least < 1 << 16 else BINS
    edges = np.linspace(least, most + 1 if whole else most, bins + 1)
    counts, _ = np.histogram(values, edges)
    centres = edges[:-1] if whole and bins == int(most - least) + 1 else 0.5 * (edges[:-1] + edges[1:])
    weight, moment = np.cumsum(counts) / values.size, np.cumsum(counts * centres) / values.size
    mean = moment[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.nan_to_num((mean * weight - moment) ** 2 / (weight * (1 - weight)), nan=0.0, posinf=0.0)
    between[-1] = 0.0
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    k = int(best[(len(best) - 1) // 2])  # of a gap between two values, its middle
    variance = float((counts * (centres - mean) ** 2).sum() / values.size)
    level = float(np.floor(centres[k])) if whole else float(edges[k + 1])
    return min(level, float(np.nextafter(most, least))), float(between.max() / variance)


def percolating(inside: Array) -> tuple[bool, ...]:
    """Return along which axes (d,) a face-connected phase (*grid) of an image, which ends at its sides, percolates.

    The image and its mirror image beside it make a period; nothing connects the other sides.
    """
    found = []
    for axis in range(inside.ndim):
        closed = np.pad(inside, [(0, int(a != axis)) for a in range(inside.ndim)])
        found.append(bool(winding(np.concatenate([closed, np.flip(closed, axis)], axis))[axis]))
    return tuple(found)


def mean_chords(inside: Array) -> Array:
    """Return the mean lengths (d,) of a phase's chords along the axes of an image (*grid), in voxels; 0 without it."""
    lengths = []
    for axis in range(inside.ndim):
        before = np.zeros_like(np.take(inside, [0], axis))
        starts = int((np.diff(np.concatenate([before, inside], axis).astype(np.int8), axis=axis) == 1).sum())
        lengths.append(int(inside.sum()) / starts if starts else 0.0)
    return np.array(lengths)
