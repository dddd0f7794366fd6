"""The split of a data set into a training set and a held-out set.

The held-out set has to be independent of the training set. Groups, whole images and copies of one structure are never
divided. Windows of one image are split into spatial blocks with a gap between them, pages of a stack into runs of pages
with a gap of their correlation length. Structures in the gap are used by neither side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from msvae.errors import DataError
from msvae.seeds import seed_of
from msvae.structures import Array, Structures
from msvae.structures.correlation import correlated_pages

__all__ = ["Split", "blank", "split_of"]

PIECES = "; cut the images to pieces (dataset.patch), which are split by blocks within each image"
LARGE = 1.5  # times what is to be held back: images from which on are split


@dataclass(frozen=True, eq=False)
class Split:
    """Both sides of a data set.

    train, held_out: increasing indices of the training and of the held-out structures. unused: number of structures on
    neither side. apart: smallest distance, in voxels (in pages for a stack), between structures on the two sides that
    were cut from one image; None where no image has structures on both.
    """

    train: Array
    held_out: Array
    unused: int = 0
    apart: int | None = None


@dataclass(frozen=True, eq=False)
class Places:
    """Positions of structures, with their extent and the gap around them: (a,) voxels along each axis of an image."""

    corners: Array
    images: Array
    periods: Array
    sizes: Array
    gaps: Array

    @classmethod
    def of(cls, structures: Structures, gap: float) -> Places | None:
        """Return the places of structures that have positions. Pages that do not correlate count as separate images."""
        positions = structures.positions
        if positions is None:
            return None
        shape = structures.specification.grid.shape
        pages = correlated_pages(structures, positions)
        reach = np.array([*pages, *shape], dtype=np.float64)
        sizes = np.array([*(1,) * len(pages), *shape], dtype=np.int64)
        alone = [k for k, pages_apart in enumerate(pages) if pages_apart == 0]
        keys = np.column_stack([positions.image_of_each, *(positions.corners[:, k] for k in alone)])
        images = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
        return cls(positions.corners, images, np.array(positions.periods), sizes, np.ceil(gap * reach).astype(np.int64))

    def near(self, held_out: Array) -> Array:
        """Return which structures (n,) lie within the gap around held-out ones (n,), including these."""
        scale, found = (self.sizes + self.gaps).astype(np.float64), held_out.copy()
        for image in np.unique(self.images[held_out]):
            here = np.flatnonzero(self.images == image)
            tree = cKDTree(self._wrapped(here[held_out[here]]) / scale, boxsize=self.periods / scale)
            found[here] |= tree.query(self._wrapped(here) / scale, p=np.inf)[0] < 1 - 1e-9
        return found

    def _wrapped(self, rows: Array) -> Array:
        """Return the corners of some structures, wrapped into one period of their image."""
        corners = self.corners[rows]
        return np.where(self.periods > 0, corners % np.maximum(self.periods, 1), corners)

    def apart(self, train: Array, held_out: Array) -> int | None:
        """Return the smallest distance in voxels between structures of the two sides; None if no image has both."""
        least = [
            self._between(self.corners[rows], self.corners[others])
            for image in np.intersect1d(self.images[train], self.images[held_out])
            for rows in np.array_split(train[self.images[train] == image], 1 + len(train) // 200)
            if len(rows) and len(others := held_out[self.images[held_out] == image])
        ]
        return min(least, default=None)

    def _between(self, some: Array, others: Array) -> int:
        distances = np.abs(some[:, None] - others[None])
        round_about = np.where(self.periods > 0, self.periods - distances, distances)
        return int((np.minimum(distances, round_about) - self.sizes).max(axis=2).min())


def split_of(structures: Structures, held_back: float, seed: int, *, gap: float = 1.0) -> Split:
    """Return the split of structures by their groups, positions and contents.

    held_back: fraction of the structures if below 1, otherwise their number. gap: between windows of one image on the
    two sides, in window widths; between pages of a stack, in correlation lengths. Raises DataError if one side would be
    empty.
    """
    n = len(structures)
    wanted = max(round(held_back * n) if held_back < 1 else round(held_back), 1)
    places, rng = Places.of(structures, gap), np.random.default_rng(seed_of(seed, "split"))
    empty = blank(structures)
    contents = _contents(structures.ids, empty)
    specimens = _specimens(structures, places, contents, empty)
    count = len(np.unique(specimens))
    held_out = np.zeros(n, dtype=bool)
    largest = int(np.bincount(specimens).max(initial=0))
    if places is not None and structures.groups is None and wanted < n and largest > LARGE * wanted:
        held_out = _blocks(places, specimens, wanted / n, rng, empty)
    if not held_out.any() or held_out.all():
        held_out = _whole(specimens, wanted, rng)
    train = ~(held_out if places is None else places.near(held_out))
    train, held_out = _without_copies(contents, train, held_out)
    if not train.any() or not held_out.any():
        raise DataError(_nothing_left(held_back, n, count, places))
    inside, outside = np.flatnonzero(train), np.flatnonzero(held_out)
    apart = None if places is None else places.apart(inside, outside)
    return Split(inside, outside, n - len(inside) - len(outside), apart)


def _nothing_left(held_back: float, n: int, specimens: int, places: Places | None) -> str:
    whole = places is not None and specimens == n  # images, not pieces of them
    if held_back >= n:
        return (
            f"training.held_back is {held_back:g}, but there are {n} structures: hold back fewer, or a fraction below "
            f"1{PIECES if whole else ''}"
        )
    if whole and n > 1:
        return f"training.held_back: {n} structures leave nothing to train on{PIECES}"
    if places is None or specimens > 1:
        return (
            f"training.held_back: {held_back:g} of {n} structures in {specimens} groups leaves nothing to train on: "
            "give more structures, or hold back fewer"
        )
    gaps = [int(g) for g in places.gaps if g]
    return (
        f"training.held_back: the {n} structures of one image are all within {gaps} voxels of each other, so none can "
        "be held back that is new: give a larger image, smaller pieces of it, or a training.gap below 1"
    )


def _specimens(structures: Structures, places: Places | None, contents: Array, empty: Array) -> Array:
    """Return the specimen number (n,) of structures: group, image, or the structure itself; copies share a number.

    Specimens are copies of each other if they share more than half of the structures of the smaller one.
    """
    labels = np.arange(len(structures))
    if places is not None:
        labels = places.images
    if structures.groups is not None:
        labels = np.unique(structures.groups, return_inverse=True)[1]
    if len(np.unique(labels)) == len(labels):
        return contents
    # two images are not copies for the windows of both in which there is nothing
    pairs = np.unique(np.column_stack([labels, contents])[~empty], axis=0)
    sizes = np.bincount(pairs[:, 0], minlength=int(labels.max(initial=0)) + 1)
    size = (len(sizes), len(structures))
    holds = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=size).tocsr()
    common = (holds @ holds.T).tocoo()
    equal = common.data > 0.5 * np.minimum(sizes[common.row], sizes[common.col])
    links = coo_array((np.ones(int(equal.sum())), (common.row[equal], common.col[equal])), shape=common.shape)
    return np.asarray(connected_components(links, directed=False)[1][labels])


def blank(structures: Structures) -> Array:
    """Return which structures (n,) are uniform; equal uniform structures are not counted as copies of each other."""
    if math.prod(structures.specification.grid.shape) < 2:
        return np.zeros(len(structures), dtype=bool)
    flat = structures.values.reshape(len(structures), structures.specification.channels, -1)
    return np.asarray((flat == flat[..., :1]).all(axis=(1, 2)))


def _contents(ids: tuple[str, ...], empty: Array) -> Array:
    """Return content numbers (n,), shared by copies; every uniform structure has its own."""
    names = [f"blank {k}" if alone else name for k, (name, alone) in enumerate(zip(ids, empty, strict=True))]
    return np.asarray(np.unique(names, return_inverse=True)[1])


def _whole(specimens: Array, wanted: int, rng: np.random.Generator) -> Array:
    """Return which structures (n,) are held out when whole specimens are held out at random."""
    names = rng.permutation(np.unique(specimens))
    sizes = np.bincount(specimens)[names]
    chosen = names[: int(np.searchsorted(np.cumsum(sizes), wanted)) + 1]
    return np.asarray(np.isin(specimens, chosen))


def _blocks(places: Places, specimens: Array, share: float, rng: np.random.Generator, empty: Array) -> Array:
    """Return which structures (n,) are held out when a block of every specimen, or some whole specimens, are."""
    held_out = np.zeros(len(specimens), dtype=bool)
    for specimen in np.unique(specimens):
        rows = np.flatnonzero(specimens == specimen)
        wanted = max(round(share * len(rows)), 1)
        blocks = list(_ends(places.corners[rows], wanted))
        costs = []
        for block in blocks:
            mine = np.zeros(len(specimens), dtype=bool)
            mine[rows[block]] = True
            lost = int((places.near(mine) & ~mine).sum())
            unlike = abs(empty[rows[block]].mean() - empty[rows].mean())  # a block of nothing tests nothing
            cost = abs(int(block.sum()) - wanted) + lost + len(rows) * unlike
            costs.append(np.inf if lost + block.sum() >= len(rows) else cost)
        if np.isfinite(costs).any():
            best = rng.choice(np.flatnonzero(np.array(costs) == min(costs)))
            held_out[rows[blocks[int(best)]]] = True
        elif rng.random() < share:
            held_out[rows] = True
    return held_out


def _ends(corners: Array, wanted: int) -> Iterator[Array]:
    """Yield blocks at the two ends of every axis, as masks (n,): the two closest to the wanted number."""
    for along in (sign * axis for axis in corners.T for sign in (1, -1)):
        end = np.sort(along)[wanted - 1]
        yield from (block for block in (along <= end, along < end) if block.any() and not block.all())


def _without_copies(contents: Array, train: Array, held_out: Array) -> tuple[Array, Array]:
    """Return both sides (n,) without common structures, each removed from the side with fewer copies."""
    inside, outside = (np.bincount(contents[side], minlength=len(contents)) for side in (train, held_out))
    both = (inside > 0) & (outside > 0)
    fewer_outside = outside < inside
    kept = held_out & ~(both & fewer_outside)[contents]
    if not kept.any():
        return train & ~both[contents], held_out
    return train & ~(both & ~fewer_outside)[contents], kept
