"""The posterior on a chart: of a normal prior and a linear model it is the normal distribution that theory says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from msvae import DataError, Run
from msvae.campaigns.launch import launch
from msvae_inversion.manifold.charts import ImageCharts, Shape
from msvae_inversion.manifold.fitting import fit_charts
from msvae_inversion.manifold.posterior import Likelihood, posterior

STUDY = """
campaign = "invert"
seed = 1
[dataset]
name = "phantoms"
shape = "discs"
count = 240
size = 16
[charts]
count = 1
dimensions = 30
components = 40
epochs = 0
[forward]
name = "convolution"
width = 1.5
[invert]
noise = 0.05
count = 6
candidates = 6
starts = 1
steps = 5
metric = "data"
samples = 100
thinning = 2
"""


@pytest.fixture(scope="module")
def chart() -> ImageCharts:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((400, 12)) @ rng.standard_normal((12, 30)) + rng.standard_normal((400, 30))
    return fit_charts(images, Shape(1, 8, 12, 30, 8), epochs=0, seed=0)


def test_without_training_a_chart_is_the_principal_components_of_its_images(chart: ImageCharts) -> None:
    z = torch.randn(5, 8, dtype=torch.float64)
    straight = chart.decode(0, 0 * z) + z @ chart.jacobian(0, 0 * z)[0].T @ chart.basis
    torch.testing.assert_close(chart.decode(0, z), straight)
    metric = chart.metric(0, z[:1])[0]
    torch.testing.assert_close(metric, torch.diag(metric.diagonal()), atol=1e-3 * float(metric.max()), rtol=0)


@pytest.mark.parametrize("correlated", [False, True])
def test_samples_are_of_the_exact_posterior_of_a_linear_model(chart: ImageCharts, correlated: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 30, generator=generator, dtype=torch.float64)
    weight = torch.tensor(2.0, dtype=torch.float64)
    if correlated:
        weight = (
            weight * torch.eye(6).double() + 0.3 * torch.randn(6, 6, generator=generator, dtype=torch.float64).tril()
        )
    data = matrix @ chart.decode(0, 0.5 * torch.ones(1, 8, dtype=torch.float64))[0]
    likelihood = Likelihood(lambda x: matrix @ x, lambda _, d: matrix @ d.T, data, weight)
    zero = torch.zeros(8, dtype=torch.float64)
    found = posterior(chart, likelihood, [(0, zero)], samples=4000, thinning=1, seed=0)
    ((_, latents),) = found.parts
    slope = likelihood.weighted(matrix @ chart.basis.T @ chart.jacobian(0, zero[None])[0])
    covariance = torch.linalg.inv(slope.T @ slope + torch.eye(8, dtype=torch.float64))
    mean = covariance @ slope.T @ likelihood.weighted(data - matrix @ chart.decode(0, zero[None])[0])
    assert found.accepted > 0.95
    deviation = covariance.diagonal().sqrt()
    assert ((latents.mean(dim=0) - mean).abs() < 0.15 * deviation).all()
    assert ((latents.std(dim=0) / deviation - 1).abs() < 0.1).all()


def test_charts_are_sampled_in_proportion_to_their_share_of_the_posterior() -> None:
    rng = np.random.default_rng(1)
    middles = np.repeat([[4.0, 0, 0, 0], [-4.0, 0, 0, 0]], 300, axis=0)
    charts = fit_charts(middles + 0.5 * rng.standard_normal((600, 4)), Shape(2, 3, 4, 4, 8), epochs=0, seed=0)
    first = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    likelihood = Likelihood(lambda x: first @ x[:, None], lambda _, d: (d @ first)[None], torch.tensor([0.3]).double(),
                            torch.tensor(0.5, dtype=torch.float64))  # fmt: skip
    starts = [(k, torch.zeros(3, dtype=torch.float64)) for k in range(2)]
    found = posterior(charts, likelihood, starts, samples=200, thinning=1, seed=0)
    shares = {k: len(latents) / 200 for k, latents in found.parts}
    evidence = []
    for k in range(2):  # by prior samples of each chart
        z = torch.as_tensor(rng.standard_normal((100_000, 3)))
        rest = 0.5 * (charts.decode(k, z) @ first - 0.3)
        evidence.append(float(charts.weights[k].exp() * torch.exp(-0.5 * rest**2).mean()))
    assert 0.05 < min(evidence) / sum(evidence) < 0.45
    assert shares == pytest.approx({k: e / sum(evidence) for k, e in enumerate(evidence)}, abs=0.02)


def test_calibrated_intervals_hold_what_they_say_and_need_unseen_images(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    own = ["invert.model_errors=12", "invert.calibration=8", "invert.cut=true"]
    table = launch(tmp_path / "study.toml", tmp_path / "run", overrides=own)
    column = dict(zip(table.columns, zip(*table.rows, strict=True), strict=True))
    assert 0.8 < float(column["pixels within interval"][-1]) < 0.98
    assert float(column["of the posterior mean"][-1]) > float(column["PSNR (dB)"][-1]) - 1
    found = Run.open(tmp_path / "run").store("sample").load().properties
    width, deviation = found["high"] - found["low"], found["deviation"]
    np.testing.assert_allclose(width, width.max() / deviation.max() * deviation, rtol=1e-6, atol=1e-5)
    with pytest.raises(DataError, match="24 unseen images are asked for, of 234 the charts leave 23"):
        launch(tmp_path / "study.toml", tmp_path / "other", overrides=["invert.model_errors=24"])
