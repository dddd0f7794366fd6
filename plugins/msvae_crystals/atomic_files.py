"""Occupations from files of atoms: POSCAR, CIF, extended XYZ and LAMMPS dumps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field

from msvae import Array, Count, Crystal, DataError, Length, PluginError, Quantity, Specification, Structures, Unit
from msvae_crystals.parent import Occupations

__all__ = ["AtomicFiles"]

ELECTRONVOLT = 1.602176634e-19  # J, exact (SI 2019)
Format = Literal["vasp", "cif", "extxyz", "lammps-dump-text"]
ENDINGS: Mapping[str, Format] = {
    ".vasp": "vasp", ".poscar": "vasp", ".cif": "cif", ".xyz": "extxyz", ".extxyz": "extxyz",
    ".dump": "lammps-dump-text", ".lammpstrj": "lammps-dump-text",
}  # fmt: skip
ANGSTROM = 1e-10  # m
VACANCY = "vacancy"  # the species that is no atom


@dataclass(frozen=True)
class AtomicFiles(Occupations):
    """Occupations from files of atoms, which may be relaxed or thermally displaced: each is put on the nearest site.

    path: a file with one or many structures, or a folder of files. shape: unit cells along each axis of all of them.
    format: as ASE calls it, such as "vasp", "cif", "extxyz" or "lammps-dump-text"; by default from the name. Types of a
        dump without elements are the species, in order.
    tolerance: how far from its site an atom may be, in the undeformed crystal; a displacement of all is not counted.
    Energies that the files bring are the known property "energy", in J per atom.
    """

    name = "atomic-files"
    path: Path = field(kw_only=True)
    shape: Annotated[tuple[Annotated[Count, Unit("cells")], ...], Field(min_length=3, max_length=3)] = field(
        kw_only=True
    )
    format: Format | None = None
    tolerance: Length = 8e-11

    def load(self, seed: int) -> Structures:
        crystal = self.parent()
        specification = self.specification(crystal, self.shape)
        frames = [(name, k, atoms) for name in self._files() for k, atoms in enumerate(self._read(name))]
        values = np.array([self._occupation(atoms, crystal, specification, f"'{name}', structure {k}")
                           for name, k, atoms in frames])  # fmt: skip
        energies = [_energy(atoms) for _, _, atoms in frames]
        if all(energy is None for energy in energies):
            return Structures(values, specification)
        known = np.array([np.nan if energy is None else energy for energy in energies])
        return Structures(values, specification, {"energy": known}, (Quantity("energy", "J"),))

    @classmethod
    def example(cls, n: int, seed: int) -> Structures:
        own = cls(path=Path(), shape=(2, 2, 2))
        specification = own.specification(own.parent(), own.shape)
        rng = np.random.default_rng(seed)
        return Structures(rng.integers(0, 2, (n, *specification.shape)).astype(np.uint8), specification)

    def _files(self) -> list[Path]:
        if self.path.is_dir():
            return sorted(file for file in self.path.iterdir() if file.is_file() and not file.name.startswith("."))
        return [self.path]

    def _read(self, path: Path) -> list[Any]:
        try:
            import ase.io
        except ImportError:
            raise PluginError("reading files of atoms needs ASE: install msvae[ase]") from None
        how = self._format(path)
        try:
            frames: list[Any] = list(ase.io.iread(path, index=":", format=how))
        except Exception as error:  # a border: readers of formats raise anything
            raise DataError(f"dataset.path: '{path}' cannot be read: {type(error).__name__}: {error}") from None
        kinds = [name for name in self.species if name != VACANCY]
        for atoms in frames:
            if how == "lammps-dump-text" and not set(atoms.get_chemical_symbols()) & set(kinds):
                types = atoms.get_atomic_numbers()  # without elements, ASE takes types for atomic numbers
                atoms.info["symbols"] = [kinds[k - 1] if 0 < k <= len(kinds) else f"type {k}" for k in types]
        return frames

    def _format(self, path: Path) -> Format:
        """Return the format of a file; no other is tried, for some of ASE's are pickles."""
        found = self.format or ENDINGS.get(path.suffix.lower())
        if found is None and path.name.upper().startswith(("POSCAR", "CONTCAR")):
            return "vasp"
        if found is None:
            raise DataError(
                f"dataset.path: the name '{path}' says no format: give dataset.format = {', '.join(get_args(Format))}"
            )
        return found

    def _occupation(self, atoms: Any, crystal: Crystal, specification: Specification, where: str) -> Array:
        """Return the species (channels, *grid) on the sites; DataError if an atom is on none, or a site has two."""
        species = self._species(atoms, where)
        sites, cells, apart = _nearest(atoms, crystal, self.shape)
        if len(apart) and apart.max() > self.tolerance:
            k = int(apart.argmax())
            raise DataError(
                f"{where}: atom {k} ({self.species[species[k]]}) lies on no site, {apart[k]:.2g} m from the nearest: "
                f"give its crystal and dataset.shape, or a larger tolerance than {self.tolerance:.2g} m"
            )
        empty = self.species.index(VACANCY) if VACANCY in self.species else len(self.species)
        values = np.full(specification.shape, empty)
        place = np.ravel_multi_index((sites, *cells.T), specification.shape)
        if len(np.unique(place)) < len(place):
            _, counts = np.unique(place, return_counts=True)
            raise DataError(f"{where}: {int((counts > 1).sum())} sites have two atoms: dataset.shape may be another")
        values.ravel()[place] = species
        if (values == len(self.species)).any():
            raise DataError(
                f"{where}: {int((values == len(self.species)).sum())} of {values.size} sites have no atom: name "
                "'vacancy' among the species, or correct dataset.shape"
            )
        return values

    def _species(self, atoms: Any, where: str) -> Array:
        symbols = atoms.info.get("symbols", atoms.get_chemical_symbols())
        strange = sorted(set(symbols) - set(self.species))
        if strange:
            raise DataError(
                f"{where} has {', '.join(strange)}, dataset.species names {', '.join(self.species)}: name every element"
            )
        return np.array([self.species.index(symbol) for symbol in symbols], dtype=np.int64)


def _nearest(atoms: Any, crystal: Crystal, shape: Sequence[int]) -> tuple[Array, Array, Array]:
    """Return the nearest site (n,) to each atom, its cell (n, 3) and the distance (n,) in m in the undeformed crystal.

    A common displacement of all atoms, as of another origin, is taken out first.
    """
    vectors, sites = np.array(crystal.vectors), np.array(crystal.sites)
    fractions = atoms.get_scaled_positions(wrap=False) * np.array(shape)
    for _ in range(3):
        between = fractions[:, None] - sites[None]
        cells = np.round(between).astype(int)
        apart = np.linalg.norm((between - cells) @ vectors, axis=2)
        nearest = apart.argmin(axis=1)
        rows = np.arange(len(nearest))
        cell, residual = cells[rows, nearest], (between - cells)[rows, nearest]
        if len(rows):
            fractions = fractions - residual.mean(axis=0)
    return nearest, cell % np.array(shape), apart[rows, nearest]


def _energy(atoms: Any) -> float | None:
    """Return the energy of an atom in J that a file brings, or None."""
    found = getattr(atoms.calc, "results", {}).get("energy") if atoms.calc is not None else None
    return None if found is None else float(found) / len(atoms) * ELECTRONVOLT
