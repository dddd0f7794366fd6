"""The example of spinodal patterns, reduced: frames at twice the time are nearer to the simulation than the given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msvae import Run
from msvae.campaigns.launch import launch
from msvae_evolution import figures

STUDY = Path(__file__).parents[2] / "examples" / "cahn-hilliard" / "study.toml"


@pytest.mark.slow
def test_pixel_errors_lengths_and_fractions_at_twice_the_time(tmp_path: Path) -> None:
    small = ["dataset.simulations=200", "dataset.shape=[32, 32]", "dataset.first=5e-4", "dataset.duration=2e-3",
             "dataset.frames=4", "training.held_back=0.2", "evolve.given=[0, 1]", "evolve.factors=[0.5, 2.0, 4.0]",
             "evolve.samples=6", "evolve.control=false", "evolve.epochs=20", "training.epochs=14",
             "evolve.solved=1"]  # fmt: skip
    launch(STUDY, tmp_path / "run", overrides=small)
    run = Run.open(tmp_path / "run")
    table, test = run.store("evolve").load().latest(), run.read_json("starts.json")["test"]
    own = {name: values[np.array(test)] for name, values in table.properties.items()}
    error, persistence = (np.sqrt(np.nanmean(own[name][:, 1] ** 2)) for name in ("error", "persistence"))
    assert error / persistence < 0.68  # .27 of the whole example, with ten times as many frames, twice the edge
    assert np.nanmedian(np.abs(own["length"][:, 1] / own["true_length"][:, 1] - 1)) < 0.1
    assert np.nanmedian(np.abs(own["fraction"][:, 1] - own["true_fraction"][:, 1])) < 0.02
    assert np.nanmax(np.abs(own["mass"])) < 1e-6
    assert (own["misfit"][:, 0] <= 1).mean() > 0.8
    drawing = figures.errors(run)
    assert drawing is not None
    drawn = {line.get_label(): line.get_ydata() for line in drawing.figure.axes[0].lines}
    later = np.asarray(drawn["latent dynamics"])[1:]
    assert (later < np.asarray(drawn["persistence"])[1:]).all()
