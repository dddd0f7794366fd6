"""What trained models are worth on real and simulated data, judged by the real solvers; minutes each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from msvae import Architecture, Dataset, Run
from msvae.campaigns.launch import launch
from msvae.campaigns.model_card import PrincipalComponents
from msvae.plugins import registry
from msvae.settings import ModelSettings, TrainingSettings
from msvae.vae.model import VAE, Blueprint
from msvae.vae.training import fit, split

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.slow


def figures(run: Run) -> dict[str, dict[str, float]]:
    """Return the lines of a run's model card by name."""
    return {line["what"]: line for line in json.loads((run.path / "model_card.json").read_text())}


def mechanical_mnist(data: Path, folder: Path, *overrides: str) -> Run:
    study = shutil.copy(EXAMPLES / "mechanical-mnist" / "study.toml", folder)
    path = f"dataset.path='{data / 'mechanical_mnist'}'"
    launch(Path(study), folder / "run", overrides=[path, "training.held_back=1200", *overrides])
    return Run.open(folder / "run")


def test_generated_bitmaps_have_the_energy_that_was_asked_for(data: Path, tmp_path: Path) -> None:
    run = mechanical_mnist(data, tmp_path)
    asked = np.repeat([140, 145, 150, 155, 160, 165, 170, 175, 180, 185], 20)
    found = run.store("generated").load().properties["energy"][:, 3]
    assert np.median(np.abs(found - asked)) <= 7.6  # half a standard deviation of the data
    assert 1 - ((found - asked) ** 2).sum() / ((asked - asked.mean()) ** 2).sum() >= 0.8
    vae, solver = run.model, run.study.need_solver()
    latents = vae.sample_latents(4, 3, np.full((4, 1), 160.0))
    values = np.linspace(140, 185, 8)
    for z in latents:
        structures = vae.decode(np.repeat(z[None], 8, axis=0), values[:, None])
        assert spearmanr(values, solver.evaluate(structures)["energy"][:, 3]).statistic >= 0.9


@pytest.mark.parametrize("latents", [2, 8, 16])
def test_reconstructions_beat_principal_components(data: Path, tmp_path: Path, latents: int) -> None:
    overrides = ["campaign='train'", "model.conditions=[]", "model.heads=['energy']", f"model.latents={latents}",
                 "model.head_weight=20", "training.epochs=12", "structure_head.epochs=8",
                 "model.axes=[{property='energy', component=[12]}]"]  # fmt: skip
    found = figures(mechanical_mnist(data, tmp_path, *overrides))
    line = found["reconstruction: mean squared error"]
    assert line["model"] < line["pca"]
    for head in ("head on latents", "structure-space head"):
        assert 0.87 <= found[f"{head}: energy[12]: part within 90 % intervals"]["model"] <= 0.93
    if latents == 16:
        assert found["head on latents: energy[12]: mean absolute error"]["model"] <= 3.0
        assert found["latent flow: correlation of its axis with energy[12]"]["model"] >= 0.9
        assert found["latent flow: largest of another axis with energy[12]"]["model"] <= 0.15
        assert found["latent flow: error of its inverse"]["model"] <= 1e-5
        assert found["latent flow: held-out log-density over a normal distribution's (nats)"]["model"] > 0


def test_sparse_pores_are_not_decoded_to_nothing() -> None:
    settings = {"count": 1200, "shape": (32, 32, 32), "spacing": 1.0, "length": (12.0, 12.0),
                "volume_fraction": (0.088, 0.088)}  # fmt: skip
    structures = registry().find(Dataset, "simulated")(**settings).load(0)
    network = registry().find(Architecture, "convolutional")(size="tiny")
    vae = VAE(Blueprint.of(structures, ModelSettings(latents=16), network))
    training = TrainingSettings(epochs=5, batch_size=32, learning_rate=3e-3, held_back=200, precision="bfloat16")
    fit(vae, structures, training, seed=0)
    train, aside = split(structures, 200, 0)
    test = structures[aside]
    overlap = []
    for again in (vae.decode(vae.encode(test)), PrincipalComponents.of(structures[train], 16).reconstruct(test)):
        both, either = (
            (again.labels & test.labels).sum(axis=(1, 2, 3)),
            (again.labels | test.labels).sum(axis=(1, 2, 3)),
        )
        overlap.append((both / either).mean())
        if len(overlap) == 1:
            assert (again.labels.max(axis=(1, 2, 3)) == 0).mean() <= 0.02
    assert overlap[0] >= 0.45
    assert overlap[0] > overlap[1]
