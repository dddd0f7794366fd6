"""Composite search and its guards: it reaches what random samples do not, inside of what can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from msvae import VAE, Architecture, Dataset, Structures, TargetError, load_solver
from msvae.metrics.bounds import Bounds, hashin_shtrikman
from msvae.metrics.pareto import hypervolume
from msvae.sampling.search.aims import Constraint, Target
from msvae.sampling.search.constraints import meets
from msvae.sampling.search.guards import Guards
from msvae.sampling.search.problem import Known
from msvae.sampling.search.searchers.botorch import BotorchSearch
from msvae.sampling.search.searchers.composite import CompositeSearch
from msvae.sampling.search.searchers.gradient import GradientSearch
from msvae.study import load_plugin
from msvae.study.numbers import Component
from msvae.study.settings import ModelSettings, TrainingSettings
from msvae.study.source import Source
from msvae.vae.blueprint import Blueprint
from msvae.vae.fitting.training import fit

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


def searched(search: CompositeSearch | GradientSearch, vae: VAE, calls: int, batch: int = 4) -> Any:
    found: list[Any] = []
    for _ in range(calls // batch):
        latents = search.ask(batch)
        properties = SOLVER.evaluate(vae.decode(latents))
        found.append(distance(properties))
        search.tell(latents, found[-1], properties)
    return np.concatenate(found)


def test_it_comes_nearer_in_forty_calls_than_four_hundred_random_samples(vae: VAE, structures: Structures) -> None:
    guards = Guards.of(vae, structures)
    found = [searched(CompositeSearch(vae, TARGETS, distance, seed=k, allowed=guards.accept), vae, 40)
             for k in (0, 1, 2)]  # fmt: skip
    random = distance(SOLVER.evaluate(vae.sample(400, 5)))
    assert np.median([f.min() for f in found]) < random.min()
    assert np.median([f.min() for f in found]) < 0.2 * np.median([random[k : k + 40].min() for k in range(0, 400, 40)])


@pytest.mark.slow
def test_botorch_comes_nearer_than_random_samples_and_its_front_is_larger(vae: VAE) -> None:
    pytest.importorskip("botorch")
    found = searched(BotorchSearch(vae, TARGETS, distance, seed=0), vae, 32)
    random = SOLVER.evaluate(vae.sample(320, 5))
    assert found.min() < 0.5 * np.median(distance(random).reshape(10, 32).min(axis=1))  # one draw of 32 may be lucky

    def losses(properties: Mapping[str, Any]) -> Any:
        k = np.asarray(properties["conductivity"])
        return np.stack([-k[..., 0, 0], k[..., 1, 1]], axis=-1)

    reference = np.array([-9.0, 4.0])
    search = BotorchSearch(vae, TARGETS, distance, seed=0).towards(losses, reference)
    own: list[Any] = []
    for _ in range(8):
        latents = search.ask(4)
        properties = SOLVER.evaluate(vae.decode(latents))
        own.append(losses(properties))
        search.tell(latents, np.zeros(0), properties)
    fronts = [hypervolume(part, reference) for part in losses(random).reshape(10, 32, 2)]
    assert hypervolume(np.concatenate(own), reference) > 1.1 * np.median(fronts)


def test_steps_through_decoder_and_solver_come_nearer(vae: VAE, structures: Structures) -> None:
    """Derivatives are those of the expected structure; the steps that they give halve the distance of the data set.

    In the median of three data sets: a descent may end at a minimum that is not the least.
    """
    targets = tuple(Target(t.property, value=v, component=t.component) for t, v in zip(TARGETS, GOAL, strict=True))
    known = Known(vae.encode(structures[:50]), structures[:50], dict(SOLVER.evaluate(structures[:50])))
    search = GradientSearch(vae, SOLVER, targets, distance, known=known)
    assert search.price == 4
    z, eps = known.latents[0], 1e-2

    def expected(latents: Any) -> Any:
        output = vae.output(torch.as_tensor(latents[None]).float(), vae.network_conditions(None, 1))
        grey = vae.likelihood(output).mean[:, 0].double().detach().numpy()
        k = SOLVER.evaluate(Structures.from_values(grey, 1e-6))["conductivity"][0]
        return np.array([k[0, 0], k[1, 1]])

    slopes = search._slopes(z)
    for axis in (0, 3):
        step = eps * np.eye(len(z))[axis]
        np.testing.assert_allclose(
            slopes[:, axis], (expected(z + step) - expected(z - step)) / (2 * eps), rtol=0.03, atol=0.02
        )
    shares = []
    for first in (0, 50, 100):
        own = structures[first : first + 50]
        known = Known(vae.encode(own), own, dict(SOLVER.evaluate(own)))
        found = searched(GradientSearch(vae, SOLVER, targets, distance, known=known), vae, 20, batch=2)
        shares.append(found.min() / distance(known.properties).min())
    assert np.median(shares) < 0.5


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


def test_a_curve_of_many_numbers_is_modelled_by_few(vae: VAE) -> None:
    """Powers of one conductivity: nine numbers, as a stress-strain curve would have."""
    powers = np.arange(1, 10) / 3

    def curves(structures: Structures) -> dict[str, Any]:
        return {"curve": SOLVER.evaluate(structures)["conductivity"][:, 0, 0, None] ** powers}

    def apart(properties: Mapping[str, Any]) -> Any:
        return np.abs(np.asarray(properties["curve"]) - 7.0**powers).max(axis=1) / 7.0 ** powers[-1]

    search = CompositeSearch(vae, [Component("curve", (k,)) for k in range(9)], apart, seed=0)
    found: list[Any] = []
    for _ in range(10):
        latents = search.ask(4)
        properties = curves(vae.decode(latents))
        found.append(apart(properties))
        search.tell(latents, found[-1], properties)
    random = np.median([apart(curves(vae.sample(40, seed))).min() for seed in range(9)])
    assert np.concatenate(found).min() < 0.5 * random


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
    assert guards.accept(far, vae.decode(far)).mean() < 0.05  # .00 to .02, as processors round


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


def test_permeability_has_no_bounds_of_its_phases() -> None:
    """A pore without walls resists no flow, so that its unknown permeability is no zero."""
    bounds = Bounds.of({"permeability": np.stack([np.zeros((3, 3)), np.full((3, 3), np.nan)])})
    assert bounds.phases == {}


def test_hashin_and_shtrikman_bound_what_is_inside_of_voigt_and_reuss(structures: Structures) -> None:
    """Two phases by the textbook: K1 + f2 / (1 / (K2 - K1) + 3 f1 / (3 K1 + 4 G1)); and what only they refuse."""
    k, g, f = np.array([10.0, 40.0]), np.array([6.0, 20.0]), np.array([[0.7, 0.3]])
    low, high = hashin_shtrikman(f, np.stack([k, g], axis=1), 3)
    assert low[0, 0] == pytest.approx(k[0] + f[0, 1] / (1 / (k[1] - k[0]) + 3 * f[0, 0] / (3 * k[0] + 4 * g[0])))
    assert high[0, 0] == pytest.approx(k[1] + f[0, 0] / (1 / (k[0] - k[1]) + 3 * f[0, 1] / (3 * k[1] + 4 * g[1])))
    shear = g[0] + f[0, 1] / (1 / (g[1] - g[0]) + 6 * f[0, 0] * (k[0] + 2 * g[0]) / (5 * g[0] * (3 * k[0] + 4 * g[0])))
    assert low[0, 1] == pytest.approx(shear)
    low, high = hashin_shtrikman(structures.fractions, np.array([[1.0], [20.0]]), 2)
    bounds = Bounds({"conductivity": np.array([1.0, 20.0])[:, None, None] * np.eye(2)})
    mean = structures.fractions @ [1.0, 20.0]
    for value, refused in ((0.5 * (low + high)[:, 0], False), (0.3 * high[:, 0] + 0.7 * mean, True)):
        judged = bounds.excess(structures, {"conductivity": value[:, None, None] * np.eye(2)}) > 0
        assert judged[(structures.fractions > 0.05).all(axis=1)].all() == refused


@pytest.mark.parametrize("dimensions", [2, 3])
def test_elastic_bounds_hold_for_the_solver(dimensions: int) -> None:
    """Composites and laminates, which are on the bounds of some of their components."""
    labels = np.random.default_rng(0).integers(0, 2, (6, *(4,) * dimensions))
    labels[0] = 0
    labels[0, :2] = 1
    for axis in range(1, dimensions + 1):
        labels = labels.repeat(4, axis=axis)
    solver = load_solver(
        "elasticity",
        phases=[{"youngs_modulus": 1e9, "poissons_ratio": 0.1}, {"youngs_modulus": 5e10, "poissons_ratio": 0.4}],
    )
    batch = Structures.from_labels(labels, 1e-6, phases=2)
    pure = Structures.from_labels(
        np.arange(2).reshape(2, *(1,) * dimensions) * np.ones((1, *(2,) * dimensions), dtype=int), 1e-6, phases=2
    )
    bounds = Bounds.of(solver.evaluate(pure))
    true = solver.evaluate(batch)["stiffness"]
    assert (bounds.excess(batch, {"stiffness": true}) == 0).all()
    voigt = np.einsum("np,pij->nij", batch.fractions, bounds.phases["stiffness"])
    assert (bounds.excess(batch, {"stiffness": 0.98 * voigt}) > 0).all()


CUBE = np.zeros((1, 8, 8), dtype=int)
CUBE[0, 2:6, 2:6] = 1
BAR = np.zeros((1, 8, 8), dtype=int)
BAR[0, :, 3:5] = 1
LOOSE = CUBE.copy()
LOOSE[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("constraint", "labels", "met"),
    [
        (Constraint("connected", axis=0), BAR, True),
        (Constraint("connected", axis=1), BAR, False),
        (Constraint("connected"), BAR, False),
        (Constraint("connected", phase=0), CUBE, True),
        (Constraint("one-piece", share=1.0), CUBE, True),
        (Constraint("one-piece", share=0.99), LOOSE, False),
        (Constraint("one-piece", share=0.9), LOOSE, True),
        (Constraint("one-piece"), 0 * CUBE, False),
        (Constraint("feature-size", size=3e-6), CUBE, True),
        (Constraint("feature-size", size=3e-6, share=1.0), BAR, False),
        (Constraint("feature-size", size=1e-6, share=1.0), BAR, True),
        (Constraint("symmetric", axis=0, share=1.0), CUBE, True),
        (Constraint("symmetric", axis=1, share=1.0), LOOSE, False),
    ],
)
def test_constraints_are_of_the_decoded_structure(constraint: Constraint, labels: Any, met: bool) -> None:
    assert meets(constraint, Structures.from_labels(labels, 1e-6, phases=2)).tolist() == [met]
