"""Energy, forces and stress of an occupation of a crystal's sites by any calculator of ASE, static or relaxed.

Larsen et al., J. Phys.: Condens. Matter 29 (2017) 273002.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from msvae import (
    VACANCY,
    Array,
    Count,
    Crystal,
    Finite,
    PluginError,
    Positive,
    Properties,
    Quantity,
    Rule,
    Solver,
    Specification,
    Structures,
    Unit,
)
from msvae_ase.calculators import NAMED, calculator, missing

__all__ = ["AseEnergy", "atoms_of"]

ELECTRONVOLT = 1.602176634e-19  # J, exact (SI 2019)
ANGSTROM = 1e-10  # m
Calculator = Rule(
    f"{', '.join(NAMED)}, or module:Class", lambda name: name in NAMED or 0 < name.find(":") < len(name) - 1
)


@dataclass(frozen=True)
class AseEnergy(Solver):
    """Energy per atom of an occupation of lattice sites by a calculator of ASE; the constituents are elements.

    calculator: "emt", "lennard-jones", "chgnet" (msvae[chgnet]), or "module:Class". arguments: of that class.
    crystal: CIF or POSCAR file of the unit cell, of any shape, whose atoms are the sites; its edges are the grid's
        spacing. Without it the cell has right angles.
    basis: sites of the unit cell, in fractions of the cell; without it those of a simple cubic, body-centred or
        face-centred crystal for 1, 2 or 4 sites. The constituent "vacancy" is no atom.
    relax: "positions" moves the atoms, "cell" also the cell, to the nearest minimum of energy (FIRE).
    force: largest force that is left. steps: of relaxation, after which it has failed.
    properties: what else is computed: forces on the atoms, stress (tension positive), edges of the cell.
    """

    name = "ase"
    kinds = ("occupation",)
    dimensions = (3,)
    computes: ClassVar[tuple[Quantity, ...]] = (
        Quantity("energy", "J"),
        Quantity("forces", "N", ("sites", "d"), 0),
        Quantity("stress", "Pa", ("v",)),
        Quantity("lengths", "m", ("d",)),
    )
    calculator: Annotated[str, Calculator] = "emt"
    arguments: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    crystal: Path | None = None
    basis: tuple[tuple[Finite, Finite, Finite], ...] = ()
    relax: Literal["none", "positions", "cell"] = "none"
    force: Annotated[Positive, Unit("N")] = 1.6e-11
    steps: Count = 500
    properties: tuple[Literal["forces", "stress", "lengths"], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "computes", self._asked())

    def _asked(self) -> tuple[Quantity, ...]:
        """Return the properties that the settings ask for."""
        return tuple(q for q in type(self).computes if q.name in {"energy", *self.properties})

    def quantities(self, specification: Specification) -> tuple[Quantity, ...]:
        shapes = {"forces": (int(np.prod(specification.shape)), 3)}
        return tuple(
            Quantity(q.name, q.unit, shapes.get(q.name, q.shape), q.spacing_exponent).resolve(3) for q in self.computes
        )

    def misfit(self, specification: Specification) -> str | None:
        reason = super().misfit(specification) or missing(self.calculator)
        return reason or Crystal.misfit(specification, basis=self.basis, file=self.crystal)

    @classmethod
    def example(cls) -> AseEnergy:
        return cls(calculator="lennard-jones", arguments={"sigma": 2.3, "epsilon": 0.4, "rc": 3.0})

    def evaluate(self, structures: Structures) -> Properties:
        quantities = self.quantities(structures.specification)
        arrays = {q.name: np.full((len(structures), *q.sizes), np.nan) for q in quantities}
        failures = {}
        crystal = self._crystal(structures.specification)
        kept = calculator(self.calculator, self.arguments)
        for k in range(len(structures)):
            try:
                with kept.lock:
                    found = self._computed(kept.calculator, structures[k], crystal)
            except Exception as error:  # a border: a calculator may raise anything
                failures[k] = f"{type(error).__name__}: {error}"
                continue
            for name, value in found.items():
                arrays[name][k] = value
        return Properties(arrays, failures)

    def _crystal(self, specification: Specification) -> Crystal:
        return Crystal.of(specification, basis=self.basis, file=self.crystal)

    def _computed(self, engine: Any, structure: Structures, crystal: Crystal) -> dict[str, Array | float]:
        """Return the properties of one structure; raises whatever the calculator does."""
        atoms, occupied = atoms_of(structure, crystal)
        if hasattr(engine, "reset"):
            engine.reset()  # of what it knows of other atoms
        atoms.calc = engine
        if self.relax != "none":
            self._relax(atoms)
        energy = float(atoms.get_potential_energy())
        if not np.isfinite(energy):
            raise ValueError("the energy is not a finite number: atoms lie too near to each other for this calculator")
        found: dict[str, Array | float] = {"energy": energy / len(atoms) * ELECTRONVOLT}
        if "forces" in self.properties:
            forces = np.zeros((len(occupied), 3))
            forces[occupied] = atoms.get_forces() * ELECTRONVOLT / ANGSTROM
            found["forces"] = forces
        if "stress" in self.properties:
            found["stress"] = np.asarray(atoms.get_stress()) * ELECTRONVOLT / ANGSTROM**3
        if "lengths" in self.properties:
            found["lengths"] = np.asarray(atoms.cell.lengths()) * ANGSTROM
        return found

    def _relax(self, atoms: Any) -> None:
        """Relax atoms in place; ValueError if forces are left."""
        from ase.filters import FrechetCellFilter
        from ase.optimize import FIRE

        filtered: Any = FrechetCellFilter
        moved = filtered(atoms) if self.relax == "cell" else atoms
        tolerance = self.force / ELECTRONVOLT * ANGSTROM
        FIRE(moved, logfile=None).run(fmax=tolerance, steps=self.steps)
        left = float(np.linalg.norm(np.asarray(moved.get_forces()), axis=1).max()) * ELECTRONVOLT / ANGSTROM
        if not left <= self.force:
            raise ValueError(
                f"it did not relax: after {self.steps} steps a force of {left:.1e} N is left, more than "
                f"{self.force:.1e} N"
            )


def atoms_of(structure: Structures, crystal: Crystal) -> tuple[Any, Array]:
    """Return the atoms of an occupation for ASE, and which sites (sites,) have one; ValueError if it has none."""
    try:
        from ase import Atoms
    except ImportError:
        raise PluginError("atoms need ASE: install msvae[ase]") from None
    grid, names = structure.specification.grid, structure.specification.constituents
    species = structure.values[0].ravel()
    occupied = np.array([name != VACANCY for name in names])[species]
    if not occupied.any():
        raise ValueError("there is no atom on any site")
    symbols = [names[k] for k in species[occupied]]
    positions = crystal.positions(grid.shape).reshape(-1, 3)[occupied] / ANGSTROM
    atoms = Atoms(symbols, positions=positions, cell=crystal.box(grid.shape) / ANGSTROM, pbc=grid.periodic)
    return atoms, occupied
