"""The example of alloys, reduced: classes of unseen alloys are found, and the pool is near known ones."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from msvae import Run
from msvae.campaigns.launch import launch

STUDY = Path(__file__).parents[2] / "examples" / "high-entropy-alloys" / "study.toml"


def test_classes_of_held_out_alloys_are_found_and_likely_alloys_are_near_known_ones(data: Path, tmp_path: Path) -> None:
    small = ["training.epochs=25", "training.held_back=0.2", "training.weights='last'", "screen.count=20000",
             "screen.workflows=['candidates', 'inversion']"]  # fmt: skip
    launch(STUDY, tmp_path / "run", overrides=[f"dataset.path='{data / 'hea' / 'alloys.csv'}'", *small])
    run = Run.open(tmp_path / "run")
    from msvae.structures.splits import split_of

    held_out = run.structures[split_of(run.structures, 0.2, run.study.seed).held_out]
    chance = run.model.guess_conditions(held_out)["Class"][:, 1]
    assert roc_auc_score(held_out.properties["Class"], chance) > 0.88  # .915 in the source, of a whole training
    with open(tmp_path / "run" / "pool.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 50
    assert max(float(row["distance to known (at.%)"]) for row in rows) < 14
    share = np.nanmean(run.structures.properties["Class"])  # of single-phase alloys in the table
    assert np.median([float(row["probability"]) for row in rows]) > share + 0.1
