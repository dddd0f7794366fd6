"""Structures from TIFF images of an instrument: one file, a folder of files, or multi-page stacks; 2D or 3D."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import tifffile
from pydantic import Field

from msvae import Array, DataError, Dataset, Finite, Natural, Positions, Structures, Unit, Voxels
from msvae_microstructures.voxel_size import Spacing, fitting, voxel_sizes

log = logging.getLogger(__name__)

LUMINANCE = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
DENSEST, SMALL = 5000, 1 << 26  # pixels' bytes that a file's byte can stand for (LZW, deflate), and bytes that are few


@dataclass(frozen=True)
class Tiff(Dataset):
    """Phases or grey values of TIFF images (8 or 16 bit or float, grey or RGB; uncompressed, deflate or LZW).

    path: a file, or a folder whose files are taken in the order of their names.
    dimensions_of: 2 takes each page as a structure; 3 takes a multi-page file, or a folder of pages, as a volume.
        "auto" is 3 where patch, region or spacing have three numbers, or pages say that they are slices (ImageJ, OME).
    threshold: grey values above it are phase 1; in the image's own values, as are labels.
    labels: the grey value of each phase, in order; any other value is an error.
        With neither, grey values are kept, integers scaled to 0 to 1.
    patch: size of the pieces that images are cut to; by default the whole image.
    overlap: fraction of a patch that its neighbour shares.
    region: of the images that structures are cut from, [first, end) along each axis; by default all.
    spacing: edge length of a voxel, one number or one along each axis of the images (slices, rows, columns); by default
        what the file states, by ImageJ, OME-XML, resolution tags, or a header (.mhd, .nhdr, .nrrd) of the same name.
    periodic: whether a patch continues on its other side.
    """

    name = "tiff"
    suffixes: ClassVar[tuple[str, ...]] = (".tif", ".tiff")
    kinds = ("phases", "field")

    path: Path
    dimensions_of: Literal[2, 3, "auto"] = "auto"
    threshold: Finite | None = None
    labels: tuple[int, ...] = ()
    patch: tuple[Voxels, ...] = ()
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    region: tuple[tuple[Annotated[Natural, Unit("voxels")], Annotated[int, Unit("voxels")]], ...] = ()
    spacing: Spacing | tuple[Spacing, ...] | None = None
    periodic: bool = False

    def __post_init__(self) -> None:
        axes = self._axes_given or 2
        if self.patch and len(self.patch) != axes:
            raise ValueError(f"patch has {axes} numbers of voxels, found {list(self.patch)}")
        if self.region and len(self.region) != axes:
            raise ValueError(f"region has {axes} pairs [first, end) of voxels, found {list(self.region)}")
        if self.threshold is not None and self.labels:
            raise ValueError("give a threshold or labels, not both")
        if self.spacing is not None:
            fitting(self.spacing, axes)

    @property
    def _axes_given(self) -> Literal[2, 3] | None:
        """The dimensions that the settings say; None where they do not."""
        if self.dimensions_of != "auto":
            return self.dimensions_of
        given = (self.patch, self.region, self.spacing if isinstance(self.spacing, tuple) else ())
        lengths = {len(numbers) for numbers in given if numbers}
        return None if not lengths else 3 if 3 in lengths else 2

    def _decided(self, files: Sequence[Path]) -> Tiff:
        """Return the same with the dimensions that "auto" stands for, and say what is read."""
        dimensions: Literal[2, 3] = self._axes_given or (3 if _are_slices(files[0]) else 2)
        if self._axes_given is None:
            pages, *size = _read(files[0]).shape
            shape = " x ".join(map(str, size))
            if dimensions == 3:
                log.info("'%s': a volume of %d slices of %s pixels", files[0], pages, shape)
            elif pages > 1:
                log.info("'%s': %d images of %s pixels; for one volume set dataset.dimensions_of = 3", files[0], pages,
                         shape)  # fmt: skip
        return replace(self, dimensions_of=dimensions)

    def load(self, seed: int) -> Structures:
        files = _files(self.path, self.suffixes)
        if self.dimensions_of == "auto":
            return self._decided(files).load(seed)
        images = [self._region(image) for image in self._images(files)]
        spacing = voxel_sizes(files[0], self.spacing, self._axes_given or 2)
        if not self.patch and len({image.shape for image in images}) > 1:
            raise DataError(
                f"dataset.path: the images of '{self.path}' have different sizes "
                f"({', '.join(map(str, sorted({i.shape for i in images})))}): set dataset.patch"
            )
        return self._cut(images, self._places(files, images), spacing)

    def image(self, seed: int) -> Structures | None:
        files = _files(self.path, self.suffixes)
        if self.dimensions_of == "auto":
            return self._decided(files).image(seed)
        values = next(self._images(files))[None]
        return self._structures(values, voxel_sizes(files[0], self.spacing, self._axes_given or 2))

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        rng = np.random.default_rng(seed)
        cutter = cls(
            path=Path("example.tif"), dimensions_of=2, threshold=rng.uniform(0.3, 0.7), patch=(12, 12), overlap=0.5
        )
        return cutter._cut([rng.random((12 + 6 * (n // 4), 30))], [(0, 0)], (1e-6, 1e-6))[np.arange(n)]

    def _images(self, files: Sequence[Path]) -> Iterator[Array]:
        """Yield images (rows, columns), or volumes (slices, rows, columns)."""
        stacks = [_read(file) for file in files]
        if self.dimensions_of == 2:
            yield from (page for stack in stacks for page in stack)
        elif all(len(stack) == 1 for stack in stacks):
            shapes = {stack.shape for stack in stacks}
            if len(shapes) > 1:
                raise DataError(
                    f"dataset.path: the slices of '{self.path}' have different sizes, found {sorted(shapes)}"
                )
            yield np.concatenate(stacks)
        else:
            yield from stacks

    def _region(self, image: Array) -> Array:
        """Return the part of an image that structures are cut from."""
        if not self.region:
            return image
        if any(not a < b <= n for (a, b), n in zip(self.region, image.shape, strict=True)):
            raise DataError(f"dataset.region: {self.region} is not [first, end) inside an image of {image.shape}")
        return image[tuple(slice(a, b) for a, b in self.region)]

    def _patches(self, image: Array) -> Iterator[tuple[tuple[int, ...], Array]]:
        size = self.patch or image.shape
        if any(p > n for p, n in zip(size, image.shape, strict=True)):
            raise DataError(f"dataset.patch: {list(size)} is larger than an image of {list(image.shape)}")
        steps = [max(1, round(p * (1 - self.overlap))) for p in size]
        for corner in product(*(range(0, n - p + 1, s) for n, p, s in zip(image.shape, size, steps, strict=True))):
            yield corner, image[tuple(slice(c, c + p) for c, p in zip(corner, size, strict=True))]

    def _places(self, files: Sequence[Path], images: Sequence[Array]) -> list[tuple[int, int]]:
        """Return, for each image, which stack it is of and its page there; a folder of pages of one size is a stack."""
        if self.dimensions_of == 3:
            return [(k, 0) for k in range(len(images))]
        if len(images) == len(files):
            alike = len({image.shape for image in images}) == 1
            return [(0, k) if alike else (k, 0) for k in range(len(images))]
        return [(k, page) for k, file in enumerate(files) for page in range(len(_read(file)))]

    def _cut(
        self, images: Sequence[Array], places: Sequence[tuple[int, int]], spacing: tuple[float, ...]
    ) -> Structures:
        """Return the patches of images, with their positions: voxels in the image, after the page in its stack."""
        pieces, corners, stacks = [], [], []
        for (stack, page), image in zip(places, images, strict=True):
            for corner, piece in self._patches(image):
                pieces.append(piece)
                stacks.append(stack)
                corners.append(corner if self.dimensions_of == 3 else (page, *corner))
        batch = self._structures(np.stack(pieces), spacing)
        return Structures(batch.values, batch.specification, positions=Positions(np.array(corners), np.array(stacks)))

    def _structures(self, values: Array, spacing: tuple[float, ...]) -> Structures:
        if self.threshold is not None:
            return Structures.from_labels(values > self.threshold, spacing, phases=2, periodic=self.periodic)
        if self.labels:
            found = set(np.unique(values).tolist())
            if not found <= set(self.labels):
                raise DataError(
                    f"dataset.labels: '{self.path}' has the grey values {sorted(found - set(self.labels))[:5]} "
                    f"beside {list(self.labels)}: name every value, or use a threshold"
                )
            numbers = np.zeros(values.shape, dtype=np.uint8)
            for k, grey in enumerate(self.labels):
                numbers[values == grey] = k
            return Structures.from_labels(numbers, spacing, phases=max(len(self.labels), 2), periodic=self.periodic)
        if np.issubdtype(values.dtype, np.integer):
            values = values / np.iinfo(values.dtype).max
        return Structures.from_values(values, spacing, periodic=self.periodic)


def _files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"dataset.path: '{path}' does not exist: give an image or a folder of them")
    images = [f for f in path.iterdir() if f.suffix.lower() in suffixes and f.is_file()]
    files = sorted(f for f in images if not f.name.startswith("."))  # "._a.tif" is what macOS keeps beside a.tif
    if len(files) < len(images):
        log.warning("'%s': %d hidden files are not read", path, len(images) - len(files))
    if not files:
        raise DataError(f"dataset.path: the folder '{path}' has no {' or '.join(suffixes)} file")
    return files


def _are_slices(path: Path) -> bool:
    """Return whether the pages of a file say that they are slices of a volume."""
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            return "Z" in series.axes and series.shape[series.axes.index("Z")] > 1
    except Exception:  # it is read again, and what is wrong is said then
        return False


def _read(path: Path) -> Array:
    """Return the pages (pages, rows, columns) of a TIFF file, colours as grey."""
    try:
        array, axes = (READERS.get(path.suffix.lower()) or _read_tiff)(path)
    except Exception as error:  # a damaged file makes the reader and its codecs raise anything
        raise DataError(
            f"'{path}' cannot be read as an image ({type(error).__name__}: {error}): the file is damaged, or not what "
            "its name says; restore it"
        ) from None
    if axes.endswith("S"):
        grey = array[..., :3] @ np.asarray(LUMINANCE)
        array = grey.round().astype(array.dtype) if np.issubdtype(array.dtype, np.integer) else grey
    if array.ndim not in (2, 3) or array.size == 0:
        raise DataError(f"'{path}' has an array of shape {array.shape} (axes {axes}), expected pages of images")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise DataError(f"'{path}' holds NaN or infinite grey values: repair the image")
    return array.reshape(-1, *array.shape[-2:])


def _read_tiff(path: Path) -> tuple[Array, str]:
    """Return the pages of a TIFF file, and what its axes are."""
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        if series.nbytes > SMALL + DENSEST * path.stat().st_size:
            raise ValueError(f"it claims {series.nbytes} bytes of pixels in a file of {path.stat().st_size}")
        return np.asarray(series.asarray()), series.axes


def _read_png(path: Path) -> tuple[Array, str]:
    """Return the pixels of a PNG file, palettes as their colours; transparency is left out."""
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        if image.mode in ("1", "L", "LA", "P", "PA") and not (image.mode.startswith("P") and image.palette is not None):
            return np.asarray(image.convert("L")), "YX"
        if image.mode.startswith("I"):  # 16 bits
            return np.asarray(image).astype(np.uint16), "YX"
        return np.asarray(image.convert("RGB")), "YXS"


def _read_npy(path: Path) -> tuple[Array, str]:
    """Return the array of an .npy file: an image, or pages of images."""
    array = np.load(path, allow_pickle=False)
    if not np.issubdtype(array.dtype, np.number) and array.dtype != np.bool_:
        raise ValueError(f"it has values of type {array.dtype}")
    return (array.astype(np.uint8) if array.dtype == np.bool_ else array), "QYX"[3 - array.ndim :]


READERS: dict[str, Callable[[Path], tuple[Array, str]]] = {".png": _read_png, ".npy": _read_npy}


@dataclass(frozen=True)
class Images(Tiff):
    """Phases or grey values of images: PNG, .npy arrays (rows, columns) or (pages, rows, columns), and TIFF.

    The settings are those of "tiff". What PNG and .npy files do not state, as the size of voxels, the study gives.
    """

    name = "images"
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy", ".tif", ".tiff")
