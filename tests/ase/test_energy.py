"""Energies by calculators of ASE: those that ASE gives alone; failures are labelled; strangers execute nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Grid, Run, RunError, Specification, Structures, StudyError
from msvae.campaigns.launch import launch
from msvae.campaigns.reproduce import reproduce

pytest.importorskip("ase")
EV, ANGSTROM = 1.602176634e-19, 1e-10
OWN = """
from pathlib import Path

from ase.calculators.emt import EMT

class Marking(EMT):
    def __init__(self, mark, **more):
        super().__init__(**more)
        Path(mark).touch()
"""
STUDY = """
campaign = "label"
[dataset]
name = "solid-solution"
species = ["Cu", "Au"]
constant = 3.8e-10
count = 2
shape = [2, 1, 1]
[solver]
name = "ase"
calculator = "marking_calculator:Marking"
arguments = {{ mark = "{mark}" }}
"""


def occupation(n: int = 1, names: tuple[str, ...] = ("Cu", "Au"), shape: tuple[int, ...] = (2, 2, 2)) -> Structures:
    values = np.random.default_rng(0).integers(0, len(names), (n, 4, *shape)).astype(np.uint8)
    return Structures(values, Specification("occupation", 4, Grid.of(shape, 3.8e-10), names))


def alone(structure: Structures, **more: Any) -> Any:
    """Return the atoms of an occupation, made by ASE's own means, with EMT."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    atoms = bulk("Cu", cubic=True, a=3.8) * structure.specification.grid.shape
    names = np.array(structure.specification.constituents)
    sites = np.round(atoms.positions / 1.9).astype(int)
    of_site = {(0, 0, 0): 0, (0, 1, 1): 1, (1, 0, 1): 2, (1, 1, 0): 3}
    values = structure.values[0]
    atoms.symbols = [names[values[(of_site[tuple((s % 2).tolist())], *(s // 2).tolist())]] for s in sites]
    atoms = atoms[[symbol != "X" for symbol in atoms.symbols]]
    atoms.calc = EMT(**more)
    return atoms


def test_emt_gives_what_ase_gives_alone() -> None:
    structures = occupation(3)
    found = msvae.load_solver("ase", properties=["forces", "stress", "lengths"]).evaluate(structures)
    for k in range(3):
        atoms = alone(structures[k])
        assert found["energy"][k] / EV == pytest.approx(atoms.get_potential_energy() / 32, abs=1e-12)
        np.testing.assert_allclose(found["stress"][k], atoms.get_stress() * EV / ANGSTROM**3, rtol=1e-9, atol=1e3)
        assert np.sort(found["forces"][k].ravel()) == pytest.approx(
            np.sort(atoms.get_forces().ravel()) * EV / ANGSTROM, abs=1e-20
        )
        np.testing.assert_allclose(found["lengths"][k], 7.6e-10)


@pytest.mark.parametrize("relax", ["positions", "cell"])
def test_relaxed_energies_are_those_of_another_optimiser(relax: str) -> None:
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    structures = occupation()
    solver = msvae.load_solver("ase", relax=relax, force=1.6e-12, properties=["stress"])
    found, atoms = solver.evaluate(structures), alone(structures)
    BFGS(FrechetCellFilter(atoms) if relax == "cell" else atoms, logfile=None).run(fmax=1e-3, steps=500)
    assert found["energy"][0] / EV == pytest.approx(atoms.get_potential_energy() / 32, abs=1e-5)
    if relax == "cell":
        assert np.abs(found["stress"]).max() < 2e8


def test_the_embedded_atom_method_of_ase_agrees_with_lammps(data: Path, lammps: None) -> None:
    potential = str(data / "eam" / "FeNiCrCoAl-heaweight.eam.alloy")
    structures = occupation(2, ("Fe", "Ni"))
    theirs = msvae.load_solver("ase", calculator="ase.calculators.eam:EAM", arguments={"potential": potential})
    ours = msvae.load_solver("lammps-energy", potential=potential, properties=["stress"])
    np.testing.assert_allclose(
        theirs.evaluate(structures)["energy"] / EV, ours.evaluate(structures)["energy"] / EV, atol=1e-6
    )


def test_a_crystal_from_a_file_and_a_vacancy(tmp_path: Path) -> None:
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.io import write

    write(tmp_path / "POSCAR", bulk("Cu", a=3.6))
    values = np.zeros((1, 1, 3, 3, 3), dtype=np.uint8)
    values[0, 0, 0, 0, 0] = 1
    grid = Grid.of((3, 3, 3), 3.6e-10 / 2**0.5)
    structures = Structures(values, Specification("occupation", 1, grid, ("Cu", "vacancy")))
    found = msvae.load_solver("ase", crystal=str(tmp_path / "POSCAR"), properties=["forces"]).evaluate(structures)
    atoms = bulk("Cu", a=3.6) * (3, 3, 3)
    del atoms[0]
    atoms.calc = EMT()
    assert found["energy"][0] / EV == pytest.approx(atoms.get_potential_energy() / 26, abs=1e-9)
    assert found["forces"].shape == (1, 27, 3)
    assert (found["forces"][0, 0] == 0).all()


@pytest.mark.parametrize(
    ("names", "settings", "says"),
    [
        (("Fe", "Cu"), {}, "No EMT-potential for Fe"),
        (("Xx", "Cu"), {}, "Xx"),
        (("Cu", "Au"), {"relax": "positions", "steps": 1}, "it did not relax: after 1 steps"),
        (("Cu", "Au"), {"basis": [[0, 0, 0], [0, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0]]}, ""),
    ],
)
def test_what_a_calculator_cannot_do_is_a_labelled_failure(names: Any, settings: Any, says: str) -> None:
    found = msvae.load_solver("ase", **settings).evaluate(occupation(2, names))
    assert sorted(found.failures) == [0, 1]
    assert says in found.failures[0]
    assert np.isnan(found["energy"]).all()


def test_a_calculator_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(StudyError, match=r"calculator.*emt, lennard-jones, chgnet, or module:Class"):
        msvae.load_solver("ase", calculator="nothing")
    with pytest.raises(msvae.PluginError, match=r"'no_such:Thing' cannot be imported.*give module:Class"):
        msvae.load_solver("ase", calculator="no_such:Thing").evaluate(occupation())
    with pytest.raises(msvae.PluginError, match=r"solver.arguments: 'lennard-jones' does not take|unexpected"):
        msvae.load_solver("ase", calculator="lennard-jones", arguments={"sigma": "wide"}).evaluate(occupation())


def test_a_strangers_class_runs_only_with_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "marking_calculator.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    study = tmp_path / "study.toml"
    study.write_text(STUDY.format(mark="mark"))
    monkeypatch.chdir(tmp_path)
    launch(study, tmp_path / "run")
    assert Run.open(tmp_path / "run").evaluations.done.all()
    mark.unlink()
    from msvae_ase.calculators import _made

    _made.cache_clear()
    with pytest.raises(RunError, match=r"names a program as solver\.calculator, 'marking_calculator:Marking'.*--trust"):
        reproduce(tmp_path / "run", tmp_path / "again")
    assert Run.open(tmp_path / "run").study.need_solver().name == "ase"
    assert not mark.exists()
    reproduce(tmp_path / "run", tmp_path / "again", trust=True)
    assert mark.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_chgnet_gives_relaxed_energies_of_alloys(tmp_path: Path) -> None:
    """Ni3Al in L1_2 is bound against its elements by some 0.4 eV per atom."""
    pytest.importorskip("chgnet")

    def energy(names: tuple[str, str], values: list[int], constant: float) -> float:
        array = np.array(values, dtype=np.uint8).reshape(1, 4, 1, 1, 1)
        structures = Structures(array, Specification("occupation", 4, Grid.of((1, 1, 1), constant), names))
        found = msvae.load_solver("ase", calculator="chgnet", relax="cell").evaluate(structures)
        assert found.failures == {}
        return float(found["energy"][0]) / EV

    ordered = energy(("Ni", "Al"), [1, 0, 0, 0], 3.57e-10)
    nickel, aluminium = energy(("Ni", "Al"), [0] * 4, 3.52e-10), energy(("Ni", "Al"), [1] * 4, 4.05e-10)
    assert -0.6 < ordered - 0.75 * nickel - 0.25 * aluminium < -0.25
