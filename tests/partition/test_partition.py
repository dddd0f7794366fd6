"""The campaign: log Z of models with exact answers from few evaluations, never twice, on any number of ranks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import DataError, Run, StudyError, TargetError, read_structures
from msvae.campaigns.launch import launch
from msvae.report.page import write_report
from msvae_partition.expansion.symmetry import Lattice
from msvae_partition.models.exact import ising
from msvae_partition.models.ising import BOLTZMANN

STUDY = """
campaign = "partition"
seed = 3
[dataset]
name = "random-occupation"
shape = [4, 4]
count = 16
[solver]
name = "ising"
[partition]
temperatures = [5.0, 2.2691, 1.6667]
budget = 200
bits = 0
rounds = 6
batches = 16
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def found_in(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "partition.json").read_text())
    return found


def test_the_ising_model_is_solved_from_a_few_of_its_states(study: Path, tmp_path: Path) -> None:
    """Log Z, energy and heat capacity beside exact values; the bound below; nothing is evaluated twice."""
    table = launch(study, tmp_path / "run")
    assert table is not None
    found, run = found_in(tmp_path / "run"), Run.open(tmp_path / "run")
    assert found["paid"] < 150
    for kelvin, estimate in zip(found["temperatures"], found["estimates"], strict=True):
        beta = 1 / kelvin
        exact = ising((4, 4), beta)
        assert abs(estimate["log_z"] - exact) < max(1.6 * estimate["half_width"], 1e-3)
        assert estimate["half_width"] < 0.05
        assert estimate["bound"] - 4 * estimate["bound_error"] < exact
        h = 1e-4
        below, above = (ising((4, 4), beta + s) for s in (-h, h))
        energy, capacity = -(above - below) / (2 * h), (above - 2 * exact + below) / h**2
        assert estimate["means"][0] / BOLTZMANN == pytest.approx(energy, abs=0.16)
        assert estimate["means"][1] / BOLTZMANN**2 == pytest.approx(capacity, rel=0.15)
        assert estimate["effective"] > 0.99
    lattice = Lattice.of(run.structures.specification)
    evaluated = [
        structures.values.reshape(len(structures), -1)
        for stage in run.stages if stage != "images"
        for structures in [read_structures(run.path / f"{stage}.h5")]
    ]  # fmt: skip
    every = lattice.canonical(np.concatenate(evaluated).astype(np.int64))
    assert len(every) == len(np.unique(every, axis=0)) == found["paid"]
    page = write_report(tmp_path / "run").read_text()
    assert "Estimates of log Z" in page
    assert "of least energy" in page


@pytest.mark.parametrize("start", ["inverse-vae", "auto"])
def test_an_inverse_vae_is_trained_and_may_be_the_start(study: Path, tmp_path: Path, start: str) -> None:
    """Its own estimate and bound stand beside the annealed one, which they do not exceed."""
    more = [
        f"partition.start='{start}'",
        "partition.bits=4",
        "partition.steps=150",
        "partition.temperatures=[5.0, 3.0]",
    ]
    table = launch(study, tmp_path / "run", overrides=more)
    assert table is not None
    found = found_in(tmp_path / "run")
    assert any("inverse VAE alone at 5 K" in note for note in table.notes)
    for kelvin, own, annealed in zip(found["temperatures"], found["inverse_vae"], found["estimates"], strict=True):
        exact = ising((4, 4), 1 / kelvin)
        assert own["bound"] < exact + 0.05
        assert own["bound"] <= own["log_z"] == pytest.approx(exact, abs=0.3)
        assert abs(annealed["log_z"] - exact) < max(2 * annealed["half_width"], 1e-2)


def test_a_wrong_expansion_is_corrected_by_the_draws(study: Path, tmp_path: Path) -> None:
    """Without pairs it foresees nothing: the draws are all that is known, and say how little that is."""
    table = launch(study, tmp_path / "run", overrides=[
        "partition.pairs=0", "partition.triplets=0", "partition.budget=120", "partition.temperatures=[10.0]",
        "dataset.shape=[4, 6]", "partition.draws=60",
    ])  # fmt: skip
    assert table is not None
    estimate = found_in(tmp_path / "run")["estimates"][0]
    assert abs(estimate["log_z"] - ising((4, 6), 0.1)) < 1.6 * estimate["half_width"]
    assert estimate["half_width"] > 0.05
    assert estimate["bound"] < ising((4, 6), 0.1) < estimate["upper"]


def test_a_precision_out_of_reach_leaves_the_budget_to_the_draws(study: Path, tmp_path: Path) -> None:
    """Rounds have more draws each until nothing is left for more; none with few replaces one with many."""
    launch(study, tmp_path / "run", overrides=[
        "partition.pairs=1", "partition.triplets=0", "partition.budget=600", "partition.precision=1e-12",
        "dataset.shape=[6, 6]", "partition.draws=16", "partition.rounds=1", "partition.learning=0.1",
    ])  # fmt: skip
    found = found_in(tmp_path / "run")
    counts = [c["draws"] for c in found["convergence"]]
    assert counts == sorted(counts)
    assert found["paid"] > 300
    assert found["estimates"][0]["draws"] == counts[-1] > 16


def test_chemical_potentials_and_a_composition_select_occupations(study: Path, tmp_path: Path) -> None:
    """A field h of the Ising model is a difference of potentials 2 h; a fixed composition counts its states."""
    potentials = f"partition.potentials=[{-0.5 * BOLTZMANN}, {0.5 * BOLTZMANN}]"
    launch(study, tmp_path / "free", overrides=[potentials])
    free = found_in(tmp_path / "free")
    assert free["estimates"][0]["log_z"] == pytest.approx(ising((4, 4), 0.2, 0.5), abs=0.1)
    assert free["estimates"][2]["means"][3] > 0.97
    conserved = ["dataset.composition=[0.75, 0.25]", "partition.conserved=true", "partition.temperatures=[1e6]"]
    launch(study, tmp_path / "kept", overrides=conserved)
    kept = found_in(tmp_path / "kept")["estimates"][0]
    assert kept["log_z"] == pytest.approx(np.log(1820), abs=1e-3)  # 16! / (12! 4!)
    np.testing.assert_allclose(kept["means"][2:4], [0.75, 0.25])


def test_antisites_are_counted_from_the_nearest_image_of_an_ordered_crystal(study: Path, tmp_path: Path) -> None:
    """An antiferromagnet of two sites a cell: perfect when it is cold, half of the sites at random when it is hot."""
    study.write_text(
        STUDY.replace('name = "ising"', 'name = "pairs"').replace("shape = [4, 4]", "shape = [2, 2, 2]\nsites = 2")
    )
    (tmp_path / "pairs.py").write_text(PAIRS)
    study.write_text('plugin_files = ["pairs.py"]\n' + study.read_text())
    order = ["partition.order=['down', 'up']", "partition.temperatures=[1e5, 0.5]", "partition.conserved=true",
             "dataset.composition=[0.5, 0.5]"]  # fmt: skip
    table = launch(study, tmp_path / "run", overrides=order)
    assert table is not None
    assert "antisites" in table.columns
    hot, cold = (e["means"][-1] for e in found_in(tmp_path / "run")["estimates"])
    assert cold < 1e-3
    assert 0.3 < hot < 0.5
    assert found_in(tmp_path / "run")["short_range_order"][1]["0 1"] == pytest.approx(-1, abs=1e-2)


def test_a_local_environment_is_summed_within_fixed_surroundings(study: Path, tmp_path: Path) -> None:
    """The eight sites around one of a 5 x 5 lattice, the other seventeen as in the first structure: all 256 states."""
    more = ["dataset.shape=[5, 5]", "partition.radius=4.3e-10", "partition.center=12", "partition.temperatures=[3.0]"]
    launch(study, tmp_path / "run", overrides=more)
    found, structures = found_in(tmp_path / "run"), Run.open(tmp_path / "run").structures
    assert len(found["free"]) == found["sites"] == 8
    states = np.tile(structures.values[0].ravel(), (256, 1))
    states[:, found["free"]] = (np.arange(256)[:, None] >> np.arange(8)) & 1
    spins = 2.0 * states.reshape(-1, 5, 5) - 1
    bonds = (spins * np.roll(spins, 1, 1) + spins * np.roll(spins, 1, 2)).sum(axis=(1, 2))
    estimate = found["estimates"][0]
    assert abs(estimate["log_z"] - np.log(np.exp(bonds / 3).sum())) < 1.6 * estimate["half_width"]
    with pytest.raises(DataError, match="no site is within"):
        launch(study, tmp_path / "none", overrides=[*more, "partition.radius=1e-12"])
    with pytest.raises(StudyError, match="expected the number of one of 25 sites"):
        launch(study, tmp_path / "far", overrides=[*more, "partition.center=25"])


def test_defects_are_counted_by_the_ratio_of_two_partition_functions(study: Path, tmp_path: Path) -> None:
    """One flipped spin of an Ising crystal costs 8 J: exp(-8 beta) per site in the dilute limit, exactly so here."""
    kept = ["partition.conserved=true", "partition.temperatures=[2.0, 1.5]", "partition.precision=1e-4"]
    launch(study, tmp_path / "perfect", overrides=[*kept, "dataset.composition=[0.0, 1.0]", "dataset.count=8"])
    one = [*kept, "dataset.composition=[0.0625, 0.9375]", f"partition.against={tmp_path / 'perfect'}"]
    table = launch(study, tmp_path / "one", overrides=one)
    assert table is not None
    assert "defects per site" in table.columns
    for kelvin, own in zip((2.0, 1.5), found_in(tmp_path / "one")["defects"], strict=True):
        assert own["per_site"] == pytest.approx(np.exp(-8 / kelvin), rel=1e-3)
    with pytest.raises(StudyError, match=r"has 2, 1\.5 K, this study 7 K too"):
        launch(study, tmp_path / "other", overrides=[*one, "partition.temperatures=[7.0]"])


PAIRS = """
from dataclasses import dataclass
import numpy as np
import msvae

@dataclass(frozen=True)
class Pairs(msvae.Solver):
    "Unlike nearest neighbours of a body-centred crystal attract. wrong: what fails."
    name = "pairs"
    kinds = ("occupation",)
    dimensions = (3,)
    computes = (msvae.Quantity("energy", "J"),)
    wrong: str = ""

    def evaluate(self, structures):
        s = 2.0 * structures.values - 1
        corner, centre = s[:, 0], s[:, 1]
        energy = 0.0
        for shift in np.ndindex(2, 2, 2):
            energy = energy + (centre * np.roll(corner, [-k for k in shift], (1, 2, 3))).sum((1, 2, 3))
        energy = 1.380649e-23 * energy / 16
        if self.wrong == "asymmetric":
            energy = energy + 1e-22 * s[:, 0, 0, 0, 0]
        if self.wrong == "some":
            failed = np.flatnonzero(s[:, 0, 0, 0, 0] > 0)[::3]
            energy[failed] = np.nan
            return msvae.Properties({"energy": energy}, {int(k): "it exploded" for k in failed})
        if self.wrong == "all":
            raise ValueError("no potential")
        return {"energy": energy}

@msvae.hook
def msvae_solvers():
    return [Pairs]
"""


def of_pairs(study: Path) -> None:
    """Write a study of a solver of one's own, on a body-centred crystal."""
    study.with_name("pairs.py").write_text(PAIRS)
    own = STUDY.replace('name = "ising"', 'name = "pairs"').replace("shape = [4, 4]", "shape = [2, 2, 2]\nsites = 2")
    study.write_text('plugin_files = ["pairs.py"]\n' + own)


def test_what_cannot_be_summed_is_said_in_one_sentence(study: Path, tmp_path: Path) -> None:
    of_pairs(tmp_path / "own.toml")
    cases: list[tuple[Path, list[str], type[Exception], str]] = [
        (study, ["partition.energy=stiffness"], StudyError, r"expected a property in J of 'ising' \(energy in J\)"),
        (study, ["partition.conserved=true"], DataError, "differ in their composition"),
        (study, ["partition.potentials=[1.0]"], DataError, "expected one for each of down, up, found 1"),
        (study, ["partition.order=['up', 'left']"], StudyError, "partition.order: expected one of down, up"),
        (study, ["partition.basis=[[0.0]]"], DataError, "partition.basis has 1 with 1 coordinates"),
        (study, ["partition.budget=20"], TargetError, "partition.budget: "),
        (study, ["partition.start='inverse-vae'"], StudyError, "needs bits"),
        (tmp_path / "own.toml", ["solver.wrong='asymmetric'"], StudyError, "set symmetry = false"),
        (tmp_path / "own.toml", ["solver.wrong='all'"], TargetError, "0 of the first"),
    ]
    for k, (path, overrides, error, says) in enumerate(cases):
        with pytest.raises(error, match=says):
            launch(path, tmp_path / f"run{k}", overrides=overrides)


def test_failed_evaluations_weigh_nothing_and_are_said(study: Path, tmp_path: Path) -> None:
    of_pairs(study)
    table = launch(study, tmp_path / "run", overrides=["solver.wrong='some'", "partition.symmetry=false",
                                                       "partition.temperatures=[50.0]"])  # fmt: skip
    assert table is not None
    assert any("have no energy and count as weight 0" in note for note in table.notes)


@pytest.mark.parametrize("n", [3, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.mpi
def test_ranks_and_a_restart_find_the_same(study: Path, tmp_path: Path, mpiexec: Callable[..., Any], n: int) -> None:
    launch(study, tmp_path / "serial")
    expected = found_in(tmp_path / "serial")
    found = mpiexec(n, "-m", "msvae", "run", str(study), "--output", f"run{n}")
    assert found.returncode == 0, found.stderr
    assert found_in(tmp_path / f"run{n}") == expected
    (tmp_path / "serial" / "partition.json").unlink()
    count = len(Run.open(tmp_path / "serial").evaluations)
    launch(study, tmp_path / "serial", resume=True)
    assert found_in(tmp_path / "serial") == expected
    assert len(Run.open(tmp_path / "serial").evaluations) == count
