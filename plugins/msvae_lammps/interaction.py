"""What the solvers by LAMMPS have in common: a potential, a crystal, and the atoms of an occupation."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from msvae import (
    VACANCY,
    Array,
    Crystal,
    DataError,
    Finite,
    PluginError,
    Properties,
    Solver,
    Specification,
    Structures,
)
from msvae_lammps.program import Failure, Program, Setup, program

__all__ = [
    "ANGSTROM",
    "BAR",
    "ELECTRONVOLT",
    "NOTE",
    "VOIGT",
    "Atoms",
    "LammpsSolver",
    "atoms_of",
    "check_relaxed",
    "displaced",
    "elements",
]

ELECTRONVOLT = 1.602176634e-19  # J, exact (SI 2019)
ANGSTROM = 1e-10  # m
BAR = 1e5  # Pa
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
NOTE = "note"  # what qualifies a result, among its properties
NEAR = 0.7e-10  # m: no two nuclei in a solid come so near
WORD = re.compile(r"[\w.+/*:-]+")  # what may stand in a LAMMPS command: nothing that quotes, continues or substitutes
PROGRAMS = {"python", "mliap"}  # interactions that are Python, from a module or a pickle


@dataclass(frozen=True)
class Atoms:
    """Atoms of an occupation: box (3, 3) and positions (n, 3) in angstrom, species (n,) from 1; occupied (sites,)."""

    box: Array
    species: Array
    positions: Array
    occupied: Array


@dataclass(frozen=True)
class LammpsSolver(Solver):
    """Properties of an occupation of lattice sites by LAMMPS; the constituents are elements, and "vacancy" is none.

    crystal: CIF or POSCAR file of the unit cell, of any shape, whose atoms are the sites; its edges are the grid's
        spacing. Without it the cell has right angles.
    basis: sites of the unit cell, in fractions of the cell; without it those of a simple cubic, body-centred or
        face-centred crystal for 1, 2 or 4 sites.
    potential: file that pair_coeff reads ("pair_coeff * * FILE ELEMENTS"). pair_style: LAMMPS's name of the
        interaction, with its arguments. pair_coeff: arguments of pair_coeff commands, for styles without a file.
    """

    kinds = ("occupation",)
    dimensions = (3,)
    potential: str | None = None
    pair_style: str = "eam/alloy"
    pair_coeff: tuple[str, ...] = ()
    basis: tuple[tuple[Finite, Finite, Finite], ...] = ()
    crystal: Path | None = None

    def __post_init__(self) -> None:
        for text in (self.pair_style, *self.pair_coeff):
            if not all(WORD.fullmatch(word) for word in text.split(" ")):
                raise PluginError(
                    f"'{text}' is no part of a LAMMPS command: expected words of letters, digits and . + - / * :, with "
                    "single spaces between them"
                )
        programs = {word.split("/")[0] for word in self.pair_style.split(" ")} & PROGRAMS
        if programs:
            raise PluginError(f"pair_style '{min(programs)}' executes what its files say, as pickles do: refused")
        if self.potential is None and not self.pair_coeff:
            raise PluginError("give potential = a file, or pair_coeff for a pair_style that needs none")

    def misfit(self, specification: Specification) -> str | None:
        if self.potential is not None and not Path(self.potential).is_file():
            return f"potential '{self.potential}' is not a file: give the path of one that LAMMPS reads"
        reason = super().misfit(specification)
        reason = reason or Crystal.misfit(specification, basis=self.basis, file=self.crystal)
        if reason is not None:
            return reason
        if tilted(self._crystal(specification)) and not all(specification.grid.periodic):
            return "a cell without right angles is periodic along all axes: set periodic = true, or another crystal"
        return None

    def evaluate(self, structures: Structures) -> Properties:
        return self.evaluate_on(None, structures)

    def evaluate_on(self, communicator: Any, structures: Structures) -> Properties:
        quantities = self.quantities(structures.specification)
        arrays = {q.name: np.full((len(structures), *q.sizes), np.nan) for q in quantities}
        failures, notes = {}, {}
        crystal = self._crystal(structures.specification)
        for k in range(len(structures)):
            try:
                with program(self._setup(structures.specification, crystal), communicator) as lammps:
                    found = self.compute(lammps, structures[k], crystal)
            except Failure as error:
                failures[k] = str(error)
                continue
            for name, value in found.items():
                if name == NOTE:
                    notes[k] = value
                else:
                    arrays[name][k] = value
        return Properties(arrays, failures, notes=notes)

    @abstractmethod
    def compute(self, lammps: Program, structure: Structures, crystal: Crystal) -> Mapping[str, Any]:
        """Return the properties of one structure, and a NOTE that qualifies them; Failure if there are none."""

    @property
    def any_angles(self) -> bool:
        """Whether the cell may come to have any angles though that of the crystal has right ones."""
        return False

    def _crystal(self, specification: Specification) -> Crystal:
        return Crystal.of(specification, basis=self.basis, file=self.crystal)

    def _setup(self, specification: Specification, crystal: Crystal) -> Setup:
        names = elements(specification.constituents)
        boundary = " ".join("p" if periodic else "s" for periodic in specification.grid.periodic)
        lines = self._interaction(names)
        stamp: tuple[int, ...] = ()
        if self.potential is not None:
            try:
                status = Path(self.potential).stat()
            except OSError as error:
                raise Failure(f"potential '{self.potential}' cannot be read: {error.strerror}") from None
            stamp = (status.st_mtime_ns, status.st_size)
        return Setup(tuple(lines), len(names), boundary, self.any_angles or tilted(crystal), stamp)

    def _interaction(self, names: Sequence[str]) -> list[str]:
        for name in names:
            if not WORD.fullmatch(name):
                raise DataError(f"constituent '{name}' is not the name of an element")
        lines = [f"pair_style {self.pair_style}", *(f"pair_coeff {line}" for line in self.pair_coeff)]
        if self.potential is not None:
            path = str(Path(self.potential).resolve())
            if any(c in path for c in "\"'\n$&"):
                raise DataError(f"LAMMPS cannot read the path '{path}': move the file to one without quotes or $")
            lines.append(f'pair_coeff * * "{path}" {" ".join(names)}')
        return lines


def check_relaxed(left: float, force: float, steps: int) -> None:
    """Raise Failure if the largest force that is left after so many steps, in N, is above the one that may be."""
    if not left <= force:
        raise Failure(f"it did not relax: after {steps} steps a force of {left:.1e} N is left, more than {force:.1e} N")


def elements(constituents: Sequence[str]) -> tuple[str, ...]:
    """Return the constituents that are atoms, in the order of LAMMPS's types."""
    return tuple(name for name in constituents if name != VACANCY)


def tilted(crystal: Crystal) -> bool:
    """Return whether the unit cell has angles that are not right, or edges that do not run along the axes."""
    vectors = np.array(crystal.vectors)
    return bool(np.count_nonzero(vectors - np.diag(np.diagonal(vectors)))) or bool((np.diagonal(vectors) < 0).any())


def atoms_of(structure: Structures, crystal: Crystal) -> Atoms:
    """Return the atoms of an occupation; Failure if it has none, or two at one place."""
    specification = structure.specification
    names = elements(specification.constituents)
    types = np.array([names.index(name) + 1 if name in names else 0 for name in specification.constituents])
    species = types[structure.values[0]]
    if not species.any():
        raise Failure("there is no atom on any site")
    _check_distances(species > 0, crystal)
    occupied = species.ravel() > 0
    shape = specification.grid.shape
    positions = crystal.positions(shape).reshape(-1, 3)[occupied] / ANGSTROM
    return Atoms(crystal.box(shape) / ANGSTROM, species.ravel()[occupied], positions, occupied)


def displaced(atoms: Atoms, box: Array, positions: Array) -> str | None:
    """Return a sentence if relaxed atoms (n, 3) in a box (3, 3), in angstrom, left their own sites; None if not."""
    moved = positions @ np.linalg.inv(box) - atoms.positions @ np.linalg.inv(atoms.box)
    moved -= np.round(moved)
    moved = (moved - moved.mean(axis=0)) @ box
    tree = cKDTree(atoms.positions)
    apart = float(tree.query(atoms.positions, 2)[0][:, 1].min()) if len(positions) > 1 else np.inf
    far = np.linalg.norm(moved, axis=1)
    if not (far > apart / 2).any():
        return None
    count = int((far > apart / 2).sum())
    return (
        f"relaxing moved {count} atoms by more than half the distance of two sites, at most "
        f"{far.max() * ANGSTROM:.2g} m: the energy may be another occupation's"
    )


def _check_distances(occupied: Array, crystal: Crystal) -> None:
    """Raise Failure if two sites (channels, *grid) that are closer than nuclei can be are occupied."""
    for s, t, offset, apart in _too_near(crystal):
        there = np.roll(occupied[t], [-n for n in offset], axis=(0, 1, 2))
        if (occupied[s] & there).any():
            raise Failure(
                f"atoms overlap: sites {s} and {t} of the unit cell are {apart:.2g} m apart, and both are occupied"
            )


@lru_cache(maxsize=8)
def _too_near(crystal: Crystal) -> tuple[tuple[int, int, tuple[int, ...], float], ...]:
    """Return the pairs of sites that are closer than nuclei can be: both, the second's cell, and the distance in m."""
    sites, vectors = np.array(crystal.sites), np.array(crystal.vectors)
    found = []
    for s, t, *offset in product(range(len(sites)), range(len(sites)), *((-1, 0, 1),) * 3):
        apart = float(np.linalg.norm((sites[t] + offset - sites[s]) @ vectors))
        if (s < t or any(offset)) and apart < NEAR:
            found.append((s, t, tuple(offset), apart))
    return tuple(found)
