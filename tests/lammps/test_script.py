"""A group's own input script: what it computes, and what becomes of one that ends, crashes or is a stranger's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Run, RunError, Structures
from msvae.campaigns.launch import launch
from msvae.campaigns.reproduce import reproduce

EV = 1.602176634e-19
SCRIPT = """# ours
units metal
atom_style atomic
read_data ${structure}
pair_style eam/alloy
pair_coeff * * ${potential} ${elements}
variable T index 100.0
variable twice equal 2*v_T
variable energy equal pe/atoms
run 0 post no
"""
CRASH = """
import os, signal
process = os.getppid()
while "child.py" not in open(f"/proc/{process}/cmdline").read():
    process = int(open(f"/proc/{process}/stat").read().rpartition(")")[2].split()[1])
os.kill(process, signal.SIGSEGV)
"""
ENERGY = {"name": "energy", "unit": "J", "variable": "energy", "factor": EV}
STUDY = """
campaign = "label"
[dataset]
name = "solid-solution"
count = 2
shape = [2, 2, 2]
[solver]
name = "lammps-script"
script = "{script}"
variables = {{ potential = "{potential}" }}
outputs = [{{ name = "energy", unit = "J", variable = "energy", factor = 1.602176634e-19 }}]
"""


@pytest.fixture
def solver(potential: str, tmp_path: Path) -> Callable[..., msvae.Solver]:
    """Return a function that gives the solver of a script."""

    def make(text: str = SCRIPT, outputs: tuple[Any, ...] = (ENERGY,), **more: Any) -> msvae.Solver:
        (tmp_path / "ours.in").write_text(text)
        variables = {"potential": potential, **more.pop("variables", {})}
        script = str(tmp_path / "ours.in")
        return msvae.load_solver("lammps-script", script=script, outputs=list(outputs), variables=variables, **more)

    return make


@pytest.mark.parametrize("child", [True, False])
def test_a_script_gives_the_energies_of_the_solver(
    solver: Callable[..., msvae.Solver], potential: str, occupation: Callable[..., Structures], child: bool
) -> None:
    structures = occupation(2)
    outputs = (ENERGY, {"name": "pressure", "unit": "Pa", "thermo": "press", "factor": 1e5},
               {"name": "twice", "unit": "K", "variable": "twice"})  # fmt: skip
    found = solver(outputs=outputs, child=child, variables={"T": 300.0}).evaluate(structures)
    expected = msvae.load_solver("lammps-energy", potential=potential, properties=["stress"]).evaluate(structures)
    np.testing.assert_allclose(found["energy"], expected["energy"], rtol=1e-12)
    np.testing.assert_allclose(found["pressure"], -expected["stress"][:, :3].mean(axis=1), rtol=1e-9)
    assert found["twice"].tolist() == [600.0, 600.0]  # the study's value, not the script's own


def test_a_potential_beside_the_script_is_found(
    solver: Callable[..., msvae.Solver], potential: str, occupation: Callable[..., Structures], tmp_path: Path
) -> None:
    (tmp_path / "beside.eam").write_bytes(Path(potential).read_bytes())
    found = solver(SCRIPT.replace("${potential}", "beside.eam")).evaluate(occupation())
    assert found.failures == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SCRIPT + "quit\n", "ended its process before its end, with exit code 0, as quit does"),
        (SCRIPT + "quit 3\n", "with exit code 3"),
        (SCRIPT + 'if "1 > 0" then quit\n', "as quit does"),
        (SCRIPT + "nonsense 1\n", "LAMMPS: Unknown command: nonsense 1"),
        (SCRIPT.replace("${potential}", "absent.eam"), "absent.eam"),
        (SCRIPT.replace("variable energy", "variable other"), "the script leaves no variable 'energy' behind"),
        (SCRIPT.replace("pe/atoms", "pe/0"), "LAMMPS: "),
        (SCRIPT + f"shell {sys.executable} ${{folder}}/crash.py\n", "the script's process was ended by SIGSEGV"),
        (SCRIPT + "shell sleep 20\n", "the script took longer than timeout = 3 s"),
    ],
)
def test_a_script_that_does_not_come_to_its_end_is_a_labelled_failure(
    solver: Callable[..., msvae.Solver], occupation: Callable[..., Structures], tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "crash.py").write_text(CRASH)
    found = solver(text, timeout=3.0).evaluate(occupation())
    assert says in found.failures[0]
    assert np.isnan(found["energy"]).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SCRIPT + "quit\n", "the script says quit, which would end this process"),
        (SCRIPT + 'if "1 > 0" then quit\n', "the script says quit"),
        (SCRIPT + "nonsense 1\n", "LAMMPS: Unknown command: nonsense 1"),
    ],
)
def test_in_this_process_too(
    solver: Callable[..., msvae.Solver], occupation: Callable[..., Structures], text: str, says: str
) -> None:
    assert says in solver(text, child=False).evaluate(occupation()).failures[0]


def test_a_quit_does_not_end_the_campaign(potential: str, tmp_path: Path, solver: Callable[..., msvae.Solver]) -> None:
    """The script ends itself for one of two structures."""
    solver()
    script = tmp_path / "ours.in"
    study = tmp_path / "study.toml"
    study.write_text(STUDY.format(script=script, potential=potential) + "[executor]\nmax_failures = 2\n")
    launch(study, tmp_path / "all")
    energies = Run.open(tmp_path / "all").evaluations.properties["energy"] / EV
    threshold = float(energies.mean())
    script.write_text(f'{SCRIPT}variable e equal pe/atoms\nif "${{e}} > {threshold!r}" then quit\n')
    launch(study, tmp_path / "run")
    table = Run.open(tmp_path / "run").evaluations
    assert sorted(table["status"].tolist()) == ["done", "failed"]
    assert "as quit does" in str(table["message"][~table.done][0])


def test_a_strangers_script_runs_only_with_trust(
    potential: str, tmp_path: Path, solver: Callable[..., msvae.Solver]
) -> None:
    mark = tmp_path / "mark"
    solver(SCRIPT + f"shell touch {mark}\n")
    study = tmp_path / "study.toml"
    study.write_text(STUDY.format(script=tmp_path / "ours.in", potential=potential))
    launch(study, tmp_path / "run")
    mark.unlink()
    with pytest.raises(RunError, match=r"solver\.script.*add --trust"):
        reproduce(tmp_path / "run", tmp_path / "again")
    assert not mark.exists()
    assert Run.open(tmp_path / "run").study.need_solver().name == "lammps-script"
    assert not mark.exists()
    reproduce(tmp_path / "run", tmp_path / "again", trust=True)
    assert mark.exists()


def test_a_script_inside_of_the_run_is_a_strangers_too(
    potential: str, tmp_path: Path, solver: Callable[..., msvae.Solver]
) -> None:
    solver()
    study = tmp_path / "study.toml"
    study.write_text(STUDY.format(script=tmp_path / "ours.in", potential=potential))
    launch(study, tmp_path / "run")
    (tmp_path / "run" / "evil.in").write_text("shell touch mark\n")
    frozen = tmp_path / "run" / "study.toml"
    frozen.write_text(frozen.read_text().replace(str(tmp_path / "ours.in"), str(tmp_path / "run" / "evil.in")))
    with pytest.raises(RunError, match=r"solver\.\w+.*add --trust"):
        reproduce(tmp_path / "run", tmp_path / "again")


def test_an_output_is_one_value_of_the_script() -> None:
    with pytest.raises(msvae.StudyError, match="a thermo keyword or a variable: give one of them"):
        msvae.load_solver("lammps-script", script="x.in", outputs=[{"name": "a", "unit": "1"}])
    solver = msvae.load_solver("lammps-script", script="absent.in", outputs=[ENERGY])
    assert "script 'absent.in' is not a file" in str(
        solver.misfit(msvae.Specification("occupation", 4, msvae.Grid.of((2, 2, 2), 3e-10), ("Fe", "Ni")))
    )


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"a b": 1.0}, "names of letters, digits and _"),
        ({"T": '1" quit'}, "values without quotes"),
        ({"structure": "mine"}, "'structure' stands for two things"),
    ],
)
def test_variables_are_names_with_plain_values(variables: Any, says: str) -> None:
    with pytest.raises(msvae.StudyError, match=says):
        msvae.load_solver("lammps-script", script="x.in", outputs=[ENERGY], variables=variables)
    with pytest.raises(msvae.StudyError, match="'energy' stands for two things"):
        msvae.load_solver("lammps-script", script="x.in", outputs=[ENERGY, ENERGY])
