"""The example of inverse problems, reduced: every start finds the bar's direction, and tomography two discs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from msvae import Run
from msvae.campaigns.launch import launch
from msvae_inversion.phantoms import angle_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "manifold-inversion"


def test_all_starts_find_the_direction_of_the_bar(tmp_path: Path) -> None:
    small = ["dataset.count=120", "dataset.size=32", "forward.width=4.0", "charts.components=16", "charts.width=32",
             "charts.epochs=150", "invert.controls=[]"]  # fmt: skip
    launch(EXAMPLE / "bar.toml", tmp_path / "run", overrides=small)
    found = Run.open(tmp_path / "run").store("descend").load()
    angles = np.array([angle_of(image) for image in found.properties["image"]])
    error = np.abs((angles + math.pi / 2) % math.pi - math.pi / 2)
    assert len(error) == 9
    assert (error < math.radians(4)).all()  # within 2 degrees with 128 x 128 pixels


def test_tomography_finds_images_that_explain_the_data_better_than_what_it_starts_from(tmp_path: Path) -> None:
    small = ["dataset.count=120", "dataset.size=24", "charts.count=2", "charts.components=30", "charts.width=32",
             "charts.epochs=40", "invert.controls=[]", "invert.count=2", "invert.candidates=16", "invert.steps=15",
             "invert.starts=2", "invert.metric='images'", "charts.dimensions=8",
             "forward.cells=[8, 12]", "forward.sensors=32", "invert.model_errors=8", "invert.samples=10"]  # fmt: skip
    launch(EXAMPLE / "discs.toml", tmp_path / "run", overrides=small)
    values = Run.open(tmp_path / "run").store("descend").load().properties["values"]
    assert values.shape == (4, 16)
    assert (np.nanmin(values, axis=1) < 0.7 * values[:, 0]).all()


@pytest.mark.slow
def test_a_prior_sees_pores_of_sandstone_better_than_tikhonovs_penalty(data: Path, tmp_path: Path) -> None:
    small = [f"dataset.path='{data / 'berea' / 'berea.tif'}'", "dataset.region=[[0, 256], [0, 256]]", "invert.gap=960",
             "charts.dimensions=200", "charts.components=210", "invert.count=4", "invert.candidates=6",
             "invert.samples=60", "invert.model_errors=80", "invert.calibration=0", "invert.controls=['tikhonov']",
             "invert.weights=[10.0, 100.0]", "forward.cells=[12, 24]", "forward.sensors=32"]  # fmt: skip
    table = launch(EXAMPLE / "berea.toml", tmp_path / "run", overrides=small)
    mean = dict(zip(table.columns, table.rows[-1], strict=True))
    assert float(mean["of the posterior mean"]) > float(mean["of tikhonov"]) + 0.3  # 1.4 dB in the example
