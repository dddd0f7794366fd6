"""The VAE: every kind of structure through it, its numpy surface, files, and exact resume."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msvae import Architecture, DataError, MsvaeError, Quantity, RunError, Structures
from msvae.campaigns.launch import launch
from msvae.plugins import registry
from msvae.plugins.conformance import example_structures
from msvae.structures import KINDS, Kind
from msvae.study.settings import Condition, ModelSettings, StructureHeadSettings, TrainingSettings
from msvae.vae.blueprint import Blueprint, component_values
from msvae.vae.files import load_model, load_tensors, save_model
from msvae.vae.fitting.heads import refit_heads
from msvae.vae.fitting.history import loss_of
from msvae.vae.fitting.objective import batch_of, terms
from msvae.vae.fitting.parallel import Share
from msvae.vae.fitting.training import Trainer, fit, split
from msvae.vae.model import VAE
from msvae.vae.structure_head import StructureHead, fit_structure_head

SETTINGS = TrainingSettings(epochs=8, batch_size=8, learning_rate=5e-3, checkpoint_minutes=0)


def labelled(kind: Kind, dimensions: int, n: int = 24) -> Structures:
    structures = example_structures(kind, dimensions, n)
    mean = structures.values.reshape(n, -1)[:, ::2].mean(axis=1)
    known = {"p": np.stack([mean, mean**2], axis=1), "c": mean}
    return structures.with_properties(known, [Quantity("p", "Pa", (2,)), Quantity("c")])


def architecture(kind: Kind = "composition") -> Architecture:
    return registry().find(Architecture, "perceptron" if kind == "composition" else "convolutional")()


def vae_for(structures: Structures, **settings: Any) -> VAE:
    torch.manual_seed(0)
    chosen = ModelSettings(latents=3, features=16, heads=("p",), **settings)
    return VAE(Blueprint.of(structures, chosen, architecture(structures.specification.kind)))


def every_case() -> list[tuple[Kind, int]]:
    return [(kind, d) for kind in KINDS for d in ((0,) if kind == "composition" else (2, 3))]


@pytest.mark.parametrize(("kind", "dimensions"), every_case())
@pytest.mark.parametrize("conditions", [(), (Condition("c"),)], ids=["plain", "conditional"])
def test_gradients_reach_every_parameter_of_every_composition(kind: Kind, dimensions: int, conditions: Any) -> None:
    structures = labelled(kind, dimensions)
    vae = vae_for(structures, conditions=conditions)
    vae.fit_scales(structures)
    parts = terms(vae, batch_of(vae, structures), Share(torch.Generator().manual_seed(0)))
    loss_of(parts, ModelSettings()).backward()
    dead = [name for name, p in vae.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not dead


@pytest.mark.parametrize(("kind", "dimensions"), every_case())
def test_training_improves_and_the_model_survives_its_files(kind: Kind, dimensions: int, tmp_path: Path) -> None:
    structures = labelled(kind, dimensions)
    vae = vae_for(structures)
    history = fit(vae, structures, SETTINGS, seed=1)
    first, last = (
        sum(row[name] for name in ("reconstruction", "divergence", "head p")) for row in history[:: len(history) - 1]
    )
    assert last < first
    vae.save(tmp_path / "model.safetensors")
    again = VAE.load(tmp_path / "model.safetensors")
    assert again.blueprint == vae.blueprint
    latents = again.encode(structures)
    np.testing.assert_array_equal(latents, vae.encode(structures))
    assert again.decode(latents).ids == vae.decode(latents).ids
    assert again.predict(latents)["p"].shape == (24, 2)
    assert len(again.sample(2, seed=5)) == 2
    assert again.decode(np.zeros((0, 3))).values.shape[0] == 0


def test_a_structure_decodes_the_same_alone_and_in_a_batch() -> None:
    vae = vae_for(labelled("phases", 2)).eval()
    latents = np.random.default_rng(0).standard_normal((5, 3))
    assert vae.decode(latents).ids[3] == vae.decode(latents[3:4]).ids[0]


def test_training_that_is_interrupted_and_resumed_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    structures = labelled("phases", 2)
    whole = vae_for(structures)
    fit(whole, structures, SETTINGS, seed=1)
    checkpoint = tmp_path / "checkpoint.safetensors"

    class KilledError(Exception):
        pass

    def kill(done: int, total: int, text: str) -> None:
        if done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit(vae_for(structures), structures, SETTINGS, seed=1, checkpoint=checkpoint, report=kill)
    resumed = vae_for(structures)
    history = fit(resumed, structures, SETTINGS, seed=1, checkpoint=checkpoint)
    assert len(history) == SETTINGS.epochs
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_training_that_is_killed_within_an_epoch_goes_on_bit_for_bit(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    """A process that a signal kills after five of the second epoch's steps; checkpoints after every step."""
    study = study_file("train")
    study.write_text(study.read_text().replace("batch_size = 8", "batch_size = 3\ncheckpoint_minutes = 0.0"))
    launch(study, tmp_path / "whole")
    killer = """
import os, signal, sys
from pathlib import Path
from msvae.campaigns.launch import launch
from msvae.vae.fitting import training
save, count = training.save_tensors, 0
def saving(*given):
    global count
    save(*given)
    count += 1
    if count == 12:
        os.kill(os.getpid(), signal.SIGKILL)
training.save_tensors = saving
launch(Path(sys.argv[1]), Path(sys.argv[2]))
"""
    command = [sys.executable, "-c", killer, str(study), str(tmp_path / "killed")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    tensors, plain = load_tensors(tmp_path / "killed" / "checkpoint.safetensors")
    assert 0 < plain["step"] < 7
    assert "noise" in tensors
    launch(study, tmp_path / "killed", resume=True)
    weights = [load_tensors(tmp_path / name / "model.safetensors")[0] for name in ("whole", "killed")]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_unknown_properties_add_nothing_to_the_objective() -> None:
    structures = labelled("phases", 2)
    vae = vae_for(structures)
    vae.fit_scales(structures)
    batch = batch_of(vae, structures)
    batch.properties["p"][:12] = torch.nan
    batch.properties["p"][12:, 0] = torch.nan
    parts = terms(vae, batch, Share(torch.Generator().manual_seed(0)))
    loss_of(parts, ModelSettings()).backward()
    assert torch.isfinite(parts["head p"])
    assert all(torch.isfinite(p.grad).all() for p in vae.parameters() if p.grad is not None)
    batch.properties["p"][:] = torch.nan
    assert terms(vae, batch, Share(torch.Generator().manual_seed(0)))["head p"] == 0


def test_a_split_keeps_groups_together_and_depends_only_on_the_seed() -> None:
    structures = labelled("phases", 2)
    grouped = Structures(structures.values, structures.specification, groups=np.arange(24) // 6)
    train, aside = split(grouped, 0.25, seed=0)
    assert sorted([*train, *aside]) == list(range(24))
    assert not set(train // 6) & set(aside // 6)
    np.testing.assert_array_equal(split(grouped, 0.25, seed=0)[0], train)
    assert len(split(structures, 5, seed=0)[1]) == 5
    for held_back in (24, 0.99):
        with pytest.raises(DataError, match=r"but there are 6 structures|leaves nothing"):
            split(grouped[:6], held_back, seed=0)


def test_heads_learn_what_they_are_shown() -> None:
    structures = labelled("phases", 2)
    vae = vae_for(structures)
    vae.fit_scales(structures)
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((64, 3))
    true = np.stack([latents[:, 0], latents[:, 1]], axis=1) * structures.properties["p"].std() + 0.5
    refit_heads(vae, latents, {"p": true}, seed=0, steps=600)
    error = np.abs(vae.predict(latents)["p"] - true).mean()
    assert error < 0.3 * true.std()


def test_the_structure_head_is_invariant_under_its_declared_flips() -> None:
    structures = labelled("field", 2, 32)
    settings = StructureHeadSettings(properties=("c",), epochs=30, batch_size=16, flips=(0, 1), contrast=50.0)
    torch.manual_seed(0)
    head = StructureHead(structures.specification, (structures.quantity("c"),), settings, architecture("field"))
    fit_structure_head(head, structures, seed=0)
    flipped = Structures(structures.values[:, :, ::-1, ::-1], structures.specification)
    predicted = head.predict(structures)["c"]
    np.testing.assert_allclose(predicted, head.predict(flipped)["c"], rtol=1e-4)
    assert np.corrcoef(predicted, structures.properties["c"])[0, 1] > 0.8
    for wrong, says in (({"flips": (2,)}, "flips"), ({}, "contrast")):
        kind: Kind = "field" if wrong else "phases"
        bad = StructureHeadSettings(properties=("c",), contrast=None if wrong else 2.0, **wrong)
        with pytest.raises(MsvaeError, match=says):
            StructureHead(labelled(kind, 2).specification, (Quantity("c"),), bad, architecture("field"))


def test_what_does_not_fit_the_model_is_refused() -> None:
    structures = labelled("phases", 2)
    vae = vae_for(structures, conditions=(Condition("c"),))
    with pytest.raises(DataError, match="trained on"):
        vae.encode(labelled("field", 2))
    with pytest.raises(DataError, match=r"shape \(n, 3\)"):
        vae.decode(np.zeros((2, 4)), np.zeros((2, 1)))
    with pytest.raises(DataError, match="conditions"):
        vae.decode(np.zeros((2, 3)))
    with pytest.raises(MsvaeError, match="no property 'q'"):
        Blueprint.of(structures, ModelSettings(heads=("q",)), architecture("phases"))
    with pytest.raises(MsvaeError, match="takes structures of kind"):
        Blueprint.of(example_structures("composition", 0, 2), ModelSettings(), architecture("phases"))
    with pytest.raises(MsvaeError, match="component"):
        component_values(structures.properties, Condition("p", (2,)))


def test_damaged_model_files_are_refused(tmp_path: Path) -> None:
    vae = vae_for(labelled("phases", 2))
    path = tmp_path / "model.safetensors"
    save_model(vae, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"model\.safetensors"):
        load_model(path)
    path.write_bytes(whole)
    path.with_suffix(".toml").write_text("nonsense = [")
    with pytest.raises(RunError, match=r"model\.toml"):
        load_model(path)
    other = vae_for(labelled("phases", 3))
    save_model(other, tmp_path / "other.safetensors")
    save_model(vae, path)
    path.write_bytes((tmp_path / "other.safetensors").read_bytes())
    with pytest.raises(RunError, match="another model"):
        load_model(path)


def test_training_that_diverges_says_so() -> None:
    structures = labelled("field", 2)
    vae = vae_for(structures)
    vae.fit_scales(structures)
    with torch.no_grad():
        next(vae.decoder.parameters()).fill_(torch.nan)
    with pytest.raises((MsvaeError, ValueError), match=r"diverged|nan"):
        Trainer(vae, SETTINGS, 0).epoch(batch_of(vae, structures))


def test_no_structures_have_no_latents() -> None:
    structures = labelled("phases", 2)
    vae = vae_for(structures).eval()
    assert vae.encode(structures[:0]).shape == (0, 3)
    assert vae.draw(structures[:0], 0).shape == (0, 3)
