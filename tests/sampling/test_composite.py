"""Composite search and its guards: it reaches what random samples do not, inside of what can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from msvae import VAE, Architecture, Dataset, Structures, TargetError, load_solver
from msvae.sampling.composite import CompositeSearch, Known
from msvae.sampling.guards import Bounds, Guards
from msvae.settings import Component, ModelSettings, TrainingSettings
from msvae.study import load_plugin
from msvae.study_source import Source
from msvae.vae.blueprint import Blueprint
from msvae.vae.training import fit

TARGETS = [Component("conductivity", (0, 0)), Component("conductivity", (1, 1))]
GOAL = (7.0, 3.5)
SOLVER = load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 20.0}])


@pytest.fixture(scope="module")
def structures() -> Structures:
    settings = {"count": 400, "shape": [16, 16], "length": [5e-6, 5e-6], "anisotropy": [1.0, 3.0]}
    return load_plugin(Dataset, {"name": "simulated", **settings}, Source("test", "")).load(0)


@pytest.fixture(scope="module")
def vae(structures: Structures) -> VAE:
    torch.manual_seed(0)
    architecture = load_plugin(Architecture, {"name": "perceptron", "width": 64}, Source("test", ""))
    model = VAE(Blueprint.of(structures, ModelSettings(latents=8), architecture))
    fit(model, structures, TrainingSettings(epochs=15), seed=0)
    model.eval().fit_aggregate(structures, seed=0)
    return model


def distance(properties: Mapping[str, Any]) -> Any:
    k = np.asarray(properties["conductivity"])
    return np.sqrt((k[:, 0, 0] / GOAL[0] - 1) ** 2 + (k[:, 1, 1] / GOAL[1] - 1) ** 2)


def searched(search: CompositeSearch, vae: VAE, calls: int, batch: int = 4) -> Any:
    found: list[Any] = []
    for _ in range(calls // batch):
        latents = search.ask(batch)
        properties = SOLVER.evaluate(vae.decode(latents))
        found.append(distance(properties))
        search.tell(latents, found[-1], properties)
    return np.concatenate(found)


def test_it_comes_nearer_in_forty_calls_than_four_hundred_random_samples(vae: VAE, structures: Structures) -> None:
    guards = Guards.of(vae, structures)
    found = [searched(CompositeSearch(vae, TARGETS, distance, seed=k, allowed=guards.accept), vae, 40) for k in (0, 1)]
    random = distance(SOLVER.evaluate(vae.sample(400, 5)))
    assert np.median([f.min() for f in found]) < random.min()
    assert np.median([f.min() for f in found]) < 0.2 * np.median([random[k : k + 40].min() for k in range(0, 400, 40)])


def test_it_asks_the_same_again_and_accounts_for_what_is_pending(vae: VAE) -> None:
    first, second = (CompositeSearch(vae, TARGETS, distance, seed=3) for _ in range(2))
    a, b = searched(first, vae, 24), searched(second, vae, 24)
    np.testing.assert_array_equal(a, b)
    one, two = first.ask(1), first.ask(1)  # nothing was told of the first
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(second.ask(1), one)


def test_what_is_known_is_used_at_once(vae: VAE, structures: Structures) -> None:
    properties = SOLVER.evaluate(structures)
    known = Known(vae.encode(structures), structures, dict(properties))
    warm = searched(CompositeSearch(vae, TARGETS, distance, seed=0, known=known), vae, 8)
    cold = searched(CompositeSearch(vae, TARGETS, distance, seed=0), vae, 8)
    assert np.median(warm) < 0.5 * np.median(cold)


def test_it_learns_where_the_solver_fails(vae: VAE) -> None:
    """A third of the structures has no answer: those with the largest fraction of phase 1."""
    limit = np.quantile(vae.sample(300, 9).fractions[:, 1], 0.67)
    search = CompositeSearch(vae, TARGETS, distance, seed=0)
    failed, distances = [], []
    for _ in range(12):
        latents = search.ask(4)
        structures = vae.decode(latents)
        bad = structures.fractions[:, 1] > limit
        k = np.where(bad[:, None, None], np.nan, SOLVER.evaluate(structures)["conductivity"])
        failed.append(bad)
        distances.append(distance({"conductivity": k}))
        search.tell(latents, distances[-1], {"conductivity": k})
    assert np.concatenate(failed[:4]).mean() > 0.1
    assert np.concatenate(failed[6:]).mean() < 0.1
    assert np.isfinite(np.nanmin(distances))


def test_constraints_that_nothing_meets_are_said(vae: VAE) -> None:
    with pytest.raises(TargetError, match="loosen the constraints"):
        CompositeSearch(vae, TARGETS, distance, seed=0, allowed=lambda z, s: np.zeros(len(z), dtype=bool))


def test_guards_accept_what_the_model_was_trained_on_and_refuse_the_trap(vae: VAE, structures: Structures) -> None:
    """The trap: latents far outside decode to blocks of one phase, which score best where fractions are not watched."""
    guards = Guards.of(vae, structures)
    held = vae.decode(vae.encode(structures))
    assert guards.accept(vae.encode(structures), held).mean() > 0.97
    assert guards.accept(vae.sample_latents(300, 4), vae.sample(300, 4)).mean() > 0.6
    far = 2.5 * vae.sample_latents(300, 6)
    judged = guards.judge(far, vae.decode(far))
    assert (judged["typicality"] > 0).mean() > 0.95
    assert guards.accept(far, vae.decode(far)).mean() < 0.02


def test_bounds_hold_for_the_solver_and_not_for_what_is_above_them(structures: Structures) -> None:
    pure = Structures.from_labels(np.arange(2).reshape(2, 1, 1) * np.ones((1, 2, 2), dtype=int), 1e-6, phases=2)
    bounds = Bounds.of(SOLVER.evaluate(pure))
    true = SOLVER.evaluate(structures)["conductivity"]
    assert (bounds.excess(structures, {"conductivity": true}) == 0).all()
    voigt = (structures.fractions @ [1.0, 20.0])[:, None, None] * np.eye(2)
    assert (bounds.excess(structures, {"conductivity": 1.05 * voigt}) > 0).all()
    assert (bounds.excess(structures, {"conductivity": 0.2 * true}) > 0).mean() > 0.9
    assert (bounds.excess(structures, {"conductivity": np.full_like(true, np.nan)}) == 0).all()
    assert Bounds.of({"energy": np.zeros((2, 3))}).phases == {}
