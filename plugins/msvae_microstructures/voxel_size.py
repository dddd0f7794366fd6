"""How large the voxels of a TIFF image are: from OME-XML, ImageJ's metadata, resolution tags, or a file beside it."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from msvae import DataError, SpacingError

LENGTHS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "micron": 1e-6, "microns": 1e-6, "micrometer": 1e-6,
           "\\u00b5m": 1e-6, "\u00b5m": 1e-6, "\u03bcm": 1e-6, "nm": 1e-9, "\u00c5": 1e-10, "angstrom": 1e-10,
           "pm": 1e-12, "inch": 0.0254}  # fmt: skip
METRES = {2: 0.0254, 3: 0.01}  # TIFF tag ResolutionUnit: inch, centimetre
DISAGREES = 0.01  # relative difference of a study's spacing and a file's own
log = logging.getLogger(__name__)

Size = tuple[float | None, float | None, float | None]
"""Along z, y and x in m; None where it is not known."""


def spacing_of(path: Path, dimensions: int, asked: float | tuple[float, ...] | None) -> tuple[float, ...]:
    """Return the voxel size in m along the axes of the array, (z,) y and x: the one that is asked for, or the file's.

    SpacingError if there is neither. A file that states another one, or no distance of its slices, is logged.
    """
    try:
        z, y, x = stated(path)
    except DataError:
        if asked is None:
            raise
        z = y = x = None  # whoever reads the pixels says what is wrong
    if asked is not None:
        wanted = (asked,) * dimensions if isinstance(asked, float | int) else asked
        own = (z, y, x)[3 - dimensions :]
        if any(o is not None and abs(o - w) > DISAGREES * w for o, w in zip(own, wanted, strict=True)):
            log.warning("'%s' states voxels of %s m, the study's %s m are used", path.name, _text(own), _text(wanted))
        return tuple(float(w) for w in wanted)
    if y is None or x is None:
        raise SpacingError(f"'{path}' does not state its pixel size in its tags: give dataset.spacing in m")
    if dimensions == 2:
        return y, x
    if z is None:
        log.warning("'%s' states no distance between its slices: they are taken to be as far apart as pixels, %g m",
                    path.name, x)  # fmt: skip
    return x if z is None else z, y, x


def stated(path: Path) -> Size:
    """Return the voxel size that a file states, or a file of ITK (.mhd) or NRRD (.nhdr) of the same name beside it."""
    for suffix, read in ((".mhd", _of_itk), (".nhdr", _of_nrrd)):
        beside = path.with_suffix(suffix)
        if beside.is_file():
            return read(beside.read_text(encoding="utf-8", errors="replace"))
    try:
        with tifffile.TiffFile(path) as file:
            return _of_tiff(file)
    except Exception as error:  # a damaged file makes the reader raise anything
        raise DataError(f"the tags of '{path}' cannot be read ({type(error).__name__}: {error}): restore it") from None


def _of_tiff(file: Any) -> Size:
    if file.ome_metadata:
        return _of_ome(file.ome_metadata)
    page = file.pages[0]
    x, y = (_per_unit(page.tags.get(name)) for name in ("XResolution", "YResolution"))
    imagej = file.imagej_metadata or {}
    unit = page.tags.get("ResolutionUnit")
    named = LENGTHS.get(str(imagej["unit"]).lower()) if "unit" in imagej else None
    metres = named if "unit" in imagej else METRES.get(int(unit.value)) if unit is not None else None
    if metres is None:
        return None, None, None
    slices = imagej.get("spacing")
    far = abs(float(slices)) * metres if slices and named else None
    return far, None if y is None else metres / y, None if x is None else metres / x


def _per_unit(tag: Any) -> float | None:
    """Return the pixels per unit of a resolution tag, a fraction."""
    if tag is None or not tag.value[1] or not tag.value[0]:
        return None
    return float(tag.value[0] / tag.value[1])


def _of_ome(text: str) -> Size:
    pixels = next(
        (e for e in ElementTree.fromstring(text).iter() if e.tag.endswith("}Pixels") or e.tag == "Pixels"), None
    )
    if pixels is None:
        return None, None, None
    found = []
    for axis in "ZYX":
        size = pixels.get(f"PhysicalSize{axis}")
        metres = LENGTHS.get(pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m").lower())
        found.append(float(size) * metres if size and metres else None)
    return found[0], found[1], found[2]


def _of_itk(text: str) -> Size:
    """ITK's MetaImage: x first, in millimetres."""
    match = re.search(r"^\s*Element(?:Spacing|Size)\s*=\s*(.+)$", text, re.MULTILINE)
    return _reversed([float(v) for v in match[1].split()], 1e-3) if match else (None, None, None)


def _of_nrrd(text: str) -> Size:
    """NRRD: the fastest axis first, in the unit that it names."""
    sizes = re.search(r"^spacings:\s*(.+)$", text, re.MULTILINE)
    units = re.search(r'^(?:space )?units:\s*"([^"]+)"', text, re.MULTILINE)
    metres = LENGTHS.get(units[1].lower()) if units else None
    return _reversed([float(v) for v in sizes[1].split()], metres) if sizes and metres else (None, None, None)


def _reversed(values: list[float], metres: float) -> Size:
    whole: list[float | None] = [abs(v) * metres for v in values[:3]]
    whole += [None] * (3 - len(whole))
    return whole[2], whole[1], whole[0]


def _text(sizes: Size | tuple[float | None, ...]) -> str:
    return " x ".join("?" if size is None else f"{size:.4g}" for size in sizes)
