"""The card of a model: its figures are those of the saved model, and its verdict is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from msvae import Run
from msvae.campaigns.launch import launch
from msvae.campaigns.train.predictions import Line
from msvae.campaigns.train.verdict import verdict
from msvae.metrics.distances import coverage, novelty
from msvae.structures.splits import split_of
from msvae.vae.fitting.objective import batch_of
from msvae.vae.fitting.training import held_back_terms

STUDY = """
campaign = "train"
seed = 1
[dataset]
name = "simulated"
count = 120
shape = [12, 12]
length = [5e-6, 5e-6]
[architecture]
name = "perceptron"
width = 64
[model]
latents = 8
[training]
epochs = 12
batch_size = 16
"""


def trained(folder: Path, *overrides: str) -> Run:
    study = folder / "study.toml"
    study.write_text(STUDY)
    launch(study, folder / "run", overrides=overrides)
    return Run.open(folder / "run")


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.patience=0"],
        ["training.weights=last"],
        ["training.patience=0", "training.epochs=40", "dataset.count=40"],
        ["model.free_bits=0.2"],
        ["model.beta=3.0", "training.warm_up=6"],
        ["dataset.shape=[6, 6, 6]"],
    ],
)
def test_every_loss_of_a_card_is_that_of_the_saved_model(tmp_path: Path, overrides: Sequence[str]) -> None:
    run = trained(tmp_path, *overrides)
    card = {line["what"]: line for line in run.read_json("model_card.json")}
    sides = split_of(run.structures, run.study.training.held_back, run.study.seed, gap=run.study.training.gap)
    terms = {}
    for side in ("train", "held_out"):
        batch = batch_of(run.model, run.structures[getattr(sides, side)])
        terms[side] = held_back_terms(run.model, batch, run.study.seed)
    for name in ("reconstruction", "divergence"):
        line = card[f"{name} (nats), held back"]
        assert line["model"] == terms["held_out"][f"held back {name}"]
        assert line["floor"] == terms["train"][f"held back {name}"]
    elbo = -sum(terms["held_out"][f"held back {name}"] for name in ("reconstruction", "divergence"))
    assert card["ELBO (nats), held back"]["model"] == elbo
    if "training.weights=last" not in overrides:
        least = card["loss (nats), held back, at its least"]["model"]
        assert card["loss (nats), held back"]["model"] == pytest.approx(least, rel=1e-6)
    known = run.structures[sides.held_out]
    again = run.model.decode(run.model.moments(known)[0])
    equal = float((again.values == known.values).mean())
    assert card["reconstruction: equal sites"]["model"] == equal


GOOD = ["dataset.count=300", "training.epochs=25"]
OVERFITTED = ["dataset.count=40", "training.epochs=150", "training.patience=0", "training.weights=last"]
LONG = ["training.epochs=60", "training.warm_up=0", "training.learning_rate=0.005"]
COLLAPSED = ["model.beta=300.0", *LONG]
EMPTY = [
    "dataset.volume_fraction=[0.03, 0.05]",
    "dataset.length=[2e-6, 2e-6]",
    "model.beta=5.0",
    "model.likelihood=categorical",
    *LONG,
]


def test_a_model_below_pca_is_told_so_loudly() -> None:
    """By its error, not by its score: of structures that are nearly all of one phase every score is near 1."""
    lines = [
        Line("latents in use", "8 of 8"),
        Line("divergence (nats), held back", 30.0),
        Line("reconstruction: equal sites", 0.9919, 0.996),
        Line("reconstruction: intersection over union", 0.6, 0.7),
        Line("loss (nats), held back", 100.0),
        Line("loss (nats), held back, at its least", 100.0),
        Line("reconstruction (nats), held back", 70.0, floor=69.0),
    ]
    assert "BELOW PCA of as many latents: equal sites 0.9919 against 0.996" in verdict(lines)
    assert "BELOW" not in verdict([line if line.pca is None else Line(line.what, line.model, 0.99) for line in lines])


def test_sets_that_do_not_vary_have_distances() -> None:
    nothing = np.zeros((20, 3))
    assert coverage(nothing, nothing) == 1
    assert novelty(nothing, nothing, nothing)[0] == 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (GOOD, "Usable for: encoding and decoding structures"),
        (OVERFITTED, "overfitted: its held-out loss is"),
        (COLLAPSED, "the posterior has collapsed"),
        (EMPTY, "come back EMPTY"),
    ],
    ids=["good", "overfitted", "collapsed", "empty"],
)
def test_the_verdict_on_a_model(tmp_path: Path, overrides: Sequence[str], says: str) -> None:
    run = trained(tmp_path, *overrides)
    said = run.read_json("verdict.json")
    assert run.read_json("summary.json")["heading"] == said
    assert says in said
    if overrides is not GOOD:
        assert "NOT usable for" in said
        assert overrides is OVERFITTED or "encoding" not in said.partition("NOT usable")[0]
        assert "To change that: " in said


def test_occupations_of_several_sites_have_a_card(tmp_path: Path) -> None:
    """They are no images of phases: no overlap and no surfaces, but fractions and correlations of the species."""
    study = tmp_path / "study.toml"
    study.write_text(
        'campaign = "train"\n[dataset]\nname = "solid-solution"\ncount = 60\nshape = [4, 4, 4]\n'
        '[architecture]\nname = "perceptron"\nwidth = 16\n[model]\nlatents = 3\nfeatures = 16\n[training]\nepochs = 2\n'
    )
    table = launch(study, tmp_path / "run")
    assert table is not None
    rows = {row[0]: row[1] for row in table.rows}
    assert 0 < float(rows["reconstruction: equal sites"]) <= 1
    assert "generated: coverage" in rows
    assert not any("surface" in what for what in rows)
