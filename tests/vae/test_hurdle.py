"""Properties that are zero for part of the data: the two-part distribution, and heads, cards and campaigns with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from torch.distributions import Independent, LogNormal, Normal

from msvae import VAE, Architecture, Quantity, Run, Structures
from msvae.campaigns.launch import launch
from msvae.metrics.calibration import cross_coverage
from msvae.plugins import registry
from msvae.study.settings import ModelSettings, StructureHeadSettings, TrainingSettings
from msvae.vae.blueprint import Blueprint
from msvae.vae.fitting.heads import refit_heads
from msvae.vae.fitting.objective import batch_of, terms
from msvae.vae.fitting.parallel import Share
from msvae.vae.fitting.training import fit
from msvae.vae.likelihoods.hurdle import Form, TwoPart, hurdled
from msvae.vae.structure_head import StructureHead, fit_structure_head

COMPONENTS = Quantity("k", "m^2", (2, 2))


def permeable(n: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return latents (n, 3) and a tensor (n, 2, 2) in m^2: both diagonal entries are zero for two in five, else they
    span three decades; the others are zero with the first, and of either sign."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 3))
    flows = z[:, :1] + 0.2 * rng.standard_normal((n, 2)) > -0.25
    size = 1e-12 * 10 ** (1.0 * z[:, 1:] + 0.1 * rng.standard_normal((n, 2)))
    k = np.zeros((n, 2, 2))
    k[:, [0, 1], [0, 1]] = np.where(flows, size, 0)
    k[:, 0, 1] = k[:, 1, 0] = np.where(flows.all(axis=1), 1e-13 * z[:, 2] + 2e-14 * rng.standard_normal(n), 0)
    return z, k


def vae_with_head(properties: np.ndarray[Any, Any], seed: int = 0) -> VAE:
    """Return an untrained VAE whose scales are fitted to a property of random structures."""
    values = np.random.default_rng(seed).integers(0, 2, (len(properties), 6, 6))
    bare = Structures.from_labels(values, 1e-6, phases=2)
    labelled = bare.with_properties({"k": properties}, [COMPONENTS])
    torch.manual_seed(seed)
    settings = ModelSettings(latents=3, features=32, heads=("k",))
    vae = VAE(Blueprint.of(labelled, settings, registry().find(Architecture, "perceptron")(width=16)))
    vae.fit_scales(labelled)
    return vae


def log_likelihood(vae: VAE, z: np.ndarray[Any, Any], k: np.ndarray[Any, Any], width: float) -> torch.Tensor:
    """Return log P(k - width sd < y < k + width sd) (n, 4) of every entry: a density and a zero have no common unit."""
    flat, scale = torch.as_tensor(k.reshape(len(k), -1)), vae.scale_of("k")
    half = width * flat.std(dim=0)
    with torch.no_grad():
        each = vae.heads["k"](torch.as_tensor(z, dtype=torch.float32)).base_dist
        low, high = scale(flat - half), scale(flat + half)
        if not isinstance(each, TwoPart):
            return (each.cdf(high) - each.cdf(low)).clamp_min(1e-12).log()
        normal, chance = Normal(each.location, each.scale), each.chance_of_zero
        low_end = torch.where(each.form.log & (low <= 0), 0.0, normal.cdf(each.coordinates(low)[0]))
        sized = normal.cdf(each.coordinates(high)[0]) - low_end
        return ((1 - chance) * sized + torch.where(flat.abs() < half, chance, 0.0)).clamp_min(1e-12).log()


def test_what_needs_two_parts_or_a_logarithm_is_told_from_the_labels() -> None:
    _, k = permeable(200)
    zero, log = hurdled(k.reshape(200, 4))
    assert zero.tolist() == [True] * 4
    assert log.tolist() == [True, False, False, True]
    k[5:40] = np.nan
    assert [part.tolist() for part in hurdled(k.reshape(200, 4))] == [zero.tolist(), log.tolist()]
    rng = np.random.default_rng(0)
    plain = {
        "never zero": rng.uniform(1, 2, (50, 1)),
        "always zero": np.zeros((50, 1)),
        "zero once": np.append(rng.uniform(1, 2, 49), 0.0)[:, None],
        "rounding": np.column_stack([rng.uniform(1, 2, 50), np.where(np.arange(50) % 2, 1e-18, 0)]),
        "unknown": np.full((50, 1), np.nan),
        "none": np.zeros((0, 1)),
    }
    for name, values in plain.items():
        assert not np.concatenate(hurdled(values)).any(), name
    decades = 10 ** rng.uniform(-2, 2, (50, 1))
    assert [bool(part[0]) for part in hurdled(decades)] == [False, True]
    decades[0] = 0
    assert [bool(part[0]) for part in hurdled(decades)] == [True, True]
    decades[1] = -1
    assert [bool(part[0]) for part in hurdled(decades)] == [False, False]


def two_part() -> tuple[Form, TwoPart]:
    rng = np.random.default_rng(0)
    zeros = rng.random((400, 4)) < 0.4
    sized = np.column_stack([rng.normal(1, 2, (400, 2)), np.exp(rng.normal(-1, 2, (400, 2)))])
    values = torch.as_tensor(np.where(zeros & np.array([0, 1, 0, 1], dtype=bool), 0, sized)).float()
    form = Form(4)
    form.fit(values, np.array([False, True, False, True]), np.array([False, False, True, True]))
    output = torch.tensor([[0.3, 0.3, 0.3, 0.3, -0.5, -0.5, -0.9, -0.9, 0.2, 0.2, 0.2, 0.2]])
    distribution = form(output)
    assert isinstance(distribution, Independent)
    return form, distribution.base_dist


def test_the_two_parts_are_a_distribution_whose_moments_are_those_of_its_samples() -> None:
    form, parts = two_part()
    torch.manual_seed(0)
    drawn = parts.sample((400_000,))[:, 0].double()
    torch.testing.assert_close(drawn.mean(dim=0), parts.mean[0].double(), rtol=0.03, atol=0.01)
    torch.testing.assert_close(drawn.std(dim=0), parts.stddev[0].double(), rtol=0.06, atol=0.01)
    torch.testing.assert_close((drawn == 0).double().mean(dim=0), parts.chance_of_zero[0].double(), atol=0.005, rtol=0)
    for k in range(4):
        ends = (1e-7, 400.0) if form.log[k] else (-60.0, 60.0)
        points = np.geomspace(*ends, 3000) if form.log[k] else np.linspace(*ends, 3000)
        density = parts.log_prob(torch.as_tensor(points)[:, None].expand(-1, 4).float())[:, k].exp().detach().numpy()
        atom = parts.log_prob(torch.zeros(1, 4))[0, k].exp().item() if form.zero[k] else 0.0
        assert atom + integrate.trapezoid(density, points) == pytest.approx(1, abs=5e-3)


def test_a_logarithmic_part_is_the_log_normal_distribution_of_torch() -> None:
    form, parts = two_part()
    middle, spread = form.centre + form.width * parts.location, form.width * parts.scale
    other = LogNormal(middle[0, 2], spread[0, 2])
    value = torch.tensor([[1.0, 1.0, 0.37, 0.37]])
    torch.testing.assert_close(parts.log_prob(value)[0, 2], other.log_prob(value[0, 2]))
    torch.testing.assert_close(parts.mean[0, 2], other.mean)
    torch.testing.assert_close(parts.variance[0, 2], other.variance, rtol=1e-4, atol=0)
    passed = (1 - parts.chance_of_zero[0, 3]).log()
    other = LogNormal(middle[0, 3], spread[0, 3])
    torch.testing.assert_close(parts.log_prob(value)[0, 3], other.log_prob(value[0, 3]) + passed)


def test_everything_is_finite_however_far_from_the_data() -> None:
    form, _ = two_part()
    output = (50 * torch.randn((64, 12), generator=torch.Generator().manual_seed(0))).requires_grad_()
    parts = form(output).base_dist
    for value in (-3.0, 0.0, 1e-30, 1e-3, 1e6):
        found = parts.log_prob(torch.full((64, 4), value))
        assert torch.isfinite(found).all()
    (parts.mean.sum() + parts.stddev.sum() + found.sum()).backward()
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()
    assert (parts.stddev > 0).all()


def test_a_two_part_head_is_better_than_a_normal_one_and_its_intervals_hold(tmp_path: Path) -> None:
    (z, k), (new, true) = permeable(1500), permeable(1200, seed=1)
    two, one = vae_with_head(k), vae_with_head(k)
    one.head_of("k").form.fit(torch.zeros(9, 4), np.zeros(4, dtype=bool), np.zeros(4, dtype=bool))
    for vae in (two, one):
        if vae is one:
            vae.scale_of("k").fit(k.reshape(len(k), -1))
        refit_heads(vae, z, {"k": k}, seed=0, steps=800)
    better, worse = (log_likelihood(vae, new, true, 1e-3) for vae in (two, one))
    assert torch.isfinite(better).all()
    assert (better.mean(dim=0) > worse.mean(dim=0) + 0.5).all()
    mean, spread = (a.reshape(len(new), 4) for a in two.predict_with_spread(new)["k"])
    assert np.isfinite(mean).all()
    assert (spread > 0).all()
    for entry in range(4):
        residuals = true.reshape(len(new), 4)[:, entry] - mean[:, entry]
        assert cross_coverage(residuals, spread[:, entry]) == pytest.approx(0.9, abs=0.04)
    chance = two.chances_of_zero(new)["k"]
    assert ((chance > 0.5) == (true == 0)).mean() > 0.85
    assert np.abs(chance[:, 0, 0].mean() - (true[:, 0, 0] == 0).mean()) < 0.05
    assert not one.chances_of_zero(new)["k"].any()
    two.save(tmp_path / "model.safetensors")
    again = VAE.load(tmp_path / "model.safetensors")
    for before, after in zip(two.predict_with_spread(new)["k"], again.predict_with_spread(new)["k"], strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(again.chances_of_zero(new)["k"], chance)


def test_unknown_labels_add_nothing_and_training_with_zeros_goes_through() -> None:
    _, k = permeable(60)
    k[:20] = np.nan
    k[20:30, 0, 0] = np.nan
    vae = vae_with_head(k)
    values = np.random.default_rng(0).integers(0, 2, (60, 6, 6))
    labelled = Structures.from_labels(values, 1e-6, phases=2).with_properties({"k": k}, [COMPONENTS])
    batch = batch_of(vae, labelled)
    found = terms(vae, batch, Share(torch.Generator().manual_seed(0)))["head k"]
    found.backward()
    assert torch.isfinite(found)
    assert all(torch.isfinite(p.grad).all() for p in vae.parameters() if p.grad is not None)
    batch.properties["k"][:] = torch.nan
    assert terms(vae, batch, Share(torch.Generator().manual_seed(0)))["head k"] == 0
    history = fit(vae, labelled, TrainingSettings(epochs=3), seed=0)
    assert all(np.isfinite(value) for row in history for value in row.values())


def test_the_structure_head_tells_zeros_and_keeps_what_it_knows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((240, 8, 8)) > rng.uniform(0.2, 0.8, (240, 1, 1))
    fraction = values.mean(axis=(1, 2))
    k = np.where(fraction > 0.45, 10 ** (6 * fraction), 0.0)
    k[:10] = np.nan
    labelled = Structures.from_labels(values, phases=2).with_properties({"c": k}, [Quantity("c")])
    torch.manual_seed(0)
    settings = StructureHeadSettings(properties=("c",), epochs=40, batch_size=16, flips=(0,), precision="float32")
    made = registry().find(Architecture, "perceptron")()
    head = StructureHead(labelled.specification, (Quantity("c"),), settings, made)
    fit_structure_head(head, labelled[:180], seed=0)
    test, true = labelled[180:], k[180:]
    told = head.chances_of_zero(test)["c"]
    assert ((told > 0.5) == (true == 0)).mean() > 0.9
    sized, predicted = true > 0, head.predict(test)["c"]
    assert np.corrcoef(np.log(predicted[sized]), np.log(true[sized]))[0, 1] > 0.9
    head.calibrate(test)
    assert np.isfinite(head.predict_with_spread(test)["c"][1]).all()


def test_a_head_without_zeros_is_as_normal_as_before() -> None:
    vae = vae_with_head(np.random.default_rng(0).normal(3, 1, (30, 2, 2)))
    assert isinstance(vae.heads["k"](torch.zeros(2, 3)).base_dist, Normal)


PASSAGE = """
from dataclasses import dataclass
import numpy as np
import msvae


@dataclass(frozen=True)
class Passage(msvae.Solver):
    '''What passes along each axis: nothing where phase 1 is scarce, else more by decades.'''

    name = "passage"
    kinds = ("phases",)
    dimensions = (2,)
    computes = (msvae.Quantity("k", "1", (2,)),)

    def evaluate(self, structures):
        open_ = structures.labels
        shares = np.stack([open_.mean(axis=(1, 2)), open_[:, ::2].mean(axis=(1, 2))], axis=1)
        return {"k": np.where(shares > 0.45, 10 ** (8 * (shares - 0.5)), 0.0)}


@msvae.hook
def msvae_solvers():
    return [Passage]
"""
STUDY = """
campaign = "{campaign}"
seed = 1
plugin_files = ["passage.py"]
[dataset]
name = "simulated"
count = 120
shape = [8, 8]
length = [2e-6, 2e-6]
[solver]
name = "passage"
[architecture]
name = "perceptron"
width = 32
[model]
latents = 4
features = 32
heads = ["k"]
[training]
epochs = 12
batch_size = 16
learning_rate = 5e-3
[structure_head]
properties = ["k"]
epochs = 6
[design]
budget = 8
batch = 4
control_budget = 4
targets = [
    {{ property = "k", component = [0], value = 2.0, unit = "1", tolerance = 0.01 }},
    {{ property = "k", component = [1], value = 3.0, unit = "1", tolerance = 0.01 }},
]
[push_forward]
property = "k"
component = [0]
fidelity = "solver"
cheap = ["structure-head", "head"]
pilot = 16
budget = 24
control = 8
"""


@pytest.mark.parametrize("campaign", ["train", "inverse-design", "push-forward"])
def test_campaigns_work_with_a_property_that_is_zero_for_part_of_the_data(
    tmp_path: Path, campaign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passage.py").write_text(PASSAGE)
    (tmp_path / "study.toml").write_text(STUDY.format(campaign=campaign))
    table = launch(tmp_path / "study.toml", tmp_path / "run")
    assert table is not None
    run = Run.open(tmp_path / "run", trust=True)
    assert 0.15 < (run.labelled.properties["k"] == 0).mean() < 0.85
    assert run.model.head_of("k").form.zero.all()
    assert run.model.head_of("k").form.log.all()
    if campaign == "train":
        said = {line["what"]: line for line in run.read_json("model_card.json")}
        for who in ("head on latents", "structure-space head"):
            line = said[next(key for key in said if key.startswith(who) and "share correct" in key)]
            assert line["model"] > line["floor"] - 0.1
            assert any(key.startswith(who) and "R2 of the logarithm" in key for key in said)
