"""`msvae export`: what other programs read is what the run has."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from msvae import DataError, Run, RunError
from msvae.campaigns.launch import launch
from msvae.cli.app import app
from msvae.files.images import read_vtk


def call(*arguments: str) -> str:
    return CliRunner().invoke(app, ["export", *arguments], catch_exceptions=False).stdout


@pytest.fixture
def run(study_file: Callable[..., Path], tmp_path: Path) -> Run:
    """A run of labelling, with one of its structures as the design of a search."""
    launch(study_file("label"), tmp_path / "run")
    found = Run.open(tmp_path / "run")
    found.save_structures(found.labelled[3], "best_design.h5")
    return found


def test_designs_and_evaluations_are_what_the_run_has(run: Run, tmp_path: Path) -> None:
    said = call(str(run.path))
    folder = tmp_path / "run-export"
    assert said.split() == [str(folder / "design.tif"), str(folder / "evaluations.csv")]
    np.testing.assert_array_equal(tifffile.imread(folder / "design.tif"), run.labelled.values[3, 0])
    rows = list(csv.DictReader((folder / "evaluations.csv").read_text().splitlines()))
    table = run.evaluations
    assert [row["structure"] for row in rows] == table["structure"].tolist()
    assert {row["status"] for row in rows} == {"done"}
    np.testing.assert_array_equal(
        [float(row["conductivity[0, 1] (W/m/K)"]) for row in rows], table.properties["conductivity"][:, 0, 1]
    )


def test_formats_and_the_data_set(run: Run, tmp_path: Path) -> None:
    call(str(run.path), "--format", "npy", "--dataset", "--output", str(tmp_path / "npy"))
    names = sorted(p.name for p in (tmp_path / "npy").glob("*.npy"))
    assert names == ["design.npy", *(f"structure-{k:04d}.npy" for k in range(24))]
    np.testing.assert_array_equal(np.load(tmp_path / "npy" / "structure-0007.npy"), run.labelled.values[7])
    pytest.importorskip("vtkmodules")
    call(str(run.path), "--format", "vti", "--output", str(tmp_path / "vti"))
    image = read_vtk(tmp_path / "vti" / "design.vti")
    assert np.squeeze(image.values).shape == (8, 8)


def test_what_cannot_be_written_is_said_in_one_sentence(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a surface needs a part in 3D"):
        call(str(run.path), "--format", "stl")
    with pytest.raises(RunError, match="not a run directory"):
        call(str(tmp_path.parent))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        call(str(run.path), "--output", str(tmp_path / "file" / "folder"))
