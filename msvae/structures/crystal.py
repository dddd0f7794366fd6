"""The crystal whose sites an occupation is of: a unit cell of any shape, and the sites in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msvae.errors import DataError, PluginError
from msvae.structures.properties import Array
from msvae.structures.specification import Specification

__all__ = ["VACANCY", "Crystal"]

VACANCY = "vacancy"  # the constituent that is no atom

ANGSTROM = 1e-10  # m
SAME = 1e-3  # relative difference of two lengths that rounding in a file explains
Vector = tuple[float, float, float]
CUBIC: Mapping[int, tuple[Vector, ...]] = {
    1: ((0.0, 0.0, 0.0),),
    2: ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5)),
    4: ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)),
}  # simple cubic, body-centred, face-centred


@dataclass(frozen=True)
class Crystal:
    """A unit cell and its sites.

    vectors: of the cell, the rows of a matrix (3, 3), in m. sites: (channels, 3), in fractions of them.

    >>> Crystal.cubic(4, 3.52e-10).positions((2, 2, 2)).shape
    (4, 2, 2, 2, 3)
    """

    vectors: tuple[Vector, Vector, Vector]
    sites: tuple[Vector, ...]

    @classmethod
    def cubic(cls, channels: int, constant: float) -> Crystal:
        """Return a simple cubic, body-centred or face-centred crystal, for 1, 2 or 4 sites; constant: in m."""
        return cls(((constant, 0.0, 0.0), (0.0, constant, 0.0), (0.0, 0.0, constant)), CUBIC[channels])

    @classmethod
    def read(cls, path: Path) -> Crystal:
        """Return the crystal in a CIF or POSCAR file, whose atoms are the sites, in their order there.

        A name that ends in .cif is a CIF file, any other a POSCAR file. DataError if it cannot be read; PluginError
        without ASE.
        """
        try:
            import ase.io
        except ImportError:
            raise PluginError(f"reading the crystal '{path}' needs ASE: install msvae[ase]") from None
        try:
            atoms: Any = ase.io.read(path, format=_format(path))
        except Exception as error:  # a border: readers of formats raise anything
            raise DataError(f"'{path}' cannot be read as a crystal: {type(error).__name__}: {error}") from None
        cell = np.asarray(atoms.cell)
        if len(atoms) == 0 or abs(np.linalg.det(cell)) < 1e-6:
            raise DataError(f"'{path}' has no unit cell with sites in it: give a CIF or POSCAR file of a crystal")
        return cls(_cell(cell * ANGSTROM), _rows(atoms.get_scaled_positions()))

    @classmethod
    def of(cls, specification: Specification, *, basis: Sequence[Vector] = (), file: Path | None = None) -> Crystal:
        """Return the crystal of occupations, whose edges are the spacing of the grid.

        basis: sites of an orthogonal cell; by default those of a cubic one. file: of a cell of any shape, instead.
        DataError if there is not a site for each channel, or if the file has another spacing.
        """
        spacing, channels = specification.grid.spacing, specification.channels
        if file is not None:
            return cls.read(file)._spaced(spacing, channels, file)
        sites = tuple(basis) or CUBIC.get(channels, ())
        if len(sites) != channels:
            raise DataError(
                f"structures have {channels} sites in a unit cell, basis names {len(sites)}: give basis = one "
                "position, in fractions of the cell, for each of them, or the crystal's file"
            )
        return cls(_cell(np.diag(spacing)), _rows(np.array(sites, dtype=np.float64)))

    @classmethod
    def misfit(cls, specification: Specification, *, basis: Sequence[Vector], file: Path | None) -> str | None:
        """Return the reason why `of` gives no crystal for occupations, or None if it does."""
        try:
            cls.of(specification, basis=basis, file=file)
        except DataError as error:
            return str(error)
        return None

    @property
    def lengths(self) -> Vector:
        """Lengths of the cell's edges in m: the spacing of a grid of such cells."""
        a, b, c = (math.hypot(*vector) for vector in self.vectors)
        return a, b, c

    def positions(self, shape: Sequence[int]) -> Array:
        """Return the positions (channels, *shape, 3), in m, of the sites of a grid of unit cells."""
        cells = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
        fractions = cells[None] + np.array(self.sites)[:, None, None, None, :]
        return np.asarray(fractions @ np.array(self.vectors))

    def box(self, shape: Sequence[int]) -> Array:
        """Return the vectors (3, 3), the rows, in m, of a grid of unit cells."""
        return np.asarray(np.array(self.vectors) * np.array(shape)[:, None])

    def _spaced(self, spacing: Sequence[float], channels: int, file: Path) -> Crystal:
        """Return the crystal with exactly these lengths of edges; DataError if they are others, or too few sites."""
        if len(self.sites) != channels:
            raise DataError(f"'{file}' has {len(self.sites)} sites in a unit cell, the structures have {channels}")
        ratio = np.array(spacing) / np.array(self.lengths)
        if np.abs(ratio - 1).max() > SAME:
            theirs, ours = (", ".join(f"{x:.4g}" for x in lengths) for lengths in (self.lengths, spacing))
            raise DataError(
                f"the unit cell in '{file}' has edges of {theirs} m, the grid a spacing of {ours} m: give the data "
                "set the same crystal, or its lengths"
            )
        return Crystal(_cell(np.array(self.vectors) * ratio[:, None]), self.sites)


def _format(path: Path) -> str:
    """Return ASE's name of a format: no other is tried, for some are pickles."""
    return "cif" if path.suffix.lower() == ".cif" else "vasp"


def _rows(array: Array) -> tuple[Vector, ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in array)


def _cell(array: Array) -> tuple[Vector, Vector, Vector]:
    a, b, c = _rows(array)
    return a, b, c
