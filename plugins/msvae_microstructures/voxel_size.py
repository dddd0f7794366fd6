"""The size of an image's voxels: what the study says, or what TIFF files, and headers beside them, state.

ImageJ, OME-XML (Goldberg et al. 2005, Genome Biology 6, R47), the resolution tags of TIFF 6.0, and headers of the same
name (.mhd of MetaIO, .nhdr and .nrrd of Teem). A length without a unit, or with an unknown one, is not known.
"""

from __future__ import annotations

import logging
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tifffile
from pydantic import Field

from msvae import DataError, SpacingError, Unit

__all__ = ["Sizes", "Spacing", "fitting", "voxel_sizes"]

log = logging.getLogger(__name__)
TAG = {2: 0.0254, 3: 0.01}  # metres of TIFF tag ResolutionUnit: inch, centimetre
METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "micron": 1e-6, "microns": 1e-6, "nm": 1e-9, "pm": 1e-12,
          "a": 1e-10, "å": 1e-10, "angstrom": 1e-10, "inch": 0.0254, "in": 0.0254, "meter": 1.0, "metre": 1.0,
          "millimeter": 1e-3, "micrometer": 1e-6, "nanometer": 1e-9}  # fmt: skip
SAME = 0.01  # relative difference, up to which a file and a study say the same
SHORTEST, LONGEST = 1e-15, 1e6  # m that an edge of a voxel can be
SMALL = 1 << 16  # bytes of a header

Spacing = Annotated[float, Field(ge=SHORTEST, le=LONGEST), Unit("m")]
Sizes = tuple["float | None", ...]  # along slices, rows and columns in m; None where it is not known


def fitting(spacing: float | Sequence[float], dimensions: int) -> None:
    """Raise ValueError if there is neither one length nor one for each axis."""
    found = [spacing] if isinstance(spacing, (int, float)) else list(spacing)
    if not isinstance(spacing, (int, float)) and len(found) != dimensions:
        raise ValueError(f"spacing is one length in m, or {dimensions}, one along each axis, found {found}")


def voxel_sizes(path: Path, given: float | Sequence[float] | None, dimensions: int) -> tuple[float, ...]:
    """Return the spacing in m along the axes of a file's images; DataError if neither study nor file states it.

    given: the study's, which counts; where it contradicts the file, a line of the log says so. Slices whose distance is
    not stated are taken to be as far apart as rows, which is said too.
    """
    stated = _stated(path)[-dimensions:]
    if given is not None:
        sizes = (float(given),) * dimensions if isinstance(given, (int, float)) else tuple(map(float, given))
        pairs = zip(sizes, stated, strict=True)
        if any(found is not None and abs(found / own - 1) > SAME for own, found in pairs):
            log.warning("'%s' states voxels of %s, the study's dataset.spacing is %s m: the study's counts",
                        path, _in_words(stated), list(sizes))  # fmt: skip
        return sizes
    *slices, rows, columns = stated
    if rows is None or columns is None:
        raise SpacingError(f"'{path}' does not state its pixel size in its tags: give dataset.spacing in m")
    if slices and slices[0] is None:
        log.warning("'%s' does not state how far apart its slices are: they are taken to be as far apart as rows, %g m "
                    "(dataset.spacing = [slices, rows, columns] says otherwise)", path, rows)  # fmt: skip
    return (*(rows if h is None else h for h in slices), rows, columns)


def _in_words(sizes: Sizes) -> str:
    return " x ".join("unknown" if h is None else f"{h:.4g}" for h in sizes) + " m"


def _stated(path: Path) -> Sizes:
    """Return what a file and a header beside it state, the header where the file does not."""
    sizes: Sizes = _of_tiff(path) if path.suffix.lower() in (".tif", ".tiff") else (None, None, None)
    for suffix, read in HEADERS.items():
        header = path.with_suffix(suffix)
        if header.is_file() and header != path:
            sizes = tuple(own if own is not None else other for own, other in zip(sizes, read(header), strict=True))
    return sizes


def _of_tiff(path: Path) -> Sizes:
    try:
        with tifffile.TiffFile(path) as file:
            if file.ome_metadata:
                return _of_ome(file.ome_metadata)
            tags = {tag.name: tag.value for tag in file.pages[0].tags}  # type: ignore[union-attr]
            return _of_tags(tags, file.imagej_metadata)
    except Exception as error:  # a damaged file makes the reader raise anything
        raise DataError(f"the tags of '{path}' cannot be read ({type(error).__name__}: {error}): restore it") from None


def _of_ome(text: str) -> Sizes:
    """Return what the first image's pixels have; a length without a unit is in micrometres, as the schema says."""
    pixels = next((e.attrib for e in ElementTree.fromstring(text).iter() if e.tag.split("}")[-1] == "Pixels"), {})
    names = [f"PhysicalSize{axis}" for axis in "ZYX"]
    return tuple(_length(pixels.get(name), pixels.get(f"{name}Unit", "um")) for name in names)


def _of_tags(tags: Mapping[str, Any], imagej: Mapping[str, Any] | None) -> Sizes:
    """Return what ImageJ's description, or the resolution tags, state."""
    pixels = [_quotient(tags.get(name)) for name in ("YResolution", "XResolution")]
    if imagej is not None and imagej.get("unit") is not None:
        units = [str(imagej.get(name) or imagej["unit"]) for name in ("zunit", "yunit", "unit")]
        lengths = [imagej.get("spacing"), *(1 / p if p else None for p in pixels)]
        return tuple(_length(length, unit) for length, unit in zip(lengths, units, strict=True))
    metres = TAG.get(int(tags.get("ResolutionUnit", 2)))
    return (None, *(metres / p if metres and p else None for p in pixels))


def _quotient(value: Any) -> float | None:
    """Return a rational number of a tag; None if there is none, or nothing that can be divided by."""
    if value is None or not value[1] or not value[0]:
        return None
    return float(value[0] / value[1])


def _length(value: Any, unit: str | None) -> float | None:
    """Return a length in m; None if it is none, or its unit is unknown."""
    name = (unit or "").strip().strip('"').replace("\\u00B5", "u").replace("µ", "u").replace("μ", "u").lower()
    try:
        length = METRES.get(name, math.nan) * abs(float(value))
    except (TypeError, ValueError):
        return None
    return length if length > 0 and math.isfinite(length) else None


def _lines(header: Path, separator: str) -> dict[str, str]:
    """Return the fields of a header before the first blank line, names in lower case."""
    with open(header, "rb") as file:
        text = file.read(SMALL).split(b"\n\n")[0].decode("latin-1")
    pairs = (line.split(separator, 1) for line in text.splitlines() if separator in line and not line.startswith("#"))
    return {name.strip().lower(): value.strip() for name, value in pairs}


def _of_metaimage(header: Path) -> Sizes:
    """Return ElementSpacing, whose order is columns, rows, slices, in DistanceUnits."""
    fields = _lines(header, "=")
    found = [_length(h, fields.get("distanceunits")) for h in fields.get("elementspacing", "").split()]
    return _reversed(found)


def _of_nrrd(header: Path) -> Sizes:
    """Return spacings, or the lengths of space directions, whose order is columns, rows, slices."""
    fields = _lines(header, ":")
    units = re.findall(r'"([^"]*)"', fields.get("space units", "") or fields.get("units", ""))
    vectors = re.findall(r"\(([^)]*)\)", fields.get("space directions", ""))
    try:
        lengths: list[Any] = [math.hypot(*map(float, v.split(","))) for v in vectors]
    except ValueError:
        lengths = []
    lengths = lengths or fields.get("spacings", "").split()
    padded = [*units, *[""] * len(lengths)]
    return _reversed([_length(h, unit) for h, unit in zip(lengths, padded, strict=False)])


def _reversed(sizes: Sequence[float | None]) -> Sizes:
    return tuple([*sizes, None, None, None][:3])[::-1]


HEADERS: Mapping[str, Callable[[Path], Sizes]] = {".mhd": _of_metaimage, ".nhdr": _of_nrrd, ".nrrd": _of_nrrd}
