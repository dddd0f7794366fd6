"""Grids of latents: structures of any size, hierarchies, and the texture that latents are sampled from."""

from __future__ import annotations

import dataclasses
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from msvae import Architecture, DataError, Dataset, Quantity, Structures, StudyError
from msvae.metrics.descriptors import describe
from msvae.plugins import registry
from msvae.study.numbers import Component
from msvae.study.settings import Condition, ModelSettings, TrainingSettings
from msvae.vae.blueprint import Blueprint
from msvae.vae.files import load_model, save_model
from msvae.vae.fitting.history import loss_of
from msvae.vae.fitting.objective import batch_of, importance_weighted_bound, terms
from msvae.vae.fitting.parallel import Share
from msvae.vae.fitting.training import Trainer, fit
from msvae.vae.model import VAE
from msvae.vae.spatial import Ladder, Texture


def simulated(n: int, shape: tuple[int, ...], length: float) -> Structures:
    dataset = registry().find(Dataset, "simulated")
    found = dataset(count=n, shape=shape, length=(length, length), spacing=1.0).load(0)
    return found.with_properties({"c": found.fractions[:, 1]}, [Quantity("c")])


def vae_for(structures: Structures, stride: int = 4, **settings: Any) -> VAE:
    torch.manual_seed(0)
    architecture = registry().find(Architecture, "fully-convolutional")(size="tiny", stride=stride)
    chosen = ModelSettings(**{"latents": 2, "features": 16, **settings})
    return VAE(Blueprint.of(structures, chosen, architecture))


@pytest.mark.parametrize("above", [0, 3])
@pytest.mark.parametrize("shape", [(16, 16), (8, 8, 16)])
def test_gradients_reach_every_parameter_and_the_bound_is_finite(above: int, shape: tuple[int, ...]) -> None:
    structures = simulated(16, shape, 4.0)
    vae = vae_for(structures, global_latents=above, conditions=(Condition("c"),), heads=("c",), free_bits=0.1)
    vae.fit_scales(structures)
    trainer = Trainer(vae, TrainingSettings(batch_size=8, learning_rate=1e-2), 0)
    for _ in range(2):
        trainer.epoch(batch_of(vae, structures))
    vae.zero_grad()
    parts = terms(vae, batch_of(vae, structures), Share(torch.Generator().manual_seed(0)))
    loss_of(parts, ModelSettings()).backward()
    assert [n for n, p in vae.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert torch.isfinite(importance_weighted_bound(vae.eval(), structures, 3, seed=0)).all()


def ladder(shift: float) -> Ladder:
    above = Normal(torch.full((1, 2), shift), torch.full((1, 2), 0.7))
    return Ladder(above, lambda z: Normal(z.sum(dim=-1, keepdim=True).expand(-1, 3) + shift, torch.full((1, 3), 0.5)))


def test_the_divergence_of_a_hierarchy_agrees_with_monte_carlo() -> None:
    q, p = ladder(0.3), ladder(0.0)
    torch.manual_seed(0)
    z = q.carried(torch.randn(200_000, 5))
    sampled = q.log_prob(z) - p.log_prob(z)
    assert sampled.mean() == pytest.approx(float(q.divergence(p, z[:1]).sum()), abs=0.02)
    by_sample = q.divergence(p, z).sum(dim=1)
    assert by_sample.mean() == pytest.approx(float(sampled.mean()), abs=0.02)


def test_a_texture_has_the_covariances_of_the_fields_it_was_fitted_to() -> None:
    """Smoothed noise on a periodic grid of 12 sites; sampled at 12 and at 30."""
    rng = np.random.default_rng(0)

    def fields(n: int, sites: int) -> np.ndarray:
        white = rng.standard_normal((n, 1, sites, sites))
        smooth = white + np.roll(white, 1, axis=2) + np.roll(white, 1, axis=3)
        return np.concatenate([2 + smooth, np.roll(white, 1, axis=2)], axis=1)

    def products(z: np.ndarray) -> np.ndarray:
        z = z - z.mean(axis=(0, 2, 3), keepdims=True)
        lags = ((0, 0), (1, 0), (-1, 0), (0, 1), (1, -1), (2, 2))
        pairs = product((0, 1), (0, 1), lags)
        return np.array([(z[:, a] * np.roll(z[:, b], lag, axis=(1, 2))).mean() for a, b, lag in pairs])

    texture = Texture(2, 0, (12, 12), (True, True), None)
    known = fields(2000, 12)
    texture.fit(known, np.zeros((2000, 0)))
    for sites in (12, 30):
        drawn = texture.sample(np.zeros((800, 0)), 0, (sites, sites))
        np.testing.assert_allclose(products(drawn), products(fields(800, sites)), atol=0.05)
        np.testing.assert_allclose(drawn.mean(axis=(0, 2, 3)), [2, 0], atol=0.05)
    fresh = fields(500, 12)
    normal = -0.5 * (fresh**2 + math.log(2 * math.pi)).sum(axis=(1, 2, 3)).mean()
    assert texture.log_prob(fresh, np.zeros((500, 0))).mean() > normal + 50


def test_decoding_follows_a_shift_of_the_latents_and_any_shape() -> None:
    structures = simulated(20, (16, 16), 4.0)
    vae = vae_for(structures)
    vae.fit_scales(structures)
    vae.eval()
    z = np.random.default_rng(0).standard_normal((1, vae.latents))
    shifted = np.roll(z.reshape(1, 2, 4, 4), 1, axis=3).reshape(1, -1)
    with torch.no_grad():
        a, b = (vae.reconstruct(torch.as_tensor(x).float(), torch.zeros(1, 0)).mean for x in (z, shifted))
    torch.testing.assert_close(torch.roll(a, 4, dims=3), b, atol=1e-5, rtol=0)
    large = vae.sample(2, 0, shape=(24, 40))
    assert large.specification.grid.shape == (24, 40)
    assert vae.encode(large).shape == (2, 2 * 6 * 10)
    with pytest.raises(DataError, match="multiple of its stride 4"):
        vae.sample(1, 0, shape=(18, 16))
    with pytest.raises(DataError, match=r"voxels, found \(16,\)"):
        vae.sample(1, 0, shape=(16,))


@pytest.mark.parametrize("above", [0, 3])
def test_files_keep_the_texture(above: int, tmp_path: Path) -> None:
    structures = simulated(40, (16, 16), 4.0)
    vae = vae_for(structures, global_latents=above, conditions=(Condition("c"),))
    fit(vae, structures, TrainingSettings(epochs=2, batch_size=10), seed=0)
    found = vae.fit_aggregate(structures, seed=0)
    assert "texture" in found.scores
    save_model(vae, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    asked = np.array([[0.4], [0.6]])
    assert again.sample(2, 1, asked, shape=(32, 16)).ids == vae.sample(2, 1, asked, shape=(32, 16)).ids
    interpolated = vae.interpolate(*vae.encode(structures[:2]), 5)
    assert vae.decode(interpolated, np.full((5, 1), 0.5)).values.shape == (5, 1, 16, 16)


def test_what_a_grid_of_latents_cannot_do_is_refused() -> None:
    structures = simulated(4, (16, 16), 4.0)
    for bad in ({"prior": "flow"}, {"posterior": "flow"}, {"axes": (Component("c"),)}):
        with pytest.raises(StudyError, match=f"model.{next(iter(bad))}"):
            vae_for(structures, **bad)
    with pytest.raises(StudyError, match="stride 16"):
        vae_for(simulated(4, (24, 24), 4.0), stride=16)
    plain = registry().find(Architecture, "convolutional")(size="tiny")
    with pytest.raises(StudyError, match="global_latents"):
        Blueprint.of(structures, ModelSettings(global_latents=2), plain)
    vae = VAE(Blueprint.of(structures, ModelSettings(latents=2), plain))
    with pytest.raises(DataError, match="fully-convolutional"):
        vae.sample(1, 0, shape=(32, 32))
    assert dataclasses.replace(ModelSettings(), global_latents=1).global_latents == 1


@pytest.mark.slow
def test_a_model_of_small_windows_makes_large_structures_of_the_same_statistics() -> None:
    """Trained on periodic windows of 32^2, sampled at 64 x 96; two-point correlation against simulated 64 x 96."""
    structures = simulated(3000, (32, 32), 6.0)
    vae = vae_for(structures, latents=8, global_latents=2)
    fit(vae, structures, TrainingSettings(epochs=20, batch_size=32, learning_rate=3e-3, held_back=300), seed=0)
    vae.fit_aggregate(structures[:2500], seed=0)
    large, true, other = (
        vae.sample(100, 0, shape=(64, 96)),
        simulated(200, (64, 96), 6.0),
        simulated(100, (64, 96), 6.0),
    )
    found, expected, floor = (describe(s)["two_point"].mean(axis=0) for s in (large, true[100:], other))
    error = [np.linalg.norm(s - expected) / np.linalg.norm(expected) for s in (found, floor)]
    assert error[0] <= 0.1
    wrapped = (large.labels[:, 0] != large.labels[:, -1]).mean()
    inside = (large.labels[:, 1:] != large.labels[:, :-1]).mean()
    assert wrapped <= 1.2 * inside
