"""A look at whatever somebody has: images, arrays or a table."""

from __future__ import annotations

from pathlib import Path

from msvae.errors import DataError
from msvae.start import arrays, images, tables
from msvae.start.seen import Asked, Key, Seen

__all__ = ["SIMULATED", "look"]

SIMULATED = Seen(
    ("no data given: two-phase structures are simulated",),
    {
        "name": Key("simulated"),
        "process": Key("gaussian-field", "level cuts of Gaussian random fields"),
        "count": Key(200),
        "shape": Key([32, 32], "pixels; three numbers make volumes"),
        "spacing": Key(1e-6, "m"),
        "volume_fraction": Key([0.2, 0.5], "of phase 1, drawn between these"),
        "length": Key([4e-6, 8e-6], "correlation length, m"),
    },
)


def look(path: Path, asked: Asked) -> Seen:
    """Return what is seen in a folder, an image, an array or a table; DataError if it is none of these."""
    suffix = path.suffix.lower()
    if not path.exists():
        raise DataError(f"'{path}' does not exist: give a folder of images, an image, an array or a table")
    if path.is_dir() or suffix in images.SUFFIXES:
        return images.look_at_images(path, asked)
    if suffix in arrays.SUFFIXES:
        return arrays.look_at_arrays(path, asked)
    if suffix in tables.SUFFIXES:
        return tables.look_at_table(path)
    known = ", ".join((*images.SUFFIXES, *arrays.SUFFIXES, *tables.SUFFIXES))
    raise DataError(f"'{path}' has the ending '{suffix}', expected a folder of images, or one of {known}")
