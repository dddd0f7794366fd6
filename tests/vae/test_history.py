"""Which epoch's weights are kept: those whose held-out structures lose least, whatever kills the training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from msvae import Architecture, Quantity, Run, Structures
from msvae.campaigns.launch import launch
from msvae.plugins import registry
from msvae.plugins.conformance import example_structures
from msvae.report.figures import training_curves
from msvae.run.status import status_of
from msvae.study.settings import ModelSettings, TrainingSettings
from msvae.vae.blueprint import Blueprint
from msvae.vae.fitting.history import History, held_back_losses, is_over, kept_epoch, loss_of
from msvae.vae.fitting.objective import batch_of
from msvae.vae.fitting.training import fit, held_back_terms, split
from msvae.vae.model import VAE

OVERFITTED = TrainingSettings(epochs=40, batch_size=4, learning_rate=2e-2, held_back=8, checkpoint_minutes=0)


def structures() -> Structures:
    found = example_structures("field", 2, 24)
    return found.with_properties({"c": found.values.mean(axis=(1, 2, 3))}, [Quantity("c")])


def model(beta: float = 1.0) -> VAE:
    torch.manual_seed(0)
    settings = ModelSettings(latents=4, features=16, heads=("c",), beta=beta)
    return VAE(Blueprint.of(structures(), settings, registry().find(Architecture, "perceptron")(width=32)))


def rows(*values: tuple[float, float]) -> History:
    return [{"held back reconstruction": a, "held back divergence": b, "held back head p": 1.0} for a, b in values]


def test_epochs_of_the_warm_up_are_compared_at_the_final_weight_of_the_divergence() -> None:
    """The second epoch, trained at a small weight, reconstructs best and diverges most."""
    history = rows((10.0, 4.0), (3.0, 9.0), (6.0, 5.0), (7.0, 4.5))
    settings = ModelSettings(beta=1.0, head_weight=2.0)
    assert held_back_losses(history, settings) == [16.0, 14.0, 13.0, 13.5]
    assert kept_epoch(history, settings, TrainingSettings(warm_up=2)) == 2
    assert kept_epoch(history, replace(settings, beta=0.1), TrainingSettings(warm_up=2)) == 1
    assert kept_epoch(history, settings, TrainingSettings(weights="last")) == 3
    assert kept_epoch(rows((float("nan"), 0.0), (1.0, 1.0), (1.0, 1.0)), settings, TrainingSettings()) == 1


def test_training_ends_where_nothing_is_gained_but_not_within_the_warm_up() -> None:
    history, settings = rows((1.0, 1.0), *[(2.0, 1.0)] * 10), ModelSettings()
    assert is_over(history, settings, TrainingSettings(epochs=50))
    assert not is_over(history[:10], settings, TrainingSettings(epochs=50))
    assert not is_over(history, settings, TrainingSettings(epochs=50, warm_up=5))
    assert not is_over(history, settings, TrainingSettings(epochs=100))
    assert not is_over(history, settings, TrainingSettings(epochs=50, patience=0))
    assert is_over(history, settings, TrainingSettings(epochs=11, patience=0))
    assert is_over(history[:4], settings, TrainingSettings(patience=3))


@pytest.mark.parametrize("weights", ["best", "last"])
def test_the_weights_kept_are_those_of_the_epoch_that_the_history_names(weights: str) -> None:
    vae, data = model(), structures()
    settings = replace(OVERFITTED, weights=weights)  # type: ignore[arg-type]
    history = fit(vae, data, settings, seed=1)
    kept = kept_epoch(history, vae.blueprint.settings, settings)
    losses = held_back_losses(history, vae.blueprint.settings)
    assert len(history) < settings.epochs
    assert (losses[kept] == min(losses)) == (weights == "best")
    assert losses[-1] > min(losses)
    again = held_back_terms(vae, batch_of(vae, data[split(data, 8, 1)[1]]), 1)
    for name, value in again.items():
        assert value == pytest.approx(history[kept][name], rel=1e-5), name


def test_a_training_killed_after_its_best_epoch_keeps_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    whole, data = model(), structures()
    history = fit(whole, data, OVERFITTED, seed=1)
    best = kept_epoch(history, whole.blueprint.settings, OVERFITTED) + 1
    assert best < len(history) - 1

    class KilledError(Exception):
        pass

    def kill(done: int, total: int, text: str) -> None:
        assert f"best epoch {min(done, best)}" in text or done < best
        if done == best + 1:
            raise KilledError

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KilledError):
        fit(model(), data, OVERFITTED, seed=1, checkpoint=checkpoint, report=kill)
    resumed = model()
    assert fit(resumed, data, OVERFITTED, seed=1, checkpoint=checkpoint) == history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_card_status_log_and_figure_say_which_epoch_was_kept(study_file: Callable[..., Path], tmp_path: Path) -> None:
    table = launch(
        study_file("train"), tmp_path / "run", overrides=["training.epochs=6", "training.learning_rate=0.05"]
    )
    assert table is not None
    run = Run.open(tmp_path / "run")
    history = run.read_json("training.json")
    kept = kept_epoch(history, run.study.model, run.study.training) + 1
    said = {row[0]: row[1] for row in table.rows}
    assert said["training: epoch of the kept weights"] == f"{kept} of {len(history)}"
    losses = held_back_losses(history, run.study.model)
    assert float(said["loss (nats), held back"]) == pytest.approx(min(losses), rel=1e-3)
    assert float(said["loss (nats), held back, at the end of training"]) == pytest.approx(losses[-1], rel=1e-3)
    assert status_of(tmp_path / "run")["kept_epoch"] == kept
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    noted = next(line for line in lines if line["event"] == "trained")
    assert (noted["kept_epoch"], noted["epochs"]) == (kept, len(history))
    drawing = training_curves(run)
    assert drawing is not None
    for axis in drawing.figure.axes:
        assert any(list(line.get_xdata()) == [kept, kept] for line in axis.get_lines())
        assert f"kept: epoch {kept}" in [text.get_text() for text in axis.get_legend().get_texts()]  # type: ignore[union-attr]


def test_terms_that_have_no_weight_do_not_count() -> None:
    """The free bits, and whatever another version has written."""
    row = {"reconstruction": 2.0, "divergence": 3.0, "head a": 1.0, "head b": 4.0, "free bits": 9.0, "of old": 7.0}
    model = ModelSettings(beta=0.5, head_weight=2.0)
    assert loss_of(row, model) == 2.0 + 1.5 + 2.0 * 5.0
    assert loss_of(row, model, beta=0.0) == 2.0 + 2.0 * 5.0
    held_out = {f"held back {name}": value for name, value in row.items()}
    assert held_back_losses([held_out], model) == [13.5]
