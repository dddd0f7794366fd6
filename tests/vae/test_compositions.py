"""Every composition that a study can name: its gradients, its bounds against known answers, its prior, its files."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
from torch.distributions import Independent, Normal

from msvae import Architecture, DataError, Quantity, Structures, StudyError
from msvae.plugins import registry
from msvae.plugins.conformance import example_structures
from msvae.structures import Kind
from msvae.study.numbers import Component
from msvae.study.settings import Condition, ModelSettings, TrainingSettings
from msvae.vae.blueprint import Blueprint
from msvae.vae.files import load_model, save_model
from msvae.vae.fitting.history import loss_of
from msvae.vae.fitting.objective import batch_of, dependence, importance_weighted_bound, terms
from msvae.vae.fitting.parallel import Share
from msvae.vae.fitting.training import Trainer, fit
from msvae.vae.linear_path import LinearPath
from msvae.vae.model import VAE
from msvae.vae.modules import Bent
from msvae.vae.priors.aggregate import fit_aggregate, fit_flow

LIKELIHOODS = {"phases": ("bernoulli", "categorical"), "field": ("gaussian", "continuous-bernoulli"),
               "composition": ("dirichlet", "multinomial", "gaussian"), "occupation": ("categorical",)}  # fmt: skip
COMPOSITIONS = [
    (kind, likelihood, prior, posterior, stem, conditions)
    for kind, likelihoods in LIKELIHOODS.items()
    for likelihood, prior, posterior, stem, conditions in product(
        likelihoods, ("normal", "flow"), ("normal", "flow"), ("pca", "none"), ((), (Condition("c"),))
    )
]


def labelled(kind: Kind, n: int = 16) -> Structures:
    structures = example_structures(kind, 0 if kind == "composition" else 2, n)
    mean = structures.values.reshape(n, -1)[:, ::2].mean(axis=1)
    return structures.with_properties({"c": mean}, [Quantity("c")])


def architecture() -> Architecture:
    return registry().find(Architecture, "perceptron")(width=16, depth=1)


def vae_for(structures: Structures, **settings: Any) -> VAE:
    torch.manual_seed(0)
    chosen = ModelSettings(**{"latents": 3, "features": 16, **settings})
    vae = VAE(Blueprint.of(structures, chosen, architecture()))
    vae.fit_scales(structures)
    return vae


@pytest.mark.parametrize(("kind", "likelihood", "prior", "posterior", "stem", "conditions"), COMPOSITIONS)
def test_gradients_reach_every_parameter(
    kind: Kind, likelihood: Any, prior: Any, posterior: Any, stem: Any, conditions: Any
) -> None:
    structures = labelled(kind)
    vae = vae_for(structures, likelihood=likelihood, prior=prior, posterior=posterior, stem=stem, free_bits=0.1,
                  conditions=conditions, heads=("c",))  # fmt: skip
    trainer = Trainer(vae, TrainingSettings(batch_size=16, learning_rate=1e-2), 0)
    for _ in range(2):  # after a step, what starts at zero lets gradients through
        trainer.epoch(batch_of(vae, structures))
    vae.zero_grad()
    parts = terms(vae, batch_of(vae, structures), Share(torch.Generator().manual_seed(0)))
    assert all(torch.isfinite(value) for value in parts.values())
    loss_of(parts, ModelSettings()).backward()
    dead = [n for n, p in vae.named_parameters() if p.numel() and (p.grad is None or not p.grad.abs().sum() > 0)]
    assert not dead


def linear_gaussian(structures: Structures, latents: int) -> VAE:
    """Return a VAE whose networks are nothing beside the linear path: probabilistic PCA."""
    vae = vae_for(structures, latents=latents, likelihood="gaussian")
    with torch.no_grad():
        vae.likelihood.piled.fill_(False)
    return vae


def test_the_bounds_of_a_linear_gaussian_model_are_its_log_likelihood() -> None:
    """The posterior is exact, so that ELBO, importance-weighted bound and log-likelihood are one number."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 16)) + 0.3 * rng.standard_normal((60, 16))
    structures = Structures.from_values(values.reshape(60, 4, 4))
    vae = linear_gaussian(structures, 3)
    path = vae.path
    assert path is not None
    features = vae.likelihood.features(torch.as_tensor(structures.values.copy())).flatten(1).double()
    noise = float(path.noise)
    covariance = path.decoder.T.double() @ path.decoder.double() + noise**2 * torch.eye(16, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(path.centre.double(), covariance)
    width = float(vae.likelihood.width)
    exact = normal.log_prob(features) - 16 * math.log(width)
    for samples in (1, 8):
        bound = importance_weighted_bound(vae, structures, samples, seed=1)
        np.testing.assert_allclose(bound, exact, atol=1e-3)
    parts = terms(vae, batch_of(vae, structures), Share(torch.Generator().manual_seed(0)))
    sampled = -float((parts["reconstruction"] + parts["divergence"]).detach())
    assert sampled == pytest.approx(float(exact.mean()), abs=1.5)  # one sample a structure


def test_more_importance_samples_tighten_the_bound() -> None:
    structures = labelled("phases")
    vae = vae_for(structures)
    bounds = [float(importance_weighted_bound(vae, structures, k, seed=0).mean()) for k in (1, 10, 100)]
    assert bounds == sorted(bounds)


def test_the_density_of_a_bent_posterior_integrates_to_one_and_fits_its_samples() -> None:
    structures = labelled("field")
    vae = vae_for(structures, latents=2, posterior="flow")
    batch = batch_of(vae, structures)
    posterior = vae.posterior(vae.likelihood.features(batch.values[:1]), batch.conditions[:1])
    assert isinstance(posterior, Bent)
    torch.manual_seed(0)
    with torch.no_grad():
        z = posterior.rsample(torch.Size((4000,)))[:, 0]
        wide = Independent(Normal(z.mean(dim=0), 2 * z.std(dim=0)), 1)
        u = wide.sample(torch.Size((40000,)))
        ratio = (posterior.log_prob(u[:, None])[:, 0] - wide.log_prob(u)).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=0.05)


def test_training_starts_at_principal_components_and_stays_above_them() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((80, 2)) @ rng.standard_normal((2, 36)) + 0.05 * rng.standard_normal((80, 36))
    structures = Structures.from_values(values.reshape(80, 6, 6))
    vae = vae_for(structures, latents=2)
    error = ((vae.decode(vae.encode(structures)).values - structures.values) ** 2).mean()
    centred = values - values.mean(axis=0)
    u, s, v = np.linalg.svd(centred, full_matrices=False)
    best = ((centred - (u[:, :2] * s[:2]) @ v[:2]) ** 2).mean()
    assert best <= error < 1.05 * best
    fit(vae, structures, TrainingSettings(epochs=5, batch_size=16, learning_rate=1e-3), seed=0)
    assert ((vae.decode(vae.encode(structures)).values - structures.values) ** 2).mean() < 1.1 * best


def test_conditions_are_taken_out_of_the_components() -> None:
    rng = np.random.default_rng(0)
    c = torch.as_tensor(rng.standard_normal((50, 1)), dtype=torch.float32)
    features = torch.as_tensor(rng.standard_normal((1, 9)), dtype=torch.float32) * c * 5
    features = (features + torch.as_tensor(rng.standard_normal((50, 9)), dtype=torch.float32)).reshape(50, 1, 3, 3)
    path = LinearPath((1, 3, 3), 2, 1)
    path.fit(features, c, levelled=False)
    assert np.abs(np.corrcoef(path.encode(features, c).numpy().T, c[:, 0])[:2, 2]).max() < 1e-4


def test_latents_of_two_heaps_are_modelled_as_two_heaps() -> None:
    rng = np.random.default_rng(0)
    heap = rng.integers(0, 2, 600)
    latents = 0.2 * rng.standard_normal((600, 2)) + np.where(heap, 1.5, -1.5)[:, None]
    found = fit_aggregate(latents[:, None], np.zeros((600, 0)), seed=0)
    assert found.hole > 1.0
    assert max(found.scores.values()) == pytest.approx(found.scores["N(0, I)"] + found.hole)
    drawn = found.aggregate.sample(np.zeros((500, 0)), seed=1)
    np.testing.assert_array_equal(drawn, found.aggregate.sample(np.zeros((500, 0)), seed=1))
    assert (np.abs(drawn).min(axis=1) > 0.5).mean() > 0.98
    assert 0.4 < (drawn[:, 0] > 0).mean() < 0.6


@pytest.mark.parametrize("n", [1500, 300])
def test_latents_that_depend_on_a_condition_are_sampled_for_it(n: int) -> None:
    rng = np.random.default_rng(0)
    c = rng.standard_normal((n, 1))
    latents = np.concatenate([c, c**2], axis=1) + 0.1 * rng.standard_normal((n, 2))
    found = fit_aggregate(latents[:, None], c, seed=0)
    drawn = found.aggregate.sample(np.full((400, 1), 1.0), seed=0)
    np.testing.assert_allclose(drawn.mean(axis=0), [1.0, 1.0], atol=0.25)
    density = found.aggregate.log_prob(np.array([[1.0, 1.0], [-1.0, 1.0]]), np.ones((2, 1)))
    assert density[0] > density[1] + 5


def test_the_fitted_prior_is_kept_in_the_files_and_sampled_from(tmp_path: Path) -> None:
    structures = labelled("phases", 60)
    vae = vae_for(structures, conditions=(Condition("c"),))
    vae.fit_aggregate(structures, seed=0)
    asked = np.full((5, 1), 0.5)
    latents = vae.sample_latents(5, 1, asked)
    save_model(vae, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    np.testing.assert_allclose(again.sample_latents(5, 1, asked), latents, rtol=1e-6)
    assert len(again.sample(3, 0, asked[:3])) == 3


def test_interpolation_keeps_its_ends_and_an_arc_its_radius() -> None:
    vae = vae_for(labelled("phases"))
    a, b = np.array([2.0, 0.0, 0.0]), np.array([0.0, 2.0, 0.0])
    for spherical in (False, True):
        line = vae.interpolate(a, b, 5, spherical=spherical)
        np.testing.assert_allclose(line[[0, -1]], [a, b], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(line, axis=1), 2)
    np.testing.assert_allclose(vae.interpolate(a, 2 * a, 3, spherical=True)[1], 1.5 * a)
    with pytest.raises(DataError, match="3 numbers"):
        vae.interpolate(a[:2], b, 3)


def test_patience_ends_training_and_takes_the_best_weights() -> None:
    structures = labelled("phases", 40)
    settings = TrainingSettings(epochs=60, batch_size=8, learning_rate=3e-2, patience=3, held_back=8)
    vae = vae_for(structures)
    history = fit(vae, structures, settings, seed=0)
    losses = [row["held back reconstruction"] + row["held back divergence"] for row in history]
    assert len(history) < 60
    assert len(history) - 1 - int(np.argmin(losses)) == 3


def test_free_bits_leave_latents_their_divergence() -> None:
    structures = labelled("phases", 40)
    settings = TrainingSettings(epochs=40, batch_size=20, learning_rate=5e-3)
    divergences = []
    for free in (0.0, 1.0):
        vae = vae_for(structures, beta=20.0, free_bits=free)
        divergences.append(fit(vae, structures, settings, seed=0)[-1]["divergence"])
    assert divergences[1] > divergences[0] + 0.5


def half_labelled(n: int) -> tuple[Structures, np.ndarray]:
    """Return grey fields of which a hidden number c sets the level, and every tenth of which says it."""
    rng = np.random.default_rng(0)
    c = rng.standard_normal(n)
    slopes = 0.3 * rng.standard_normal((n, 1, 1)) * np.linspace(-1, 1, 4)
    values = 0.5 * c[:, None, None] + slopes + 0.1 * rng.standard_normal((n, 4, 4))
    told = {"c": np.where(np.arange(n) % 10 == 0, c, np.nan)}
    return Structures.from_values(values).with_properties(told, [Quantity("c")]), c


def test_a_semi_supervised_model_guesses_the_conditions_that_it_was_not_told() -> None:
    structures, true = half_labelled(400)
    torch.manual_seed(0)
    settings = ModelSettings(latents=2, features=16, conditions=(Condition("c"),), semi_supervised=True)
    vae = VAE(Blueprint.of(structures, settings, architecture()))
    fit(vae, structures, TrainingSettings(epochs=40, batch_size=32, learning_rate=5e-3), seed=0)
    guessed, spread = vae.guess_conditions(structures)["c"].T
    assert np.corrcoef(guessed, true)[0, 1] > 0.9
    assert (spread > 0).all()
    assert np.isfinite(vae.encode(structures)).all()
    vae.fit_aggregate(structures, seed=0)
    assert np.isfinite(vae.sample(3, 0, np.zeros((3, 1))).values).all()
    plain = vae_for(labelled("field"), conditions=(Condition("c"),))
    with pytest.raises(DataError, match="semi_supervised"):
        plain.guess_conditions(labelled("field"))
    with pytest.raises(DataError, match="semi_supervised"):
        plain.encode(labelled("field"), np.full((16, 1), np.nan))


def classified(n: int) -> tuple[Structures, np.ndarray]:
    """Return fields of three patterns and a level, of which some say their pattern, and some their level."""
    rng = np.random.default_rng(0)
    labels, level = rng.integers(0, 3, n), rng.standard_normal(n)
    patterns = np.stack([np.eye(4), np.fliplr(np.eye(4)), np.ones((4, 4)) / 2])
    values = patterns[labels] + 0.5 * level[:, None, None] + 0.1 * rng.standard_normal((n, 4, 4))
    pattern = np.where(np.arange(n) % 5 == 0, labels, np.nan)
    told = {"pattern": pattern, "level": np.where(np.arange(n) % 3 == 0, level, np.nan)}
    return Structures.from_values(values).with_properties(told, [Quantity("pattern"), Quantity("level")]), labels


CLASSES = (Condition("level"), Condition("pattern", classes=3))


def test_unknown_classes_are_learnt_from_their_exact_expectation() -> None:
    structures, labels = classified(400)
    torch.manual_seed(0)
    settings = ModelSettings(latents=2, features=16, conditions=CLASSES, semi_supervised=True)
    vae = VAE(Blueprint.of(structures, settings, architecture()))
    fit(vae, structures, TrainingSettings(epochs=40, batch_size=32, learning_rate=5e-3), seed=0)
    chances = vae.guess_conditions(structures)["pattern"]
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    assert (chances.argmax(axis=1) == labels).mean() > 0.95
    known = vae.known_conditions(structures)
    assert np.isfinite(known).all()
    again = vae.decode(vae.encode(structures), known)
    assert ((again.values - structures.values) ** 2).mean() < 0.05
    vae.fit_aggregate(structures, seed=0)
    by_class = vae.sample(3, 0, np.array([[0.0, 0], [0.0, 1], [0.0, 2]])).values[:, 0]
    assert by_class[0][0, 0] > by_class[1][0, 0] + 0.3  # the diagonal of the first pattern, not of the second
    with pytest.raises(DataError, match=r"classes 0 to 2, found 3"):
        vae.sample(1, 0, [[0.0, 3]])


def test_the_enumeration_is_the_sum_over_classes() -> None:
    structures, _ = classified(10)
    vae = vae_for(structures, conditions=(Condition("pattern", classes=3),), semi_supervised=True, latents=2).eval()
    batch = batch_of(vae, structures)
    with torch.no_grad():
        found = terms(vae, batch, Share(torch.Generator().manual_seed(0)))
        features = vae.likelihood.features(batch.values)
        log_q = vae.guess(features).classes[0]
        unknown = torch.isnan(batch.conditions[:, 0])
        divergence, guess = torch.zeros(10), torch.zeros(10)
        for label in range(3):
            told = torch.nn.functional.one_hot(torch.full((10,), label), 3).float()
            weight = torch.where(unknown, log_q[:, label].exp(), (batch.conditions[:, label] == 1).float())
            posterior = vae.posterior(features, told)
            divergence += weight * torch.distributions.kl_divergence(posterior, vae.prior())
            cost = torch.where(unknown, log_q[:, label] + math.log(3), -log_q[:, label])
            guess += weight * cost
    torch.testing.assert_close(found["divergence"], divergence.mean())
    torch.testing.assert_close(found["guess"], guess.mean())


def test_gradients_reach_every_parameter_of_a_semi_supervised_model() -> None:
    structures, _ = classified(32)
    vae = vae_for(structures, conditions=CLASSES, semi_supervised=True, latents=2)
    trainer = Trainer(vae, TrainingSettings(batch_size=16, learning_rate=1e-2), 0)
    for _ in range(2):
        trainer.epoch(batch_of(vae, structures))
    vae.zero_grad()
    loss_of(terms(vae, batch_of(vae, structures), Share(torch.Generator().manual_seed(0))), ModelSettings()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vae.parameters() if p.numel())


def test_the_axes_of_a_study_are_kept_in_the_files(tmp_path: Path) -> None:
    structures = labelled("field", 60)
    vae = vae_for(structures, axes=(Component("c"),))
    flow = vae.fit_latent_flow(structures, seed=0)
    latents = vae.encode(structures)
    save_model(vae, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors").latent_flow
    assert again is not None
    assert again.properties == ("c",)
    np.testing.assert_allclose(again.axes(latents), flow.axes(latents), rtol=1e-9)


PATTERN = (Condition("pattern", classes=3),)


def test_independence_takes_the_class_out_of_the_latents_and_agreement_makes_the_decoder_obey() -> None:
    some, labels = classified(400)
    pattern = {"pattern": labels.astype(np.float64)}
    structures = Structures.from_values(some.values[:, 0]).with_properties(pattern, [Quantity("pattern")])
    found = []
    for weight in (0.0, 100.0):
        vae = vae_for(structures, conditions=PATTERN, semi_supervised=True, beta=0.1, stem="none", independence=weight,
                      agreement=1.0)  # fmt: skip
        fit(vae, structures, TrainingSettings(epochs=60, learning_rate=5e-3, patience=0, weights="last"), seed=0)
        z, asked = vae.encode(structures), (labels + 1) % 3
        forest = RandomForestClassifier(50, random_state=0)
        found.append(cross_val_score(forest, z, labels, cv=5).mean())
        decoded = vae.decode(z, asked[:, None].astype(np.float64))
        assert (vae.guess_conditions(decoded)["pattern"].argmax(axis=1) == asked).mean() > 0.95
    assert found[0] > 0.6  # of 1/3 by chance
    assert found[1] < 0.42


def test_dependence_is_one_of_equals_little_of_strangers() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(400, 3, generator=generator), torch.randn(400, 2, generator=generator)
    label = (torch.rand(400, 1, generator=generator) > 0.5).float()
    assert float(dependence(a, a)) == pytest.approx(1.0, abs=1e-5)
    assert float(dependence(a, b)) < 0.05
    assert float(dependence(a + 2 * label, label)) > 5 * float(dependence(a, label))
    assert float(dependence(a[:1], b[:1])) == 0.0


def test_logits_get_the_likeliest_temperature_and_offsets() -> None:
    structures, _ = classified(2000)
    vae = vae_for(structures, conditions=PATTERN, semi_supervised=True)
    assert vae.guess is not None
    layer = cast(torch.nn.Linear, vae.guess.logits["0"])
    with torch.no_grad():
        layer.weight.mul_(20.0)
        features = vae.likelihood.features(torch.as_tensor(structures.values.copy()))
        sure, before = vae.guess(features).classes[0], layer.weight.clone()
        shifted = sure / 2 + torch.tensor([1.0, 0.0, -1.0])
        torch.manual_seed(0)
        drawn = torch.distributions.Categorical(logits=shifted).sample()
    vae.guess.calibrate(features, torch.nn.functional.one_hot(drawn, 3).float())
    assert float((before / layer.weight.detach()).mean()) == pytest.approx(2.0, rel=0.2)
    found = vae.guess(features).classes[0].detach().exp()
    assert float((found - torch.softmax(shifted, dim=1)).abs().mean()) < 0.03


def test_few_known_classes_or_none_change_no_logit() -> None:
    structures, _ = classified(100)
    vae = vae_for(structures, conditions=PATTERN, semi_supervised=True)
    assert vae.guess is not None
    features = vae.likelihood.features(torch.as_tensor(structures.values.copy()))
    before = vae.guess(features).classes[0].detach()
    labels = torch.full((100, 3), torch.nan)
    labels[:10] = torch.nn.functional.one_hot(torch.arange(10) % 3, 3).float()
    vae.guess.calibrate(features, labels)
    assert torch.equal(before, vae.guess(features).classes[0])


def test_agreement_is_refused_where_structures_have_no_gradient() -> None:
    with pytest.raises(StudyError, match=r"model\.agreement: it needs compositions or fields"):
        vae_for(labelled("phases"), conditions=(Condition("c"),), semi_supervised=True, agreement=1.0)


def test_scores_of_a_conditional_flow_are_the_same_for_all_conditions() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000)
    latents = rng.standard_normal((3000, 2)) * (1 + labels[:, None]) + 3 * labels[:, None]
    conditions = np.eye(2)[labels]
    scores = fit_flow(latents, conditions, 0).scores(latents, conditions)
    for label in (0, 1):
        np.testing.assert_allclose(scores[labels == label].mean(axis=0), 0.0, atol=0.15)
        np.testing.assert_allclose(scores[labels == label].std(axis=0), 1.0, atol=0.15)
