"""The example of property axes, reduced: one stiffness follows its axis, and the other is held, by the solver."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from msvae import Run, Study
from msvae.campaigns.launch import launch
from msvae.report.page import write_report

FOLDER = Path(__file__).parents[2] / "examples" / "property-axes"


def test_one_stiffness_follows_its_axis_and_the_other_is_held(tmp_path: Path) -> None:
    small = ["dataset.count=300", "dataset.shape=[16, 16]", "training.epochs=15", "traverse.samples=300",
             "traverse.traversals=10", "traverse.steps=5", "traverse.corrections=2"]  # fmt: skip
    table = launch(FOLDER / "study.toml", tmp_path / "run", overrides=small)
    assert table is not None
    found = {(row[0], row[1]): [float(x) for x in row[2:]] for row in table.rows}
    for name in ("stiffness[0, 0]", "stiffness[1, 1]"):
        own, held, drift = found[name, "3 times"]
        alone = found[name, "once (axes alone)"]
        assert own > max(0.93, alone[0])
        assert held < 0.25  # of 50 structures: the standard error of a correlation of 0 is .14
        assert drift < max(0.3, alone[2])
    told = json.loads((tmp_path / "run" / "traversals.json").read_text())
    run = Run.open(tmp_path / "run")
    solved = np.concatenate([run.store(f"traversal-{k}").load().properties["stiffness"] for k in range(3)])
    for value in told["found"][::7]:  # what is told is what the solver found
        assert np.isclose(solved[:, [0, 1], [0, 1]], value, rtol=1e-6).all(axis=1).any()
    page = write_report(tmp_path / "run").read_text()
    assert "is moved, the others are held" in page
    assert {"traversal_0", "traversal_1"} <= {p.stem for p in (tmp_path / "run" / "figures").iterdir()}


def test_the_other_studies_are_valid() -> None:
    for name in ("berea", "electrode"):
        assert Study.load(FOLDER / f"{name}.toml").campaign.name == "traverse"
