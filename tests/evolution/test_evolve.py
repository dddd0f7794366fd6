"""Evolution: what is predicted keeps mass and never gains free energy; ranks and restarts give the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import DataError, Run, StudyError
from msvae.campaigns.launch import launch

STUDY = """
campaign = "evolve"
seed = 1
[dataset]
name = "cahn-hilliard"
simulations = 12
frames = 4
shape = [16, 16]
first = 5e-4
duration = 2e-3
[architecture]
name = "fully-convolutional"
stride = 4
block = 2
[model]
latents = 3
features = 16
stem = "none"
beta = 0.1
[training]
epochs = 4
batch_size = 8
held_back = 0.5
[evolve]
parameters = ["height", "gradient"]
factors = [0.5, 2.0, 4.0]
given = [0]
samples = 4
epochs = 2
width = 16
blocks = 1
corrections = 1
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def results(run: Path) -> Any:
    return Run.open(run).store("evolve").load().latest().properties


def test_predictions_keep_mass_and_never_gain_free_energy(study: Path, tmp_path: Path) -> None:
    table = launch(study, tmp_path / "run")
    assert table is not None
    assert [row[0] for row in table.rows] == ["0.5", "2", "4"]
    found = results(tmp_path / "run")
    assert np.nanmax(np.abs(found["mass"])) < 1e-6
    energies = np.column_stack([found["given_energy"], found["energy"][:, 1:]])
    assert (np.diff(energies, axis=1) <= 1e-6 * energies[:, :1]).all()
    assert np.isfinite(found["misfit"][3:, 0]).all()
    assert np.isnan(found["misfit"][:, 1:]).all()


@pytest.mark.parametrize("dynamics", ["linear", "gaussian-process", "flow"])
def test_every_kind_of_dynamics_predicts(dynamics: str, study: Path, tmp_path: Path) -> None:
    changes = [f"evolve.dynamics={dynamics}", "evolve.factors=[2.0]", "evolve.control=true"]
    table = launch(study, tmp_path / "run", overrides=changes)
    assert table is not None
    found = results(tmp_path / "run")
    for name in ("error", "control", "lengths"):
        assert np.isfinite(found[name]).all()
    assert np.ptp(found["lengths"], axis=2).max() > 0


def test_frames_between_two_and_properties_are_in_the_report(study: Path, tmp_path: Path) -> None:
    from msvae.report.page import write_report

    solver = '[solver]\nname = "conductivity"\nphases = [{ conductivity = 1.0 }, { conductivity = 10.0 }]\n'
    study.write_text(study.read_text() + solver)
    launch(study, tmp_path / "run", overrides=["evolve.until=3", "evolve.solved=1"])
    assert np.isfinite(results(tmp_path / "run")["between"][3:]).all()  # of the test
    run = Run.open(tmp_path / "run")
    rows = run.read_json("solved.json")
    assert [row[2] for row in rows] == ["given", *(["sample"] * 4 + ["simulated"]) * 2]
    assert np.isfinite(run.store("solved").load().properties["conductivity"]).all()
    page = write_report(tmp_path / "run").read_text()
    for caption in (
        "predictions (below)",
        "against the horizon",
        "Characteristic lengths",
        "property of predicted frames",
    ):
        assert caption in page


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.mpi
def test_ranks_and_a_restart_give_the_same(study: Path, tmp_path: Path, mpiexec: Callable[..., Any], n: int) -> None:
    launch(study, tmp_path / "serial")
    expected = results(tmp_path / "serial")
    done = mpiexec(n, "-m", "msvae", "run", str(study), "--output", f"run{n}")
    assert done.returncode == 0, done.stderr
    for name, values in results(tmp_path / f"run{n}").items():
        np.testing.assert_array_equal(values, expected[name])
    run = tmp_path / "serial"
    (run / "dynamics.safetensors").unlink()  # as if killed while they were fitted
    for file in (run / "evaluations" / "evolve").iterdir():
        file.unlink()
    launch(study, run, resume=True)
    for name, values in results(run).items():
        np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("dataset.frames=1", "has one frame, from which nothing is learnt"),
        ("evolve.parameters=['mobility']", "evolve.parameters: the data set has no property 'mobility'"),
        ("evolve.given=[4]", "found frame 4, but simulations have frames 0 to 3"),
        ("evolve.factors=[1.0]", "factors are of other times"),
        ("evolve.ratio=1.1", "no two frames of a simulation are within a factor 1.1"),
        ("evolve.until=0", "until is a later frame"),
        ("model.global_latents=2", "takes latents of a vector or a grid"),
        ("training.held_back=1", "two simulations at least have to be held back"),
    ],
)
def test_mistakes_are_one_sentence(change: str, says: str, study: Path, tmp_path: Path) -> None:
    with pytest.raises((StudyError, DataError), match=says) as caught:
        launch(study, tmp_path / "run", overrides=[change])
    assert caught.value.code == 2
    assert "\n" not in str(caught.value)


def test_frames_without_times_are_refused(study: Path, tmp_path: Path) -> None:
    lines = [line for line in STUDY.splitlines() if not line.startswith(("frames", "first", "duration", "shape"))]
    text = "\n".join(lines).replace('"cahn-hilliard"', '"simulated"').replace("simulations =", "count =")
    study.write_text(text)
    with pytest.raises(DataError, match="no property 'time'"):
        launch(study, tmp_path / "run", overrides=["dataset.shape=[16, 16]", "dataset.length=[3e-6, 3e-6]"])
    assert not json.dumps([*(tmp_path / "run").glob("*")], default=str).count("model")
