"""A cluster expansion as a solver: the energy of an occupation from the clusters in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from msvae import (
    VACANCY,
    Array,
    Crystal,
    DataError,
    Finite,
    Length,
    NonNegative,
    PluginError,
    Properties,
    Quantity,
    Rule,
    Run,
    Solver,
    Specification,
    Structures,
    Unit,
    read_structures,
)
from msvae_crystals.expansion import Expansion, Terms, fitted

__all__ = ["ClusterExpansion"]

ELECTRONVOLT = 1.602176634e-19  # J, exact (SI 2019)
Descending = Rule("in descending order", lambda lengths: list(lengths) == sorted(lengths, reverse=True))


@dataclass(frozen=True)
class ClusterExpansion(Solver):
    """Energy per atom of an occupation of lattice sites, as a sum over its clusters (Sanchez et al., Physica A 128,
    334).

    data: a run whose data set has been labelled with energies, or a file of structures with them (structures.h5), which
        the expansion is fitted to. coefficients: known ones instead, a constant and one for each orbit. file: an
        expansion that icet wrote, in eV per atom, instead (msvae[icet]).
    cutoffs: of pairs, triplets, quadruplets: largest distance between two sites of a cluster.
    method: the penalty of the fit. penalty: its strength; by default that with the least error of cross-validation.
        folds: of the cross-validation, whose root mean square error every result states.
    crystal: CIF or POSCAR file of the unit cell, whose atoms are the sites; without it the cell has right angles.
    basis: sites of the unit cell, in fractions of the cell; without it those of a simple cubic, body-centred or
        face-centred crystal for 1, 2 or 4 sites.
    """

    name = "cluster-expansion"
    kinds = ("occupation",)
    dimensions = (3,)
    computes = (Quantity("energy", "J"),)
    data: Path | None = None
    coefficients: tuple[Annotated[Finite, Unit("J")], ...] = ()
    file: Path | None = None
    cutoffs: Annotated[tuple[Length, ...], Field(min_length=1, max_length=3), Descending] = (6e-10, 4.5e-10)
    method: Literal["ridge", "lasso"] = "ridge"
    penalty: NonNegative | None = None
    folds: Annotated[int, Field(ge=2, le=1000)] = 10
    crystal: Path | None = None
    basis: tuple[tuple[Finite, Finite, Finite], ...] = ()

    def __post_init__(self) -> None:
        given = [name for name in ("data", "coefficients", "file") if getattr(self, name)]
        if len(given) != 1:
            raise PluginError(
                f"an expansion comes from data, coefficients or file, found {' and '.join(given) or 'none of them'}"
            )

    @classmethod
    def example(cls) -> ClusterExpansion:
        return cls(coefficients=(-7e-19, 1e-20, 2e-21, -1e-21), cutoffs=(3.7e-10,))

    def misfit(self, specification: Specification) -> str | None:
        reason = super().misfit(specification)
        if reason is not None:
            return reason
        if not all(specification.grid.periodic):
            return "a cluster expansion is for periodic crystals"
        for path in (self.data, self.file):
            if path is not None and not path.exists():
                return f"'{path}' does not exist: give a run or a file that an expansion comes from"
        return None

    def conditions(self, specification: Specification) -> Mapping[str, str]:
        if self.file is not None:
            return {}
        found = self._expansion(specification)
        if not found.structures:
            return {}
        used = int(np.count_nonzero(found.coefficients)) - 1
        return {
            "cross-validation": f"{found.score:.4g} J per site, root mean square of {self.folds} folds of "
            f"{found.structures} structures",
            "expansion": f"{used} of {len(found.coefficients) - 1} orbits, {self.method} of {found.penalty:.2g}",
        }

    def evaluate(self, structures: Structures) -> Properties:
        specification = structures.specification
        atoms = 1 - structures.fractions @ np.array([name == VACANCY for name in specification.constituents])
        if self.file is not None:
            energies = self._by_icet(structures)
        else:
            energies = self._expansion(specification).energies(structures.values)
        with np.errstate(divide="ignore", invalid="ignore"):
            per_atom = np.where(atoms > 0, energies / atoms, np.nan)
        empty = {int(k): "there is no atom on any site" for k in np.flatnonzero(atoms <= 0)}
        return Properties({"energy": per_atom}, empty)

    def _crystal(self, specification: Specification) -> Crystal:
        return Crystal.of(specification, basis=self.basis, file=self.crystal)

    def _expansion(self, specification: Specification) -> Expansion:
        terms = Terms(self._crystal(specification), self.cutoffs, len(specification.constituents))
        if self.coefficients:
            if len(self.coefficients) != len(terms.orbits) + 1:
                raise DataError(
                    f"solver.coefficients has {len(self.coefficients)} numbers; there are {len(terms.orbits)} orbits "
                    "within the cut-offs, and a constant"
                )
            return Expansion(terms, np.array(self.coefficients))
        assert self.data is not None
        stamp = self.data.stat().st_mtime_ns
        return _fit(self.data, stamp, terms, specification.constituents, self.method, self.penalty, self.folds)

    def _by_icet(self, structures: Structures) -> Array:
        """Return energies per site in J of an expansion of icet."""
        try:
            from ase import Atoms
            from icet import ClusterExpansion as Theirs
        except ImportError as error:
            raise PluginError(f"reading '{self.file}' needs icet ({error}): install msvae[icet]") from None
        specification = structures.specification
        crystal, shape = self._crystal(specification), specification.grid.shape
        expansion = Theirs.read(str(self.file))
        symbols = np.array(["X" if name == VACANCY else name for name in specification.constituents])
        box, positions = crystal.box(shape) * 1e10, crystal.positions(shape).reshape(-1, 3) * 1e10
        atoms = [
            Atoms(symbols[values.ravel()], positions=positions, cell=box, pbc=True) for values in structures.values
        ]
        return np.array([expansion.predict(each) for each in atoms]) * ELECTRONVOLT


@lru_cache(maxsize=4)
def _fit(
    data: Path, stamp: int, terms: Terms, constituents: Sequence[str], method: Any, penalty: float | None, folds: int
) -> Expansion:
    """Return the expansion of the energies in a run or in a file of structures."""
    known = _known(data)
    if known.specification.constituents != tuple(constituents) or "energy" not in known.properties:
        raise DataError(
            f"solver.data: '{data}' has {', '.join(known.specification.constituents)} and the properties "
            f"{', '.join(known.properties) or 'none'}, expected {', '.join(constituents)} and energy"
        )
    known = known[np.flatnonzero(np.isfinite(known.properties["energy"]))]
    atoms = 1 - known.fractions @ np.array([name == VACANCY for name in constituents])
    return fitted(
        terms, known.values, known.properties["energy"] * atoms, method=method, penalty=penalty, folds=folds
    )  # fmt: skip


def _known(data: Path) -> Structures:
    """Return structures with what is known of them."""
    if data.is_file():
        return read_structures(data)
    run = Run.open(data)
    if "label" not in run.stages:
        return run.structures
    table = run.store("label").load()
    return run.with_labels([Quantity(name, table.units[name], a.shape[1:]) for name, a in table.properties.items()])
