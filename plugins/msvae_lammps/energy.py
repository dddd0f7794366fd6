"""Energy, forces and stress of an occupation of a crystal's sites, static or relaxed, on any number of MPI ranks.

Thompson et al., Comput. Phys. Commun. 271 (2022) 108171.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from msvae import Array, Count, Crystal, Finite, Positive, Quantity, Specification, Structures, Unit
from msvae_lammps.interaction import (
    ANGSTROM,
    BAR,
    ELECTRONVOLT,
    NOTE,
    VOIGT,
    LammpsSolver,
    atoms_of,
    check_relaxed,
    displaced,
    elements,
)
from msvae_lammps.program import Program

__all__ = ["LammpsEnergy"]


@dataclass(frozen=True)
class LammpsEnergy(LammpsSolver):
    """Energy per atom of an occupation of lattice sites; formation energy, forces and stress if asked for.

    The formation energy is that of the whole cell, E - sum_i n_i mu_i: of a defect, if mu are energies per atom of the
    host's elements (Freysoldt et al., Rev. Mod. Phys. 86 (2014) 253, eq. 2, neutral defects).

    relax: "positions" moves the atoms, "cell" also the edges of the cell, and the angles of one without right angles,
        to the nearest minimum of energy.
    force: largest force that is left. steps: of relaxation, after which it has failed.
    references: energy mu of an atom of each element, in J; with them the formation energy is computed.
    properties: what else is computed: forces on the atoms, stress (tension positive), edges of the cell.
    """

    name = "lammps-energy"
    computes: ClassVar[tuple[Quantity, ...]] = (
        Quantity("energy", "J"),
        Quantity("formation_energy", "J"),
        Quantity("forces", "N", ("sites", "d"), 0),
        Quantity("stress", "Pa", ("v",)),
        Quantity("lengths", "m", ("d",)),
    )
    relax: Literal["none", "positions", "cell"] = "none"
    force: Annotated[Positive, Unit("N")] = 1e-12
    steps: Count = 2000
    references: Mapping[str, Annotated[Finite, Unit("J")]] = field(default_factory=dict)
    properties: tuple[Literal["forces", "stress", "lengths"], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = {"energy", *self.properties, *(["formation_energy"] if self.references else [])}
        object.__setattr__(self, "computes", tuple(q for q in type(self).computes if q.name in wanted))

    def quantities(self, specification: Specification) -> tuple[Quantity, ...]:
        sites = int(np.prod(specification.shape))
        shapes = {"forces": (sites, 3)}
        return tuple(
            Quantity(q.name, q.unit, shapes.get(q.name, q.shape), q.spacing_exponent).resolve(3) for q in self.computes
        )

    def misfit(self, specification: Specification) -> str | None:
        missing = sorted(set(elements(specification.constituents)) - set(self.references))
        if self.references and missing:
            return f"references has no energy of {', '.join(missing)}: give one for each element, or none"
        return super().misfit(specification)

    @classmethod
    def example(cls) -> LammpsEnergy:
        return cls(pair_style="lj/cut 6.0", pair_coeff=("1 1 0.4 2.3", "2 2 0.5 2.2", "1 2 0.6 2.25"))

    def compute(self, lammps: Program, structure: Structures, crystal: Crystal) -> dict[str, Any]:
        atoms = atoms_of(structure, crystal)
        lammps.place(atoms.box, atoms.species, atoms.positions)
        if self.relax == "none":
            lammps.compute()
        else:
            left = lammps.minimize(
                self.force / ELECTRONVOLT * ANGSTROM, self.steps, cell=self.relax == "cell"
            ) * (ELECTRONVOLT / ANGSTROM)  # fmt: skip
            check_relaxed(left, self.force, self.steps)
        found = self._found(lammps, atoms.species, atoms.occupied, structure.specification)
        if self.relax != "none" and all(structure.specification.grid.periodic):
            note = displaced(atoms, lammps.box, lammps.positions)
            return found if note is None else {**found, NOTE: note}
        return found

    def _found(self, lammps: Program, species: Array, occupied: Array, specification: Specification) -> dict[str, Any]:
        energy = lammps.energy * ELECTRONVOLT
        found: dict[str, Any] = {"energy": energy / len(species)}
        if self.references:
            numbers = np.bincount(species, minlength=len(elements(specification.constituents)) + 1)[1:]
            mu = [self.references[name] for name in elements(specification.constituents)]
            found["formation_energy"] = energy - float(numbers @ np.array(mu))
        if "forces" in self.properties:
            forces = np.zeros((len(occupied), 3))
            forces[occupied] = lammps.forces * ELECTRONVOLT / ANGSTROM
            found["forces"] = forces
        if "stress" in self.properties:
            stress = lammps.stress * BAR
            found["stress"] = np.array([stress[i, j] for i, j in VOIGT])
        if "lengths" in self.properties:
            found["lengths"] = np.linalg.norm(lammps.box, axis=1) * ANGSTROM
        return found
