"""Plain candidates for fast solvers: how many, from where, and that they come nearer than random samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from msvae import VAE, Architecture, Structures
from msvae.sampling.search.effort import Effort, rounded
from msvae.sampling.search.problem import Known
from msvae.sampling.search.searchers.composite import CompositeSearch
from msvae.sampling.search.searchers.plain import PlainSearch
from msvae.sampling.search.searchers.random import RandomSearch
from msvae.study import load_plugin
from msvae.study.numbers import Component
from msvae.study.settings import ModelSettings
from msvae.study.source import Source
from msvae.vae.blueprint import Blueprint

TARGETS = [Component("sums", (0,)), Component("sums", (1,))]
GOAL = np.array([6.0, -4.0])


@pytest.fixture(scope="module")
def vae() -> VAE:
    """A model without training: the property is one of its latents."""
    torch.manual_seed(0)
    labels = np.random.default_rng(0).integers(0, 2, (40, 6, 6))
    structures = Structures.from_labels(labels, 1e-6, phases=2)
    architecture = load_plugin(Architecture, {"name": "perceptron", "width": 8}, Source("test", ""))
    return VAE(Blueprint.of(structures, ModelSettings(latents=6), architecture)).eval()


def solve(latents: Any) -> dict[str, Any]:
    sums = np.stack([latents.sum(axis=1), latents[:, 0] - 2 * latents[:, 1]], axis=1)
    return {"sums": sums + 0.3 * np.sin(3 * latents[:, 2:4])}


def distance(properties: Mapping[str, Any]) -> Any:
    return np.abs(np.asarray(properties["sums"]) - GOAL).max(axis=1)


def searched(search: Any, rounds: int) -> tuple[Any, Any]:
    asked, found = [], []
    for _ in range(rounds):
        latents = search.ask(1)
        properties = solve(latents)
        found.append(distance(properties))
        search.tell(latents, found[-1], properties)
        asked.append(latents)
    return np.concatenate(asked), np.concatenate(found)


def test_fast_solvers_get_plain_candidates_and_dear_ones_more_thought() -> None:
    assert [Effort(s).plain for s in (1e-6, 1e-3, 0.01, 0.1, 0.3, 100.0)] == [300, 300, 30, 3, 0, 0]
    cube = Structures.from_labels(np.zeros((1, 16, 16, 16), dtype=int), 1e-6, phases=3).specification
    assert Effort(0.001).candidates(cube) == Effort(0.3).candidates(cube) < Effort(3.0).candidates(cube)
    assert Effort(0.001).learning < Effort(3.0).learning
    assert rounded(0.02) == rounded(0.007) == 0.01


def test_plain_candidates_come_nearer_than_random_samples(vae: VAE) -> None:
    def other() -> RandomSearch:
        return RandomSearch(vae, 7)

    _, own = searched(PlainSearch(vae, TARGETS, distance, other=other, plain=30, seed=0), 8)
    random = distance(solve(vae.sample_latents(len(own), 5)))
    assert len(own) == 8 * 31
    assert own.min() < 0.3 * random.min()


def test_what_is_known_is_asked_for_first_and_the_same_is_asked_again(vae: VAE) -> None:
    latents = vae.sample_latents(40, 3)
    structures = vae.decode(latents)
    known = Known(latents, structures, solve(latents))

    def search() -> PlainSearch:
        def other() -> CompositeSearch:
            return CompositeSearch(vae, TARGETS, distance, seed=1, known=known)

        return PlainSearch(vae, TARGETS, distance, other=other, plain=20, seed=1, known=known)

    first, found = searched(search(), 3)
    again, _ = searched(search(), 3)
    np.testing.assert_array_equal(first, again)
    nearest = latents[np.argsort(distance(known.properties))[:10]]
    np.testing.assert_array_equal(first[:10], nearest)
    assert np.isfinite(found).all()
