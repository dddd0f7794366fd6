"""Campaigns about parts on small studies: comparison with DNS, push-forward, gradation; resumed, and on ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import Run, Structures, Study, StudyError, TargetError, load_solver, read_structures
from msvae.campaigns.compare_dns.run import surrounded
from msvae.campaigns.launch import launch
from msvae.part.settings import PartSettings
from msvae.report.page import write_report
from msvae.run.table import Table
from msvae.sampling.fields.grading import position_formula

pytest.importorskip("skfem")
IMAGE = "dataset.image_shape=[64, 64]"
PARTS = """
[structure_head]
properties = ["conductivity"]
epochs = 3
[field]
[part]
lengths = [32e-6, 16e-6]
cells = [4, 2]
physics = "conduction"
quantities = ["conductance", "flux-concentration"]
[dns]
shape = [32, 16]
sizes = [4, 8]
[push_forward]
quantity = "conductance"
fidelity = "structure-head"
cheap = ["head"]
pilot = 10
budget = 16
most = 60
control = 8
[gradation]
shape = [24, 16]
target = "0.4 + 0.2 * x"
steps = 5
corrections = 1
"""
STAGES = {
    "compare-dns": ["label", "dns", "structures-4", "structures-8", "decoded-8"],
    "push-forward": ["label", "samples-structure-head", "samples-head", "control-uncorrelated", "control-homogeneous"],
    "gradation": ["label"],
}


def cells(table: Table) -> list[tuple[str, ...]]:
    """Return a table's rows without the last column, which may be a time."""
    return [row[:-1] for row in table.rows]


@pytest.mark.parametrize("campaign", list(STAGES))
def test_a_part_is_made_reported_and_not_made_again(
    study_file: Callable[..., Path], tmp_path: Path, campaign: str
) -> None:
    study = study_file(campaign, PARTS)
    first = launch(study, tmp_path / "run", overrides=[IMAGE])
    run = Run.open(tmp_path / "run")
    assert first is not None
    assert set(STAGES[campaign]) <= set(run.stages)
    count = len(run.evaluations)
    again = launch(study, tmp_path / "run", overrides=[IMAGE], resume=True)
    assert again is not None
    assert cells(again) == cells(first)
    assert len(Run.open(tmp_path / "run").evaluations) == count
    page = write_report(tmp_path / "run").read_text()
    assert {"compare-dns": "dns", "push-forward": "push_forward", "gradation": "gradation"}[campaign] + ".png" in {
        p.name for p in (tmp_path / "run" / "figures").iterdir()
    }
    assert first.title in page


def values(run: Run, stage: str) -> dict[str, Any]:
    """Return what a stage has, in the order of its index."""
    table = run.store(stage).load().latest()
    return {"index": table["index"], **table.properties}


@pytest.mark.mpi
@pytest.mark.parametrize(
    "campaign", [c if c == "push-forward" else pytest.param(c, marks=pytest.mark.slow) for c in STAGES]
)
def test_killed_and_on_two_and_four_ranks_it_gives_the_same_part(
    study_file: Callable[..., Path],
    tmp_path: Path,
    mpiexec: Callable[..., Any],
    run_command: Callable[..., list[str]],
    killed: Callable[..., None],
    campaign: str,
) -> None:
    study = study_file(campaign, PARTS.replace('cheap = ["head"]', "cheap = []"))  # costs decide on cheap samples
    whole = launch(study, tmp_path / "serial", overrides=[IMAGE])
    assert whole is not None
    last = "model.safetensors" if campaign == "gradation" else f"evaluations/{STAGES[campaign][1]}"
    killed(run_command(study, tmp_path / "killed", IMAGE), (tmp_path / "killed" / last).exists)
    resumed = launch(study, tmp_path / "killed", overrides=[IMAGE], resume=True)
    assert resumed is not None
    assert cells(whole) == cells(resumed)
    serial = Run.open(tmp_path / "serial")
    model = f"training.start_from={tmp_path / 'serial'}"  # tests/mpi trains on ranks
    for n in (2, 4) if campaign == "gradation" else (4,):
        found = mpiexec(n, "-m", "msvae", "run", str(study), "--output", f"run{n}", "--set", IMAGE, "--set", model)
        assert found.returncode == 0, found.stderr
        run = Run.open(tmp_path / f"run{n}")
        assert run.stages == serial.stages
        for stage in serial.stages:
            for name, column in values(serial, stage).items():
                np.testing.assert_array_equal(values(run, stage)[name], column)
        if campaign == "gradation":
            parts = [read_structures(tmp_path / name / "part.h5").values for name in ("serial", f"run{n}")]
            np.testing.assert_array_equal(*parts)


def test_a_laminate_bar_is_the_same_to_its_voxels_and_to_its_structures() -> None:
    """Layers across the load: springs in series, exact for both; and what surrounds the bar leaves it alone."""
    labels = np.zeros((1, 16, 8), dtype=int)
    labels[:, 4:8] = labels[:, 12:] = 1
    bar = Structures.from_labels(labels, 1e-6, phases=2, periodic=False)
    part = PartSettings(lengths=(1.6e-5, 8e-6), cells=(4, 2), physics="conduction")
    cell, inside, share = surrounded(bar, part, None)
    assert cell.specification.grid.shape == (32, 16)
    np.testing.assert_array_equal(cell.values[0, 0][inside], bar.values[0, 0])
    solver = load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 4.0}])
    assert solver.evaluate(cell)["conductivity"][0, 0, 0] / share == pytest.approx(2 / (1 + 1 / 4), rel=1e-4)
    free = PartSettings(lengths=(1.6e-5, 8e-6), cells=(4, 2), physics="elasticity")
    cell, inside, share = surrounded(bar, free, 1)
    assert cell.specification.grid.shape == (32, 12)
    assert share == pytest.approx(8 / 12)
    with pytest.raises(StudyError, match=r"dns\.void"):
        surrounded(bar, free, None)


def test_a_solid_bar_with_free_sides_is_pulled_in_plane_stress_of_its_sides() -> None:
    bar = Structures.from_labels(np.zeros((1, 8, 8, 8), dtype=int), 1e-6, phases=2, periodic=False)
    part = PartSettings(lengths=(8e-6,) * 3, cells=(2, 2, 2), physics="elasticity")
    cell, _, share = surrounded(bar, part, 1)
    solver = load_solver(
        "elasticity", phases=[{"youngs_modulus": 7e10, "poissons_ratio": 0.3}, {"youngs_modulus": 0.0}]
    )
    assert solver.evaluate(cell)["stiffness"][0, 0, 0] / share == pytest.approx(7e10, rel=1e-3)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("push_forward.quantity='speed'", "not among part.quantities"),
        ("push_forward.sampler='sobol'", "leave out cheap"),
        ("push_forward.cheap=['head', 'head']", "differ from each other"),
        ("model.heads=[]", "fidelity 'head' needs a head"),
        ("push_forward.pilot=50", "more than the budget"),
        ("field.region=[[0, 4], [0, 4]]", "holds no structure"),
    ],
)
def test_mistakes_about_parts_are_one_sentence(
    study_file: Callable[..., Path], tmp_path: Path, override: str, says: str
) -> None:
    with pytest.raises(StudyError, match=says):
        launch(study_file("push-forward", PARTS), tmp_path / "run", overrides=[IMAGE, override])


def test_generated_parts_stand_beside_the_image(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = study_file("compare-dns", PARTS)
    table = launch(study, tmp_path / "run", overrides=[IMAGE, "field.against=[[0, 64], [0, 64]]", "field.parts=2"])
    assert table is not None
    assert any(note.startswith("image: correlation") and note.endswith("1.00 of the image's") for note in table.notes)
    write_report(tmp_path / "run")
    assert (tmp_path / "run" / "figures" / "field.png").exists()


def test_every_sample_has_what_was_observed(study_file: Callable[..., Path], tmp_path: Path) -> None:
    """Of a part that has been seen as a whole, and whose elements are the structures, there is only one."""
    study = study_file("push-forward", PARTS.replace('cheap = ["head"]', "cheap = []"))
    seen = ["part.cells=[4, 2]", "field.observed=[[0, 32], [0, 16]]", "field.origin=[0, 0]"]
    launch(study, tmp_path / "free", overrides=[IMAGE])
    launch(study, tmp_path / "seen", overrides=[IMAGE, *seen])
    free, bound = (values(Run.open(tmp_path / name), "samples-structure-head") for name in ("free", "seen"))
    name = "part: conductance"
    assert bound[name].std() < 1e-5 * bound[name].mean()
    assert free[name].std() > 1e-3 * free[name].mean()


def test_parts_are_drawn_by_a_sobol_sequence(study_file: Callable[..., Path], tmp_path: Path) -> None:
    """Its interval of the mean overlaps that of independent samples, and is less than half as wide."""
    study = study_file("push-forward", PARTS.replace('"head"', "").replace('"structure-head"', '"head"'))
    more = ["push_forward.budget=128", "push_forward.control=0", "field.lengths=[3e-5, 3e-5]"]
    launch(study, tmp_path / "random", overrides=more)
    launch(study, tmp_path / "sobol", overrides=[*more, "push_forward.sampler=sobol"])
    runs = [Run.open(tmp_path / name) for name in ("random", "sobol")]
    (_, low, high), (_, least, most) = (run.read_json("push_forward.json")["estimates"]["mean"] for run in runs)
    assert max(low, least) < min(high, most)
    assert most - least < 0.5 * (high - low)


def test_a_pilot_without_results_is_said(study_file: Callable[..., Path], tmp_path: Path) -> None:
    """Half of the resolution of 9 voxels is none."""
    extra = (
        "[push_forward]\nproperty = 'conductivity'\ncomponent = [0, 0]\n"
        "cheap = ['coarse-solver']\npilot = 8\nbudget = 8\n"
    )
    with pytest.raises(TargetError, match="only 0 of the 8 samples of the pilot"):
        launch(study_file("push-forward", extra), tmp_path / "run", overrides=["dataset.shape=[9, 9]"])
    table = Run.open(tmp_path / "run").store("samples-coarse-solver").load()
    assert (table["status"] == "failed").all()
    assert "even numbers of voxels" in table["message"][0]


def test_a_data_set_without_an_image_needs_lengths(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = study_file("push-forward", PARTS)
    with pytest.raises(StudyError, match=r"or give field\.lengths"):
        launch(study, tmp_path / "one")
    table = launch(study, tmp_path / "two", overrides=["field.lengths=[1e-5, 1e-5]", "push_forward.control=0"])
    assert table is not None
    assert table.rows[0][0] == "mean"


def test_a_single_structure_is_pushed_forward_by_sobol_points(study_file: Callable[..., Path], tmp_path: Path) -> None:
    extra = "[push_forward]\nproperty = 'conductivity'\ncomponent = [0, 0]\nsampler = 'sobol'\npilot = 8\nbudget = 64\n"
    table = launch(study_file("push-forward", extra), tmp_path / "run")
    assert table is not None
    assert table.rows[0][4] == "64"
    assert "8 scramblings of 8 points" in table.notes[0]
    found = Run.open(tmp_path / "run").evaluations.properties  # a sample's number is not the tensor of the same name
    assert found["conductivity"].shape[1:] == (2, 2)
    assert np.isfinite(found["structure: conductivity"]).sum() == 64


def test_a_mesh_of_a_file_goes_with_the_run(study_file: Callable[..., Path], tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio")
    points = np.array([[x, y] for x in (0.0, 1.6e-5, 3.2e-5) for y in (0.0, 1.6e-5)])
    cells = np.array([[0, 2, 3], [0, 3, 1], [2, 4, 5], [2, 5, 3]])
    (tmp_path / "meshes").mkdir()
    meshio.write(tmp_path / "meshes" / "part.xdmf", meshio.Mesh(points, [("triangle", cells)]), data_format="XML")
    bar = "lengths = [32e-6, 16e-6]\ncells = [4, 2]\n"
    study = study_file("push-forward", PARTS.replace(bar, 'shape = "file"\nfile = "meshes/part.xdmf"\n'))
    table = launch(study, tmp_path / "run", overrides=[IMAGE])
    assert table is not None
    assert (tmp_path / "run" / "part.xdmf").exists()
    assert 1 * 0.5 < float(table.rows[0][1]) < 10 * 0.5  # W/m/K over a width that is half the length
    assert launch(study, tmp_path / "run", overrides=[IMAGE], resume=True) is not None
    (tmp_path / "meshes" / "part.xdmf").unlink()
    with pytest.raises(StudyError, match=r"part\.file.*does not exist"):
        launch(study, tmp_path / "other", overrides=[IMAGE])


def test_sampling_stops_at_the_asked_interval(study_file: Callable[..., Path], tmp_path: Path) -> None:
    extra = "[push_forward]\nproperty = 'conductivity'\npilot = 8\nbudget = 400\nhalf_width = 0.1\ncomponent = [0, 0]\n"
    table = launch(study_file("push-forward", extra), tmp_path / "run")
    assert table is not None
    mean, low, high, samples = (float(v) for v in table.rows[0][1:5])
    assert (high - low) / 2 <= 0.1 * mean
    assert 8 < samples < 400


FORMULAS = [
    "__import__('os')",
    "x.real",
    "x ** (9 ** 99)",
    "(lambda: 1)()",
    "1 / (x - x)",
    "w",
    "'a'",
    "x +",
    "9 ** 9999",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_of_the_position_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"formula|power|finite"):
        position_formula(text, np.linspace(0, 1, 3)[:, None])


def test_the_examples_about_parts_can_change_their_campaign() -> None:
    folder = Path(__file__).parents[2] / "examples"
    assert Study.load(folder / "berea-part" / "study.toml", ["campaign='push-forward'"]).campaign.name == "push-forward"
    overrides = ["gradation.goal='compliance'", "gradation.fraction=0.3"]
    assert Study.load(folder / "graded-beam" / "study.toml", overrides).campaign.name == "gradation"


@pytest.mark.parametrize("through", ["head", "solver"])
def test_a_property_is_graded_and_measured_by_the_solver(
    study_file: Callable[..., Path], tmp_path: Path, through: str
) -> None:
    overrides = [IMAGE, f"gradation.through='{through}'", "gradation.property='conductivity'",
                 "gradation.component=[0, 0]", "gradation.target='2.5 + 2 * x'", "gradation.steps=20"]  # fmt: skip
    table = launch(study_file("gradation", PARTS), tmp_path / "run", overrides=overrides)
    assert table is not None
    run = Run.open(tmp_path / "run")
    found = run.read_json("gradation.json")
    stages = [stage for stage in run.stages if stage.startswith("windows-graded")]
    solved = [run.store(stage).load().latest().properties["conductivity"][:, 0, 0] for stage in stages]
    assert any(np.array_equal(found["measured"], values) for values in solved)
    misses = [float(row[1]) / float(row[0]) - 1 for row in table.rows]
    assert np.abs(misses).mean() < 0.2  # by their fractions: three epochs teach a head nothing


def test_a_cantilever_is_graded_for_stiffness_and_compared_by_dns(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    part = (
        PARTS.replace('physics = "conduction"', 'load = "bending"\ndisplacement = 1e-6')
        .replace('quantities = ["conductance", "flux-concentration"]', "")
        .replace('properties = ["conductivity"]', 'properties = ["stiffness"]')
        .replace('quantity = "conductance"', 'property = "stiffness"\ncomponent = [0, 0]')
    )
    study = study_file("gradation", part)
    text = study.read_text().replace(
        '"conductivity"\nphases = [{ conductivity = 1.0 }, { conductivity = 10.0 }]',
        '"elasticity"\nphases = [{ youngs_modulus = 1.0 }, { youngs_modulus = 0.05 }]',
    )
    study.write_text(text.replace('heads = ["conductivity"]', 'heads = ["stiffness"]'))
    overrides = [IMAGE, "gradation.goal='compliance'", "gradation.fraction=0.5", "gradation.steps=20"]
    table = launch(study, tmp_path / "run", overrides=overrides)
    assert table is not None
    assert [row[0] for row in table.rows] == ["uniform", "step", "graded"]
    assert all(float(row[2]) > 0 for row in table.rows)
    assert abs(float(table.rows[2][1]) - 0.5) < 0.15


def test_a_part_smaller_than_a_window_is_refused(study_file: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="hold no whole window"):
        launch(study_file("gradation", PARTS), tmp_path / "run", overrides=[IMAGE, "gradation.shape=[6, 6]"])
