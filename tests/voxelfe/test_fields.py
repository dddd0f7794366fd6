"""Fields on the voxels: their means are the effective ones, and their files open again."""

from __future__ import annotations

from pathlib import Path

import meshio
import numpy as np
import pytest
from typer.testing import CliRunner

import msvae
from msvae import Structures
from msvae.cli import app
from msvae_voxelfe.linear.through_conductivity import ThroughConductivity

PHASES = {
    "conductivity": [{"conductivity": 1.0}, {"conductivity": 8.0}],
    "elasticity": [{"youngs_modulus": 1.0, "poissons_ratio": 0.2}, {"youngs_modulus": 6.0, "poissons_ratio": 0.35}],
}


@pytest.mark.parametrize(
    ("name", "gradient", "flux"), [("conductivity", "gradient", "flux"), ("elasticity", "strain", "stress")]
)
@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 5)])
def test_fields_average_to_the_load_and_to_the_effective_tensor(
    name: str, gradient: str, flux: str, shape: tuple[int, ...]
) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (1, *shape))
    structures = Structures.from_labels(labels, [0.5, 1.0, 2.0][: len(shape)])
    solver = msvae.load_solver(name, phases=PHASES[name], tolerance=1e-7)
    tensor = next(iter(solver.evaluate(structures).values()))[0]
    fields = solver.fields(structures)
    axes = tuple(range(len(shape)))
    for case in range(len(tensor)):
        np.testing.assert_allclose(fields[f"{gradient} {case}"].mean(axis=axes), np.eye(len(tensor))[case], atol=1e-9)
        np.testing.assert_allclose(fields[f"{flux} {case}"].mean(axis=axes), tensor[case], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 5)])
def test_solve_writes_fields_that_open_again_and_pictures(tmp_path: Path, shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 2, shape)
    np.save(tmp_path / "image.npy", labels)
    image, out = str(tmp_path / "image.npy"), str(tmp_path / "out")
    settings = ["--set", "phases=[{conductivity=1.0}, {conductivity=8.0}]", "--set", "dataset.spacing=2e-6"]
    arguments = ["solve", "conductivity", image, "--fields", out, *settings]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    mesh = meshio.read(tmp_path / "out" / "image-0.vtu")
    assert len(mesh.cells[0].data) == labels.size
    np.testing.assert_array_equal(mesh.cell_data["structure"][0], labels.ravel())
    np.testing.assert_allclose(mesh.points.max(axis=0)[: len(shape)], 2e-6 * np.array(shape))
    solver = msvae.load_solver("conductivity", phases=PHASES["conductivity"])
    structures = Structures.from_labels(labels[None], 2e-6, periodic=False)  # as images are
    expected = solver.fields(structures)["flux 1"].reshape(labels.size, -1)
    np.testing.assert_allclose(mesh.cell_data["flux 1"][0], expected)
    assert (tmp_path / "out" / "image-0-flux-1.png").read_bytes().startswith(b"\x89PNG")


def test_velocities_average_to_the_permeability_and_vanish_in_the_solid() -> None:
    labels = (np.random.default_rng(1).random((1, 8, 8)) < 0.15).astype(int)
    structures = Structures.from_labels(labels, 2e-6)
    solver = msvae.load_solver("permeability", tolerance=1e-6)
    tensor = solver.evaluate(structures)["permeability"][0]
    fields = solver.fields(structures)
    for axis in range(2):
        velocity = fields[f"velocity {axis}"]
        np.testing.assert_allclose(velocity.mean(axis=(0, 1)), tensor[:, axis], rtol=1e-3, atol=1e-3 * tensor.max())
        assert (velocity[labels[0] == 1] == 0).all()


def test_fields_of_nonlinear_solvers_average_to_their_curves() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (1, 4, 5))
    structures = Structures.from_labels(labels, [1.0, 2.0])
    elastic = [{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": 5.0, "poissons_ratio": 0.2}]
    periodic = msvae.load_solver("periodic-hyperelasticity", phases=elastic, deformation=[[1.1, 0.2], [0.0, 1.0]])
    found, fields = periodic.evaluate(structures), periodic.fields(structures)
    np.testing.assert_allclose(fields["stress"].mean(axis=(0, 1)), found["stress"][0, -1].ravel(), rtol=1e-9)
    np.testing.assert_allclose(fields["deformation gradient"].mean(axis=(0, 1)), [1.1, 0.2, 0, 1], atol=1e-12)
    np.testing.assert_allclose(np.moveaxis(fields["displacement"], -1, 0), found["displacement"][0, -1])
    plastic = msvae.load_solver(
        "plasticity", phases=[{**phase, "yield_stress": 0.01} for phase in elastic], strains=[0.005, 0.02]
    )
    found, fields = plastic.evaluate(structures), plastic.fields(structures)
    np.testing.assert_allclose(fields["stress"].mean(axis=(0, 1)), found["stress"][0, -1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fields["strain"].mean(axis=(0, 1)), found["strain"][0, -1], rtol=1e-9, atol=1e-12)
    assert fields["plastic strain"].min() >= 0
    assert fields["plastic strain"].max() > 0.005
    fixed = msvae.load_solver("hyperelasticity", phases=elastic, displacements=[0.1, 0.2])
    found, fields = fixed.evaluate(structures), fixed.fields(structures)
    np.testing.assert_allclose(np.moveaxis(fields["displacement"], -1, 0), found["displacement"][0, -1])
    np.testing.assert_allclose(fields["deformation gradient"][..., 3].mean(), 1.2, rtol=1e-9)
    width = 5 * 2.0
    np.testing.assert_allclose(fields["stress"][..., 3].mean() * width, found["reaction"][0, -1, 1], rtol=1e-5)


def test_a_solver_without_fields_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ThroughConductivity, "fields", msvae.Solver.fields)
    np.save(tmp_path / "image.npy", np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]]))
    phases = ["--set", "phases=[{conductivity=1.0}, {conductivity=8.0}]"]
    arguments = ["solve", "through-conductivity", str(tmp_path / "image.npy"), "--fields", str(tmp_path / "out")]
    with pytest.raises(msvae.DataError, match="no fields"):
        CliRunner().invoke(app, [*arguments, *phases], catch_exceptions=False)


@pytest.mark.parametrize(
    ("solver", "settings", "labels", "says"),
    [
        ("permeability", [], [[0, 0], [0, 0]], "there is no solid"),
        ("plasticity", ["phases=[{youngs_modulus=1.0}, {youngs_modulus=0.0}]", "component=4"], [[0, 1], [0, 0]],
         "only 3 in this dimension"),
        ("elasticity", ["phases=[{youngs_modulus=1.0}]"], [[0, 1], [0, 0]], "solver.phases ends at phase 0"),
    ],
)  # fmt: skip
def test_fields_of_what_has_no_solution_are_refused(
    tmp_path: Path, solver: str, settings: list[str], labels: list[list[int]], says: str
) -> None:
    tables = msvae.cli.solving.split_settings(settings)[0]
    with pytest.raises(msvae.DataError, match=says):
        msvae.load_solver(solver, **tables).fields(Structures.from_labels([labels]))
