"""Mechanical MNIST: published bitmaps of a heterogeneous Neo-Hookean block and the strain energies of its extension.

Lejeune 2020, Extreme Mechanics Letters 36, 100659. A file of bitmaps has 784 integers 0..255 a row, a file of energies
13 numbers, one for each applied displacement of the top edge.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from msvae import Array, Count, DataError, Dataset, Grid, Quantity, Rule, Specification, Structures

DISPLACEMENTS = (0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0)
Published = Rule("a list of some of the published ones", lambda found: set(found) <= set(DISPLACEMENTS))
SPECIFICATION = Specification("field", 1, Grid.of((28, 28), 1.0, periodic=False), ("grey",))
ENERGY = Quantity("energy", "1", (len(DISPLACEMENTS),), spacing_exponent=0)


@dataclass(frozen=True)
class MechanicalMnist(Dataset):
    """Mechanical MNIST, uniaxial extension: grey values from 0 to 1 (local modulus 1 + 99 grey), 13 energies each.

    path: folder with the published files. part: "test" (10,000 rows) or "train" (60,000).
    limit: only the first rows. displacements: of which energies are kept, among the published ones.
    images, energies: names of the files if they are not the published ones.
    """

    name = "mechanical-mnist"
    kinds = ("field",)
    dimensions = (2,)

    path: Path
    part: str = "test"
    limit: Count | None = None
    images: str | None = None
    energies: str | None = None
    displacements: Annotated[tuple[float, ...], Field(min_length=1), Published] = DISPLACEMENTS

    def load(self, seed: int) -> Structures:
        bitmaps = _table(self._file(self.images or f"mnist_img_{self.part}.txt"), self.limit, columns=784)
        energies = _table(self._file(self.energies or f"summary_psi_{self.part}_all.txt"), self.limit, columns=13)
        if len(bitmaps) != len(energies):
            raise DataError(
                f"'{self.path}' has {len(bitmaps)} bitmaps but {len(energies)} rows of energies: "
                "the files do not belong together"
            )
        if bitmaps.min() < 0 or bitmaps.max() > 255:
            raise DataError(f"bitmaps of '{self.path}' are from 0 to 255, found {bitmaps.min():g} to {bitmaps.max():g}")
        values = bitmaps.reshape(-1, 1, 28, 28) / 255
        kept = energies[:, [DISPLACEMENTS.index(d) for d in self.displacements]]
        return Structures(values, SPECIFICATION, {"energy": kept}, (replace(ENERGY, shape=(kept.shape[1],)),))

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        """Return blurred random strokes, with energies unknown."""
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:28, :28]
        values = np.zeros((n, 28, 28))
        for row in values:
            for cy, cx in rng.uniform(6, 22, (6, 2)):
                row += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 6)
        return Structures(
            np.clip(values, 0, 1)[:, None], SPECIFICATION, {"energy": np.full((n, 13), np.nan)}, (ENERGY,)
        )

    def _file(self, name: str) -> Path:
        for candidate in (self.path / name, self.path / f"{name}.zip"):
            if candidate.is_file():
                return candidate
        raise DataError(
            f"dataset.path: '{self.path}' has neither '{name}' nor '{name}.zip': give the folder with the "
            "published files of Mechanical MNIST"
        )


def _table(path: Path, limit: int | None, *, columns: int) -> Array:
    """Return the numbers (rows, columns) of a text file, zipped or not."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
                table = np.loadtxt(io.TextIOWrapper(member), max_rows=limit, ndmin=2)
        else:
            table = np.loadtxt(path, max_rows=limit, ndmin=2)
    except (ValueError, OSError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"'{path}' cannot be read as rows of {columns} numbers: {error}") from None
    if table.shape[1:] != (columns,):
        raise DataError(f"'{path}' has rows of {table.shape[-1]} numbers, expected {columns}")
    return table
