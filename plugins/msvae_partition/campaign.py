"""The campaign "partition": the partition function of a disordered crystal, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from msvae import Campaign, Count, DataError, Distinct, Finite, Fraction, Length, Natural, Positive, StudyError, Unit

if TYPE_CHECKING:
    from msvae import Context, Drawing, Run, Structures, Study, Table

__all__ = ["Partition"]

Kelvin = Annotated[Positive, Unit("K")]
Joule = Annotated[Finite, Unit("J")]


@dataclass(frozen=True)
class Partition(Campaign):
    """[partition]: log Z of the occupations of a lattice at some temperatures, from few energies of the solver.

    The data set's structures give the lattice, the first energies and, where it is conserved, the composition.

    temperatures: at which log Z is found. energy: the solver's property that is the energy. extensive: whether that is
        of the whole structure; else it is per site.
    conserved: sum over occupations with the composition of the data set only; else over all.
    potentials: chemical potential of each constituent, where nothing is conserved.
    basis: positions of the sites in a unit cell, in parts of it; by default those of a simple, body-centred or
        face-centred cell for 1, 2 or 4 sites. crystal: CIF or POSCAR file of a cell of any
        shape, instead.
    symmetry: pay once for all images of an occupation under the operations
        that map the lattice onto itself; it is checked on some of them first.
    radius: sum over the sites within it of one only, the center, which itself and all beyond stay as in the data set's
        first structure: a local environment. center: the number of that site, in the order of a structure's values.
    against: folder of a run of the same cell without the defect that this study's structures have, for the
        concentration of such defects.
    order: constituent on each site of the unit cell of an ordered crystal, from which antisites are counted.
    pairs, triplets: shells of neighbours that clusters of the energy's expansion reach.
    budget: of the solver's evaluations, at most. learning: share of it for the expansion, at most. batch: of
        configurations that it learns from at once, at each temperature.
    batches: independent runs of the annealing at a time. particles: occupations of each. sweeps: moves of every site
        between two steps. rounds: further batches, at most, until the interval is as asked for.
    draws: of these occupations, of those without a known energy, that are solved at each temperature to correct the
        expansion, at least.
    bits: of the inverse VAE; 0 leaves it out. steps: of its training.
    start: of the annealing: "uniform" occupations; those of the "inverse-vae", which take fewer steps, but what the
        decoder never draws no interval shows; by "auto" what has less spread for its cost.
    precision: half-width of the 95 % interval of log Z per site at which it ends. effective: share of the draws that
        their effective sample size has to be, too.
    """

    name = "partition"
    prepares = "structures"

    temperatures: Annotated[tuple[Kelvin, ...], Field(min_length=1), Distinct] = (1000.0,)
    energy: str = "energy"
    extensive: bool = False
    conserved: bool = False
    potentials: tuple[Joule, ...] = ()
    basis: tuple[tuple[Finite, ...], ...] = ()
    crystal: Path | None = None
    symmetry: bool = True
    radius: Length | None = None
    center: Natural = 0
    against: Path | None = None
    order: tuple[str, ...] = ()
    pairs: Natural = 6
    triplets: Natural = 2
    budget: Count = 1000
    learning: Fraction = 0.5
    batch: Count = 32
    batches: Annotated[int, Field(ge=8)] = 32
    particles: Annotated[int, Field(ge=10)] = 200
    sweeps: Count = 1
    draws: Annotated[int, Field(ge=8)] = 32
    rounds: Count = 50
    bits: Annotated[Natural, Field(le=64)] = 6
    steps: Count = 600
    start: Literal["auto", "uniform", "inverse-vae"] = "uniform"
    precision: Positive = 5e-4
    effective: Fraction = 0.5

    def __post_init__(self) -> None:
        if self.start == "inverse-vae" and not self.bits:
            raise ValueError("start = 'inverse-vae' needs bits, found 0")
        if self.radius is not None and self.order:
            raise ValueError("order is of whole crystals: leave it out, or radius")
        if self.conserved and self.potentials:
            raise ValueError("potentials are for occupations of any composition: leave them out, or conserved")

    def check(self, study: Study) -> None:
        """Raise StudyError where the solver computes no such energy."""
        known = {q.name: q for q in study.need_solver().computes}
        if self.energy not in known or known[self.energy].unit != "J":
            raise StudyError(
                f"{study.source.at(['partition', 'energy'])}: expected a property in J of '{study.need_solver().name}' "
                f"({', '.join(f'{q.name} in {q.unit}' for q in known.values())}), found '{self.energy}'"
            )

    def check_structures(self, context: Context, structures: Structures) -> None:
        """Raise DataError where structures are no occupations, or their compositions differ though conserved."""
        specification = structures.specification
        if specification.kind != "occupation":
            raise DataError(f"partition: sums over occupations of lattice sites, found structures of kind "
                            f"'{specification.kind}'")  # fmt: skip
        if len(specification.constituents) > 16:
            raise DataError(f"partition: at most 16 constituents, found {len(specification.constituents)}")
        if self.potentials and len(self.potentials) != len(specification.constituents):
            raise DataError(
                f"partition.potentials: expected one for each of {', '.join(specification.constituents)}, found "
                f"{len(self.potentials)}"
            )
        fractions = structures.fractions
        if self.conserved and (abs(fractions - fractions[0]) > 1e-9).any():
            raise DataError(
                "partition.conserved: the data set's structures differ in their composition: give it one, or set "
                "conserved = false to sum over all of them"
            )

    def run(self, context: Context) -> Table:
        """Return log Z, its bound and its interval, and the averages that follow, at each temperature."""
        from msvae_partition.run import run

        return run(context, self)

    def figures(self, run: Run) -> Iterator[Drawing | None]:
        """Yield the convergence of log Z, averages against temperature, and the configurations found."""
        from msvae_partition import figures

        yield from (draw(run) for draw in figures.FIGURES)
