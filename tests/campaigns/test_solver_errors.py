"""The solver's own errors in tables, reports and answers of campaigns, against the evaluations that they are of."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import Run, Solver, load_solver
from msvae.campaigns.design.accuracy import design_doubts, sampling_doubt
from msvae.campaigns.design.campaign import InverseDesign
from msvae.campaigns.launch import launch
from msvae.metrics.solver_errors import percent, property_errors, relative_errors, with_unit
from msvae.report.page import write_report
from msvae.run.table import Table
from msvae.sampling.estimators import Estimate
from msvae.sampling.search.aims import Target
from msvae.structures.evaluations import Evaluation, Evaluations

PUSHED = "[push_forward]\nproperty = 'conductivity'\ncomponent = [0, 0]\npilot = 8\nbudget = 24\n"
PART = """
[field]
lengths = [1e-5, 1e-5]
[part]
lengths = [32e-6, 16e-6]
cells = [2, 1]
physics = "conduction"
quantities = ["conductance", "thermal-resistance"]
[push_forward]
quantity = "conductance"
pilot = 8
budget = 8
control = 0
"""
DOUBT = "the solver's own discretisation error"


def evaluations(**errors: Any) -> Evaluations:
    """Return three evaluations of a property whose largest entries are 10, 20 and 0."""
    values = {"k": np.array([[1.0, -10.0], [20.0, 2.0], [0.0, 0.0]])}
    rows = []
    for k in range(3):
        estimates: dict[str, Any] = {family: {"k": np.array(e[k])} for family, e in errors.items()}
        rows.append(Evaluation(k, f"{k:016x}", "done", {"k": values["k"][k]}, **estimates))
    return Evaluations.of(rows).stamped({"k": "W/m/K"}, {})


def test_errors_are_those_of_the_largest_entry_and_each_structure_counts_once() -> None:
    table = evaluations(errors=[[9.0, 0.1], [0.6, 9.0], [0.5, 0.0]])
    (found,) = property_errors([table, table])
    assert found.evaluations == 3
    assert found.discretisation is not None
    assert found.discretisation.median == pytest.approx(0.5)  # of .1, .6, .5
    assert found.discretisation.relative == pytest.approx(0.02)  # of 1 % and 3 %: what is zero has none
    assert found.discretisation.largest == pytest.approx(0.03)
    assert found.iteration is None
    assert "discretisation 0.5 W/m/K (2 %) in the median and 3 % at most, iteration not estimated" in found.text


def test_label_names_both_errors_of_what_it_evaluated(study_file: Callable[..., Path], tmp_path: Path) -> None:
    table = launch(study_file("label"), tmp_path / "run")
    assert table is not None
    found = Run.open(tmp_path / "run").evaluations
    error, left = (family["conductivity"] for family in (found.errors, found.iteration_errors))
    assert table.columns[-2:] == ("discretisation error, median", "iteration error, median")
    assert table.rows[0][-2:] == tuple(f"{np.median(e[:, 0, 0]):.2g}" for e in (error, left))
    flat, own = np.abs(found.properties["conductivity"]).reshape(24, -1), error.reshape(24, -1)
    place = np.arange(24), flat.argmax(axis=1)
    relative = own[place] / flat[place]
    said = f"({percent(float(np.median(relative)))}) in the median and {percent(float(relative.max()))} at most"
    assert f"discretisation {with_unit(float(np.median(own[place])), 'W/m/K')} {said}, iteration" in table.notes[-1]
    page = write_report(tmp_path / "run").read_text()
    assert "Errors of the solver" in page
    assert f"<td>{with_unit(float(np.median(own[place])), 'W/m/K')} {said}</td>" in page
    assert table.notes[-1].replace("'", "&#x27;") in page


BARE = """
from dataclasses import dataclass
import msvae

@dataclass(frozen=True)
class Bare(msvae.Solver):
    "The share of phase 1."
    name = "bare"
    kinds = ("phases",)
    computes = (msvae.Quantity("conductivity", "W/m/K"),)

    def evaluate(self, structures):
        return {"conductivity": structures.fractions[:, 1]}

@msvae.hook
def msvae_solvers():
    return [Bare]
"""


def test_a_solver_without_estimates_is_said_to_have_none(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = study_file("label")
    settings = study.read_text()
    start, end = settings.index("[solver]"), settings.index("[architecture]")
    study.write_text(settings[:start] + '[solver]\nname = "bare"\n' + settings[end:])
    (tmp_path / "bare.py").write_text(BARE)
    study.write_text('plugin_files = ["bare.py"]\n' + study.read_text())
    table = launch(study, tmp_path / "run", overrides=["dataset.count=2", "model.heads=[]"])
    assert table is not None
    assert any(
        n.startswith("conductivity, 2 eval") and "discretisation not estimated, iteration " in n for n in table.notes
    )


def designed(study_file: Callable[..., Path], run: Path, *overrides: str) -> Table:
    table = launch(study_file("inverse-design"), run, overrides=["design.control_budget=0", *overrides])
    assert table is not None
    return table


@pytest.mark.parametrize("tolerance", [0.02, 0.3])
def test_a_design_that_the_solver_may_be_wrong_about_is_never_said_to_be_verified_alone(
    study_file: Callable[..., Path], tmp_path: Path, tolerance: float
) -> None:
    """The value of a training structure is the target, so that it is met whatever the search finds."""
    launch(study_file("label"), tmp_path / "label")
    known = Run.open(tmp_path / "label").evaluations
    k, error = 5, known.errors["conductivity"][:, 0, 0]
    value = float(known.properties["conductivity"][k, 0, 0])
    assert 0.02 < error[k] / value < 0.3
    target = f"design.targets=[{{property='conductivity', component=[0, 0], value={value}, tolerance={tolerance}}}]"
    table = designed(study_file, tmp_path / "run", target, "design.budget=24")
    doubts = [note for note in table.notes if DOUBT in note]
    if tolerance > error[k] / value:
        assert "meets the target already" in table.notes[0]
        assert not doubts
        return
    size = f"about {with_unit(error[k], 'W/m/K')} ({percent(error[k] / value)})"
    assert f"structure {k} meets the target within 2 % by the solver's value" in doubts[0]
    assert f'{size}, larger than that tolerance: take finer voxels or solver.accuracy = "extrapolated"' in doubts[0]
    page = write_report(tmp_path / "run").read_text()
    assert page.count(DOUBT.replace("'", "&#x27;")) == len(doubts)


def test_the_row_of_the_best_design_has_its_own_errors(study_file: Callable[..., Path], tmp_path: Path) -> None:
    table = designed(study_file, tmp_path / "run")
    found = Run.open(tmp_path / "run").store("search-0").load()
    best = int(np.argmin(np.abs(found.properties["conductivity"][:, 0, 0] - 4.0)))
    rows = {row[0]: row for row in table.rows}
    for kind, errors in (("discretisation", found.errors), ("iteration", found.iteration_errors)):
        error = errors["conductivity"][best, 0, 0]
        assert rows[f"its {kind} error"][1:3] == (f"{error:.2g}", percent(error / 4.0))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"value": 10.0, "tolerance": 0.02}, "larger than that tolerance: take finer voxels"),  # the error is 3 %
        ({"value": 10.1, "tolerance": 0.035}, "it is off by 0.99 % and .* together more than that"),
        ({"value": 10.1, "tolerance": 0.05}, ""),
        ({"low": 9.0, "high": 11.0, "tolerance": 0.01}, ""),  # both ends are farther away than the error
        ({"low": 9.8, "tolerance": 0.005}, "larger than that tolerance"),
        ({"values": [10.0, 5.0], "tolerance": 0.02}, r"of it meets .* about 0\.3 W/m/K \(3 %\), larger"),
        ({"values": [10.0, 5.0], "tolerance": 0.031}, ""),
    ],
)
def test_values_ranges_and_curves_are_doubted_where_the_error_leads_out_of_them(
    target: dict[str, Any], said: str
) -> None:
    curve = "values" in target
    design = InverseDesign(targets=(Target("conductivity", component=() if curve else (0,), **target),))
    row = Evaluation(0, "", "done", {"conductivity": np.array([10.0, 5.0])},
                     errors={"conductivity": np.array([0.3, 0.1])})  # fmt: skip
    doubts = list(design_doubts("it", design, Evaluations.of([row]), 0, solver()))
    assert len(doubts) == bool(said)
    assert all(re.search(said, doubt) for doubt in doubts)


def test_the_way_out_is_one_that_is_left() -> None:
    """What is extrapolated already needs finer voxels; what has no estimate is said to have none."""
    design = InverseDesign(targets=(Target("conductivity", value=10.0, component=(0,)),))
    values, errors = {"conductivity": np.array([10.0, 5.0])}, {"conductivity": np.array([0.3, 0.1])}
    for accuracy, estimates, end in (
        ("estimate", errors, 'take finer voxels or solver.accuracy = "extrapolated" to be sure'),
        ("extrapolated", errors, "take finer voxels to be sure"),
        ("estimate", {}, "design.refine = true solves the best design with twice the voxels"),
    ):
        table = Evaluations.of([Evaluation(0, "", "done", values, errors=estimates)])
        (doubt,) = design_doubts("it", design, table, 0, solver(accuracy=accuracy))
        assert doubt.endswith(end)


def solver(**settings: Any) -> Solver:
    return load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 10.0}], **settings)


@pytest.mark.parametrize("sampler", ["monte-carlo", "sobol"])
def test_the_discretisation_error_of_a_mean_is_the_mean_of_the_samples_errors(
    study_file: Callable[..., Path], tmp_path: Path, sampler: str
) -> None:
    """They are solved once more here, from the latents of the run."""
    table = launch(study_file("push-forward", PUSHED), tmp_path / "run", overrides=[f"push_forward.sampler={sampler}"])
    assert table is not None
    run = Run.open(tmp_path / "run")
    found = run.store("samples-solver").load()
    errors = solver().evaluate(run.model.decode(found.latents)).errors["conductivity"][:, 0, 0]
    np.testing.assert_allclose(found.errors["structure: conductivity"], errors, rtol=1e-3)
    assert table.columns[-1] == "discretisation error"
    assert table.rows[0][-1] == f"{found.errors['structure: conductivity'].mean():.2g}"
    plain = run.read_json("push_forward.json")
    assert plain["discretisation_errors"]["mean"] == pytest.approx(errors.mean(), rel=1e-3)
    low, high = plain["estimates"]["mean"][1:]
    (note,) = [note for note in table.notes if note.startswith("the discretisation error of the mean")]
    assert ("is larger than" in note) == (errors.mean() > (high - low) / 2)
    assert note in write_report(tmp_path / "run").read_text()


def test_the_larger_of_sampling_and_discretisation_error_is_said() -> None:
    mean = Estimate(10.0, 9.9, 10.1)
    assert sampling_doubt(mean, 0.3, "Pa", solver()) == (
        "the discretisation error of the mean, about 300 mPa (3 %), is larger than its sampling error, 100 mPa: more "
        'samples do not help, finer voxels or solver.accuracy = "extrapolated" do'
    )
    assert "is smaller than its sampling error, 100 mPa" in sampling_doubt(mean, 0.03, "Pa", solver())
    assert "not estimated" in sampling_doubt(mean, None, "Pa", solver())


def test_a_part_is_off_as_its_elements_are(study_file: Callable[..., Path], tmp_path: Path) -> None:
    """Of one conductance the error is, relatively, between those of its elements, and of its resistance as large."""
    pytest.importorskip("skfem")
    table = launch(study_file("push-forward", PART), tmp_path / "run")
    assert table is not None
    run = Run.open(tmp_path / "run")
    found = run.store("samples-solver").load()
    relative = found.errors["part: conductance"] / found.properties["part: conductance"]
    labels = run.store("label").load()
    own = relative_errors(labels.properties["conductivity"], labels.errors["conductivity"])
    assert (relative > 0.5 * own.min()).all()
    assert (relative < 2 * own.max()).all()
    assert table.rows[0][-1] == f"{found.errors['part: conductance'].mean():.2g}"


def test_samples_by_heads_have_no_error_of_their_own(study_file: Callable[..., Path], tmp_path: Path) -> None:
    table = launch(study_file("push-forward", PUSHED), tmp_path / "run", overrides=["push_forward.fidelity=head"])
    assert table is not None
    assert {row[-1] for row in table.rows} == {""}
    assert any("of the mean is not estimated" in note for note in table.notes)
    assert any(note.startswith("conductivity, 24 evaluations") for note in table.notes)  # what they learnt from
