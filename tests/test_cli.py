"""The command line: what it prints, and what a mistake looks like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from msvae import DataError, MsvaeError, Structures
from msvae.cli import app, main
from msvae.files.images import read_vtk
from msvae.files.structures import structures_to_bytes

PHASES = "phases=[{conductivity=1.0}, {conductivity=4.0}]"


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return result.output


def shell(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "msvae", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd, check=False)


def test_plugins_are_listed_shown_and_checked() -> None:
    assert "mechanical-mnist" in call("plugin", "list")
    shown = call("plugin", "show", "elasticity")
    for word in ("stiffness in Pa", "phases", "required", "tolerance"):
        assert word in shown
    assert "FAILED" not in call("plugin", "check", "perceptron")
    with pytest.raises(MsvaeError, match="did you mean 'elasticity'"):
        call("plugin", "show", "elastiity")


def test_a_study_is_checked_and_its_schema_printed(study_file: Callable[..., Path]) -> None:
    assert "batch_size = 8" in call("study", "check", str(study_file()))
    assert "conductivity" in str(json.loads(call("study", "schema"))["properties"]["solver"])


def test_a_run_prints_its_table_and_leaves_a_report(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_file()
    monkeypatch.chdir(tmp_path)
    assert "conductivity[0, 0]" in call("run", "study.toml", "--set", "label.limit=4")
    page = tmp_path / "runs" / tmp_path.name / "report.html"
    assert page.exists()
    page.unlink()
    call("report", f"runs/{tmp_path.name}")
    assert page.exists()


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".h5"])
def test_solve_takes_a_file_to_a_property_with_its_unit(tmp_path: Path, suffix: str) -> None:
    labels = np.array([[0, 1], [0, 1]], dtype=np.uint8)
    path, reading = tmp_path / f"image{suffix}", ["--set", "dataset.spacing=1e-6"]
    if suffix == ".tif":
        tifffile.imwrite(path, labels * 200)
        reading += ["--set", "dataset.threshold=100", "--set", "dataset.periodic=true"]
    elif suffix == ".npy":
        np.save(path, labels)
    else:
        path.write_bytes(structures_to_bytes(Structures.from_labels(labels[None], 1e-6)))
        reading = []
    result = json.loads(call("solve", "conductivity", str(path), "--set", PHASES, *reading, "--json"))[0]
    assert result["properties"]["conductivity"]["unit"] == "W/m/K"
    np.testing.assert_allclose(result["properties"]["conductivity"]["value"], [[2.5, 0], [0, 1.6]], atol=1e-9)
    assert "conductivity (W/m/K; discretisation error about" in call(
        "solve", "conductivity", str(path), "--set", PHASES, *reading
    )


def write_vtk(path: Path, values: np.ndarray, spacing: float, *, points: bool = False, name: str = "phase") -> None:
    """Write an array (x, y, z) as a VTK image, in its cells or at its points."""
    vtk = pytest.importorskip("vtkmodules.all")
    from vtkmodules.util.numpy_support import numpy_to_vtk

    image = vtk.vtkImageData()
    image.SetDimensions(*(n if points else n + 1 for n in values.shape))
    image.SetSpacing(spacing, spacing, spacing)
    array = numpy_to_vtk(values.T.ravel(), deep=True)
    array.SetName(name)
    (image.GetPointData() if points else image.GetCellData()).AddArray(array)
    writer = vtk.vtkXMLImageDataWriter() if path.suffix == ".vti" else vtk.vtkStructuredPointsWriter()
    writer.SetInputData(image)
    writer.SetFileName(str(path))
    assert writer.Write()


@pytest.mark.parametrize("suffix", [".vti", ".vtk"])
@pytest.mark.parametrize("points", [False, True])
def test_solve_reads_vtk_images_with_their_axes_and_spacing(tmp_path: Path, suffix: str, points: bool) -> None:
    values = np.zeros((3, 4, 5), dtype=np.uint8)
    values[1] = 1
    write_vtk(tmp_path / f"a{suffix}", values, 2e-6, points=points)
    settings = ["--set", PHASES, "--set", "dataset.array=phase", "--json"]
    result = json.loads(call("solve", "conductivity", str(tmp_path / f"a{suffix}"), *settings))[0]
    structures = Structures.from_labels(values[None], 2e-6, phases=2, periodic=False)
    assert result["structure"] == structures.ids[0]
    grey = np.random.default_rng(0).random((4, 3, 1))
    write_vtk(tmp_path / f"b{suffix}", grey, 1e-6, points=points)
    reading = ["--set", PHASES, "--set", "dataset.threshold=0.5", "--json"]
    result = json.loads(call("solve", "conductivity", str(tmp_path / f"b{suffix}"), *reading))[0]
    expected = Structures.from_labels((grey > 0.5)[None, ..., 0], 1e-6, phases=2, periodic=False)
    assert result["structure"] == expected.ids[0]


def test_a_vtk_image_that_is_damaged_or_ambiguous_is_refused_with_its_name(tmp_path: Path) -> None:
    values = np.zeros((3, 4, 5), dtype=np.uint8)
    write_vtk(tmp_path / "a.vti", values, 1.0)
    with pytest.raises(DataError, match=r"no scalar array 'grey' \(it has: phase\)"):
        read_vtk(tmp_path / "a.vti", "grey")
    text = (tmp_path / "a.vti").read_bytes()
    (tmp_path / "half.vti").write_bytes(text[: len(text) // 2])
    with pytest.raises(DataError, match=r"half.vti' cannot be read as a VTK image"):
        read_vtk(tmp_path / "half.vti")
    with pytest.raises(DataError, match="does not exist"):
        read_vtk(tmp_path / "none.vti")


def test_one_file_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.array([[0, 1], [0, 0]]))
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    files = [str(tmp_path / name) for name in ("bad.npy", "good.npy")]
    result = CliRunner().invoke(app, ["solve", "conductivity", *files, "--set", PHASES, "--json"])
    assert result.exit_code == 1
    bad, good = json.loads(result.stdout)
    assert bad["status"] == "failed"
    assert "bad.npy" in bad["message"]
    assert good["status"] == "done"


def test_solve_says_what_failed_and_exits_with_one(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 3), dtype=int))
    arguments = ["solve", "conductivity", str(tmp_path / "a.npy"), "--set", "phases=[{conductivity=0.0}]"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "failed every voxel is empty" in result.output


BAD = {
    "missing study": (["run", "absent.toml"], "absent.toml"),
    "wrong key": (["run", "study.toml", "--set", "training.epoch=3"], "did you mean 'epochs'"),
    "wrong type": (["run", "study.toml", "--set", "seed=x"], "valid integer"),
    "unknown plugin": (["run", "study.toml", "--set", "dataset.name=simulatd"], "did you mean 'simulated'"),
    "latents zero": (["run", "study.toml", "--set", "model.latents=0"], "model.latents"),
    "property without solver": (["run", "study.toml", "--set", "campaign=train", "--set", "model.heads=['energy']"],
                                "no property 'energy'"),
    "no phases": (["run", "study.toml", "--set", "solver.phases=[]"], "phases is a list of 1 entry or more"),
    "phase missing": (["run", "study.toml", "--set", "solver.phases=[{conductivity=1.0}]"], "phase 1"),
    "truncated TIFF": (["run", "study.toml", "--set", "dataset={name='tiff', path='half.tif', spacing=1}"], "damaged"),
    "empty folder": (["run", "study.toml", "--set", "dataset={name='tiff', path='empty', spacing=1e-6}"], "no .tif"),
    "NaN in data": (["run", "study.toml", "--set", "dataset={name='tiff', path='nan.tif', spacing=1e-6}"], "NaN"),
    "one structure": (["run", "study.toml", "--set", "campaign=train", "--set", "dataset.count=1"], "leaves nothing"),
    "unwritable output": (["run", "study.toml", "--output", "file/run"], "cannot be created"),
    "not a run": (["report", "empty"], "no study.toml"),
    "resume of another study": (["run", "study.toml", "--output", "old", "--resume", "--set", "seed=8"], "of another"),
    "old run": (["run", "study.toml", "--output", "old"], "--resume"),
    "bad override": (["run", "study.toml", "--set", "nonsense"], "key.path=value"),
    "unknown file": (["solve", "conductivity", "image.bmp", "--set", PHASES], ".bmp"),
    "damaged array": (["solve", "conductivity", "half.npy", "--set", PHASES], "half.npy"),
    "unknown reading key": (["solve", "conductivity", "good.npy", "--set", PHASES, "--set", "dataset.x=1"], ".x"),
    "unknown solver": (["solve", "conductivty", "good.npy"], "did you mean 'conductivity'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_sentence_and_exit_code_two(
    name: str, study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    study_file()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    tifffile.imwrite(tmp_path / "half.tif", np.zeros((64, 64), dtype=np.uint8))
    os.truncate(tmp_path / "half.tif", 200)
    tifffile.imwrite(tmp_path / "nan.tif", np.full((8, 8), np.nan, dtype=np.float32))
    np.save(tmp_path / "good.npy", np.zeros((4, 4), dtype=int))
    (tmp_path / "half.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:70])
    arguments, says = BAD[name]
    if "old" in arguments:
        monkeypatch.setattr(sys, "argv", ["msvae", "run", "study.toml", "--output", "old", "--set", "label.limit=2"])
        with pytest.raises(SystemExit):
            main()
        capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["msvae", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    printed = capsys.readouterr().err.strip()
    sentences = [line for line in printed.splitlines() if line.startswith("msvae: ")]
    assert len(sentences) == 1
    assert says in sentences[0]
    assert "Traceback" not in printed


def test_the_module_runs_as_a_program() -> None:
    result = shell("run", "absent.toml")
    assert result.returncode == 2
    assert result.stderr.startswith("msvae: study 'absent.toml' cannot be read")


def test_the_version_is_printed() -> None:
    from importlib.metadata import version

    assert call("--version").startswith(f"msvae {version('msvae')} (torch {version('torch')}, ")
