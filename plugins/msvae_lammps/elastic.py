"""Elastic constants of an occupation of a crystal's sites, by finite strains, and its cell at a temperature.

The constants are the change of stress with strain about the cell without stress, the atoms relaxed at each strain
(Wallace, Thermodynamics of Crystals, 1972, ch. 2): central differences, whose error goes with the square of the strain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from msvae import Array, Count, Crystal, NonNegative, Positive, Quantity, Seconds, Structures, Unit, seed_of
from msvae_lammps.interaction import ANGSTROM, BAR, ELECTRONVOLT, VOIGT, LammpsSolver, atoms_of, check_relaxed
from msvae_lammps.program import STEP, Failure, Program

__all__ = ["LammpsElastic"]

EVERY = 20  # steps of dynamics between two cells that are averaged
BLOCKS = 5  # of a run, whose means say how well the mean is known
HELD = 0.1  # relative change of an edge above which it is no crystal any more
PICOSECOND = 1e-12  # s


@dataclass(frozen=True)
class LammpsElastic(LammpsSolver):
    """Elastic constants of an occupation of lattice sites at 0 K, and the lengths of the cell's edges.

    relax: "cell" seeks the cell without stress first, and relaxes the atoms at each strain; "positions" leaves the cell
        as it is; "none" leaves the atoms too (clamped ions).
    strain: of the finite differences, to both sides. force: largest force that relaxing leaves.
        steps: of relaxation, after which it has failed.
    temperature: of a run of dynamics at no pressure, whose second half gives the mean lengths and their standard error;
        0, the default, gives the lengths without stress. duration: of that run.
    """

    name = "lammps-elastic"
    computes: ClassVar[tuple[Quantity, ...]] = (
        Quantity("stiffness", "Pa", ("v", "v")),
        Quantity("lengths", "m", ("d",)),
        Quantity("lengths_error", "m", ("d",)),
    )
    relax: Literal["none", "positions", "cell"] = "cell"
    strain: Annotated[float, Field(gt=0, lt=0.1), Unit("1")] = 3e-4
    force: Annotated[Positive, Unit("N")] = 1e-14
    steps: Count = 5000
    temperature: Annotated[NonNegative, Unit("K")] = 0.0
    duration: Seconds = 4e-11

    @classmethod
    def example(cls) -> LammpsElastic:
        pairs = ("1 1 0.4 2.3", "2 2 0.5 2.2", "1 2 0.6 2.25")
        return cls(pair_style="lj/cut 6.0", pair_coeff=pairs, relax="none")

    @property
    def any_angles(self) -> bool:
        return True

    def compute(self, lammps: Program, structure: Structures, crystal: Crystal) -> dict[str, Any]:
        atoms = atoms_of(structure, crystal)
        lammps.place(atoms.box, atoms.species, atoms.positions)
        self._relax(lammps, cell=self.relax == "cell")
        box, positions = lammps.box, lammps.positions
        lengths, error = self._lengths(lammps, box, int(structure.ids[0], 16))
        stiffness = np.zeros((6, 6))
        for j, (a, b) in enumerate(VOIGT):
            strain = np.zeros((3, 3))
            strain[a, b] += self.strain / 2
            strain[b, a] += self.strain / 2  # a shear of Voigt's is twice the tensor's component
            stresses = []
            for sign in (1, -1):
                deformed = np.eye(3) + sign * strain
                lammps.place(box @ deformed, atoms.species, positions @ deformed)
                self._relax(lammps, cell=False)
                stresses.append(lammps.stress)
            change = (stresses[0] - stresses[1]) / (2 * self.strain) * BAR
            stiffness[:, j] = [change[i, k] for i, k in VOIGT]
        return {"stiffness": (stiffness + stiffness.T) / 2, "lengths": lengths, "lengths_error": error}

    def _relax(self, lammps: Program, *, cell: bool) -> None:
        """Relax the atoms, and the cell; Failure if forces are left."""
        if self.relax == "none":
            lammps.compute()
            return
        tolerance = self.force / ELECTRONVOLT * ANGSTROM
        if cell:
            lammps.minimize(tolerance, self.steps, cell=True)
        left = lammps.minimize(tolerance, self.steps, line="forcezero") * ELECTRONVOLT / ANGSTROM
        check_relaxed(left, self.force, self.steps)

    def _lengths(self, lammps: Program, box: Array, seed: int) -> tuple[Array, Array]:
        """Return the lengths of the cell's edges in m, and their standard error."""
        if self.temperature == 0:
            return np.linalg.norm(box, axis=1) * ANGSTROM, np.zeros(3)
        steps = max(int(self.duration / PICOSECOND / STEP), 2 * BLOCKS * EVERY)
        boxes = lammps.boxes(self.temperature, steps, EVERY, seed=seed_of(seed, "velocities"))
        lengths = np.linalg.norm(boxes[len(boxes) // 2 :], axis=2) * ANGSTROM
        start = np.linalg.norm(box, axis=1) * ANGSTROM
        if np.abs(lengths.mean(axis=0) / start - 1).max() > HELD:
            raise Failure(f"the crystal does not hold at {self.temperature:g} K: its edges changed by over {HELD:.0%}")
        means = np.array([block.mean(axis=0) for block in np.array_split(lengths, BLOCKS)])
        return lengths.mean(axis=0), means.std(axis=0, ddof=1) / np.sqrt(BLOCKS)
