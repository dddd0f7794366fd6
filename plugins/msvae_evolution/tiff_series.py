"""Frames of simulations, or of experiments, as TIFF files: each file is a simulation, each page a frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tifffile

from msvae import Array, Ascending, DataError, Dataset, Length, Positive, Quantity, Structures
from msvae_evolution.series import TIME

__all__ = ["TiffSeries"]


@dataclass(frozen=True)
class TiffSeries(Dataset):
    """Grey values of a folder of TIFF files, of which each is a simulation with a page for every frame.

    path: the folder. times: of the frames of each file, in any unit of time. periodic: whether frames continue on their
        other side. spacing: edge length of a pixel.
    """

    name = "tiff-series"
    kinds = ("field",)
    dimensions = (2,)

    path: Path
    times: Annotated[tuple[Positive, ...], Ascending] = ()
    periodic: bool = False
    spacing: Length = 1.0

    def load(self, seed: int) -> Structures:
        files = sorted(f for f in self.path.glob("*") if f.suffix.lower() in (".tif", ".tiff") and f.name[0] != ".")
        if not files:
            raise DataError(f"dataset.path: the folder '{self.path}' has no .tif or .tiff file")
        stacks = [_pages(file) for file in files]
        shapes = {stack.shape[1:] for stack in stacks}
        if len(shapes) > 1:
            raise DataError(f"dataset.path: the frames of '{self.path}' have different sizes, found {sorted(shapes)}")
        for file, stack in zip(files, stacks, strict=True):
            if self.times and len(stack) != len(self.times):
                raise DataError(
                    f"dataset.times: '{file}' has {len(stack)} frames, found {len(self.times)} times: give one of each"
                )
        return self._structures(stacks)

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        rng = np.random.default_rng(seed)
        values = rng.random((-(-n // 2), 1, 12, 12)) * np.linspace(0.5, 1, 2)[:, None, None]
        return cls(path=Path("example"), times=(1.0, 2.0))._structures(list(values))[np.arange(n)]

    def _structures(self, stacks: list[Array]) -> Structures:
        plain = Structures.from_values(np.concatenate(stacks), self.spacing, periodic=self.periodic)
        groups = np.repeat(np.arange(len(stacks)), [len(stack) for stack in stacks])
        known = {TIME: np.tile(self.times, len(stacks))} if self.times else {}
        return Structures(plain.values, plain.specification, known, tuple(map(Quantity, known)), groups)


def _pages(path: Path) -> Array:
    """Return the pages (frames, rows, columns) of a file, integers scaled to 0 to 1."""
    try:
        array = tifffile.imread(path)
    except Exception as error:  # a damaged file makes the reader and its codecs raise anything
        raise DataError(
            f"'{path}' cannot be read as TIFF ({type(error).__name__}: {error}): restore the file"
        ) from None
    if array.ndim not in (2, 3) or not array.size:
        raise DataError(f"'{path}' has an array of shape {array.shape}, expected pages of grey values")
    if np.issubdtype(array.dtype, np.integer):
        array = array / np.iinfo(array.dtype).max
    return np.asarray(array, dtype=np.float32).reshape(-1, *array.shape[-2:])
