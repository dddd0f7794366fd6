"""A look at images: a file, a folder of them, or an .npy array; which are slices, which phases, how to cut them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msvae.errors import DataError, SpacingError
from msvae.start.pieces import Cut, cut_of
from msvae.start.pixels import Phases, mean_chords, percolating, phases_of
from msvae.start.seen import Asked, Key, Seen, dataset_of
from msvae.structures import Array, Structures

__all__ = ["SUFFIXES", "look_at_images"]

TIFF = (".tif", ".tiff")
SUFFIXES = (*TIFF, ".png", ".npy")
LOOKED_AT = 1 << 22  # voxels of which phases are described
ALIKE = 0.3  # correlation of neighbouring pages from which they are slices, if distant ones are less alike by half
FEW_PAGES = 8
PLACEHOLDER = 1e-6  # m, where nobody knows the voxel size
AXES = {2: ("rows", "columns"), 3: ("slices", "rows", "columns")}


@dataclass(frozen=True, eq=False)
class Pages:
    """Pages (n, rows, columns) of images in their own grey values. spacing: of an axis of them in m, as stated."""

    name: str
    values: Array
    spacing: tuple[float, ...] | None
    files: int
    colours: bool


def look_at_images(path: Path, asked: Asked) -> Seen:
    """Return what images show; DataError, in one sentence, for those that cannot be learnt from."""
    plugin = "tiff" if all(file.suffix.lower() in TIFF for file in _files(path)) else "images"
    pages = _read(path, plugin)
    if asked.dimensions == 3 and len(pages.values) == 1:
        raise DataError(f"'{path}' has a single page, which is no volume: leave out --dimensions 3")
    near, volume = _slices(pages.values, asked.dimensions)
    phases = phases_of(pages.values, str(path), asked.threshold)
    images = [phases.numbers] if volume else list(phases.numbers)
    some, shape = _sample(images), images[0].shape
    chords = [float(np.mean([mean_chords(image == k).mean() for image in some])) for k in range(phases.count)]
    chord = min((length for length in chords if length), default=0.0)  # of the phase with the shorter ones
    cut = cut_of(str(path), shape, len(images), chord)
    said = [_what(pages, near, volume), _voxels(pages, asked), f"{phases.words}", *_described(some, phases, chords)]
    pieces = " x ".join(map(str, cut.patch))
    said.append(f"pieces: {cut.count} of {pieces} voxels" + (", which overlap by half" if cut.overlap else ""))
    if chord and max(cut.patch) < 3 * chord:
        said.append(f"a piece spans less than three mean chords ({chord:.0f} voxels): its properties will scatter")
    return Seen(tuple(said), _table(path, plugin, phases, cut, _spacing(pages, asked)))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file() and not f.name.startswith(".")]
    if not found:
        raise DataError(f"the folder '{path}' has no image ({', '.join(SUFFIXES)}): give one that has, or a file")
    return sorted(found)


def _read(path: Path, plugin: str) -> Pages:
    """Return all pages as the data set of the study reads them, in the file's own grey values."""
    files = _files(path)
    kept = [_header(file) for file in files]
    table: dict[str, Any] = {"name": plugin, "path": path, "dimensions_of": 2}
    shapes = {size for size, _, _ in kept}
    if len(shapes) > 1:
        table["patch"] = [min(size[axis] for size in shapes) for axis in (0, 1)]
    spacing: tuple[float, ...] | None = None
    try:
        structures = _loaded(table)
        spacing = structures.specification.grid.spacing
    except SpacingError:
        structures = _loaded(table | {"spacing": 1.0})
    values, kind = structures.values[:, 0], kept[0][1]
    if len(values) > 1 and len(set(structures.ids)) == 1:
        raise DataError(f"'{path}': its {len(values)} images are all alike, so there is nothing to learn: give others")
    if np.issubdtype(kind, np.integer):
        values = np.rint(values.astype(np.float64) * np.iinfo(kind).max).astype(kind)
    return Pages(str(path), values, spacing, len(files), kept[0][2])


def _loaded(table: dict[str, Any]) -> Structures:
    try:
        return dataset_of(table).load(0)
    except MemoryError:
        raise DataError(f"'{table['path']}' does not fit into memory: give a part of it") from None


def _header(file: Path) -> tuple[tuple[int, ...], Any, bool]:
    """Return rows and columns of a file's images, the type of its grey values, and whether it has colours."""
    try:
        if file.suffix.lower() == ".npy":
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            return array.shape[-2:], np.uint8 if array.dtype == np.bool_ else array.dtype, False
        if file.suffix.lower() in TIFF:
            import tifffile

            with tifffile.TiffFile(file) as opened:
                series = opened.series[0]
                colours = series.axes.endswith("S")
                size = tuple(series.shape[-3:-1] if colours else series.shape[-2:])
                return size, np.uint8 if series.dtype == np.bool_ else series.dtype, colours
        from PIL import Image

        with Image.open(file) as picture:
            kind = np.uint16 if picture.mode.startswith("I") else np.uint8
            return (picture.height, picture.width), kind, picture.mode.startswith(("RGB", "P"))
    except Exception as error:  # a damaged file makes readers raise anything
        raise DataError(
            f"'{file}' cannot be read as an image ({type(error).__name__}: {error}): the file is damaged, or not what "
            "its name says; restore it"
        ) from None


def _slices(pages: Array, asked: int | None) -> tuple[float, bool]:
    """Return how neighbouring pages correlate, and whether pages are slices of a volume."""
    if len(pages) < FEW_PAGES:
        return float("nan"), asked == 3
    thin = pages[:, :: max(1, pages.shape[1] // 64), :: max(1, pages.shape[2] // 64)].reshape(len(pages), -1)
    centred = thin - thin.mean(axis=0, dtype=np.float64)
    near, far = _correlation(centred, 1), _correlation(centred, len(pages) // 2)
    return near, (near > ALIKE and far < near / 2) if asked is None else asked == 3


def _correlation(rows: Array, lag: int) -> float:
    """Return the mean correlation of rows (n, m), whose mean is 0, that a lag separates."""
    a, b = rows[:-lag], rows[lag:]
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / norm) if norm else 0.0


def _sample(images: Sequence[Array]) -> list[Array]:
    """Return a few images, or the middle of a large one."""
    chosen = [images[k] for k in sorted({0, len(images) // 2, len(images) - 1})]
    most = LOOKED_AT // len(chosen)
    found = []
    for image in chosen:
        edge = int(most ** (1 / image.ndim))
        found.append(image[tuple(slice(max(0, (n - edge) // 2), max(0, (n - edge) // 2) + edge) for n in image.shape)])
    return found


def _what(pages: Pages, near: float, volume: bool) -> str:
    n, rows, columns = pages.values.shape
    grey = f"{pages.values.dtype} grey values" + (", from colours by their luminance" if pages.colours else "")
    source = f"{pages.files} file{'s' * (pages.files > 1)}"
    if volume:
        why = f" (neighbouring slices correlate by {near:.2f})" if near == near else ""
        return f"a volume of {n} slices x {rows} rows x {columns} columns from {source}, {grey}{why}"
    return f"{n} image{'s' * (n > 1)} of {rows} rows x {columns} columns from {source}, {grey}"


def _spacing(pages: Pages, asked: Asked) -> Key | None:
    if asked.spacing is not None:
        return Key(asked.spacing, "m, as asked")
    return None if pages.spacing else Key(PLACEHOLDER, "m - a PLACEHOLDER, for the files do not say it: give yours")


def _voxels(pages: Pages, asked: Asked) -> str:
    if asked.spacing is not None:
        return f"voxel size: {asked.spacing:g} m, as asked"
    if pages.spacing:
        return f"voxel size: {' x '.join(f'{h:.4g}' for h in pages.spacing)} m (rows, columns), as the files state"
    return "voxel size: the files do not state it; lengths and permeabilities need it: give --spacing"


def _described(some: Sequence[Array], phases: Phases, chords: Sequence[float]) -> Iterator[str]:
    """Yield a sentence on each phase: its fraction, its size, and the axes along which some of the images have it."""
    dimensions = some[0].ndim
    names, whole = AXES[dimensions], "area" if dimensions == 2 else "volume"
    for k, fraction in enumerate(phases.fractions):
        grey = f", grey value {phases.labels[k]}" if phases.labels else (", the darker", ", the brighter")[k]
        through = [percolating(image == k) for image in some]
        counts = [sum(axes[a] for axes in through) for a in range(dimensions)]
        along = [name for name, n in zip(names, counts, strict=True) if n == len(some)]
        partly = [f"{name} in {n} of {len(some)}" for name, n in zip(names, counts, strict=True) if 0 < n < len(some)]
        words = " and ".join([*along, *partly]) or "no axis"
        yield (f"phase {k}{grey}: {100 * fraction:.1f} % of the {whole}, chords of {chords[k]:.1f} voxels on average, "
               f"percolates along {words}")  # fmt: skip


def _table(path: Path, plugin: str, phases: Phases, cut: Cut, spacing: Key | None) -> dict[str, Key]:
    table = {"name": Key(plugin), "path": Key(str(path.resolve()))}
    table["dimensions_of"] = Key(len(cut.patch), "2: pages are images of their own; 3: slices of a volume")
    if phases.labels:
        table["labels"] = Key(list(phases.labels), "grey value of each phase, in order")
    else:
        table["threshold"] = Key(phases.threshold, "grey values above it are phase 1")
    table["patch"] = Key(list(cut.patch), f"voxels of a piece: {cut.count} pieces")
    if cut.overlap:
        table["overlap"] = Key(cut.overlap, "share of a piece that its neighbour has too")
    if cut.region:
        table["region"] = Key([list(part) for part in cut.region], "the middle; leave it out to take everything")
    if spacing is not None:
        table["spacing"] = spacing
    return table
