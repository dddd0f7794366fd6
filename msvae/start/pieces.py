"""How images are cut to pieces: large against their features, and enough of them to learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from msvae.errors import DataError

__all__ = ["Cut", "cut_of"]

EDGES = {2: (16, 24, 32, 48, 64), 3: (16, 24)}  # voxels of a piece's edge that are tried, by dimensions
SMALLEST = 8
LEAST, ENOUGH = 48, 96  # pieces: fewer are refused, as many are aimed at
MOST = {2: 600, 3: 400}  # pieces that a first study takes, by dimensions
CHORDS = 3.0  # mean chord lengths that a piece should span
LAPPED = 0.5


@dataclass(frozen=True)
class Cut:
    """patch: voxels along each axis. region: [first, end) along each axis, or () for all. count: of pieces."""

    patch: tuple[int, ...]
    overlap: float
    region: tuple[tuple[int, int], ...]
    count: int


def cut_of(name: str, shape: Sequence[int], images: int, chord: float) -> Cut:
    """Return how images of a shape are cut; DataError if there are too few voxels.

    images: their number. chord: mean length of the phases' chords in voxels.
    """
    if images >= ENOUGH and max(shape) <= max(EDGES[len(shape)]):
        return Cut(tuple(shape), 0.0, (), images)
    able = [edge for edge in EDGES[len(shape)] if edge <= min(shape)]
    for overlap, wanted in ((0.0, ENOUGH), (LAPPED, ENOUGH), (LAPPED, LEAST)):
        good = [edge for edge in able if images * _pieces(shape, edge, overlap) >= wanted]
        if good:
            large = [edge for edge in good if edge >= CHORDS * chord]
            edge = large[0] if large else good[-1]
            return _limited(shape, images, edge, overlap)
    count = images * _pieces(shape, SMALLEST, LAPPED) if min(shape) >= SMALLEST else 0
    if count < LEAST:
        size = " x ".join(map(str, shape))
        raise DataError(
            f"'{name}' has {images} image{'s' * (images > 1)} of {size} voxels, which give {count} pieces of "
            f"{SMALLEST} voxels along an edge, expected {LEAST} at least: give larger images, or more of them"
        )
    return _limited(shape, images, SMALLEST, LAPPED)


def _pieces(shape: Sequence[int], edge: int, overlap: float) -> int:
    step = max(1, round(edge * (1 - overlap)))
    return math.prod(max(0, (n - edge) // step + 1) for n in shape)


def _limited(shape: Sequence[int], images: int, edge: int, overlap: float) -> Cut:
    """Return a cut with the middle of the images as its region, where all of them would give too many pieces."""
    step, lengths = max(1, round(edge * (1 - overlap))), list(shape)
    while images * _pieces(lengths, edge, overlap) > MOST[len(shape)] and max(lengths) > edge:
        axis = lengths.index(max(lengths))
        lengths[axis] = max(edge, lengths[axis] - step)
    region = tuple(((n - m) // 2, (n - m) // 2 + m) for n, m in zip(shape, lengths, strict=True))
    whole = tuple(lengths) == tuple(shape)
    count = images * _pieces(lengths, edge, overlap)
    return Cut((edge,) * len(shape), overlap, () if whole else region, count)
