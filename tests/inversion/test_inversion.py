"""Inversion: charts have exact left inverses, descents find what was measured, ranks and restarts give the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msvae import DataError, MsvaeError, Run, StudyError
from msvae.campaigns.launch import launch
from msvae_inversion.manifold.charts import ImageCharts, Shape, charts_from_bytes, charts_to_bytes
from msvae_inversion.manifold.descent import descend, place_of
from msvae_inversion.manifold.fitting import fit_charts
from msvae_inversion.phantoms import Phantoms, angle_of, bar

STUDY = """
campaign = "invert"
seed = 1
[dataset]
name = "phantoms"
shape = "bar"
count = 90
size = 16
[charts]
count = 2
dimensions = 1
components = 10
width = 32
epochs = 200
[forward]
name = "convolution"
width = 2.0
[invert]
noise = 0.02
images = [0, 31]
candidates = 9
starts = 3
steps = 30
samples = 20
thinning = 2
controls = ["tikhonov"]
weights = [1.0, 10.0]
"""
OWN = """
import torch

def means(images):
    return images.mean(dim=2)

def nothing(images):
    return images.mean(dim=2) / 0.0

def few(images):
    return images[:1].mean()
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


@pytest.fixture(scope="module")
def charts() -> ImageCharts:
    images = Phantoms(shape="bar", count=120, size=16).load(0).values[:, 0].reshape(120, -1)
    return fit_charts(images, Shape(3, 1, 12, 256, 32), epochs=250, seed=0)


def test_a_chart_has_an_exact_left_inverse_and_survives_its_file(charts: ImageCharts) -> None:
    again = charts_from_bytes(charts_to_bytes(charts))
    z = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)[:, None]
    for k in range(3):
        torch.testing.assert_close(charts.encode(k, charts.decode(k, z)), z, atol=1e-9, rtol=0)
        torch.testing.assert_close(again.decode(k, z), charts.decode(k, z))
        step = 1e-6
        slope = (charts.decoded(k, z + step) - charts.decoded(k, z - step)) / (2 * step)
        torch.testing.assert_close(charts.jacobian(k, z)[:, :, 0], slope, atol=1e-5, rtol=1e-5)


def test_all_directions_are_on_the_charts(charts: ImageCharts) -> None:
    for angle in np.linspace(0, math.pi, 25, endpoint=False):
        image = torch.as_tensor(bar(float(angle), 16), dtype=torch.float64).flatten()
        k, z = place_of(charts, image)
        found = angle_of(charts.decode(k, z[None])[0].reshape(16, 16).numpy())
        assert abs((found - angle + math.pi / 2) % math.pi - math.pi / 2) < math.radians(4)
    assert charts.responsibilities(torch.rand(3, 256, dtype=torch.float64)).sum(dim=1).allclose(torch.ones(3).double())


def test_a_descent_passes_from_chart_to_chart_to_the_nearest_image(charts: ImageCharts) -> None:
    target = torch.as_tensor(bar(0.3, 16), dtype=torch.float64).flatten()
    blur = torch.exp(-0.5 * ((torch.arange(16)[:, None] - torch.arange(16)[None]) / 2.0) ** 2).double()

    def objective(image: torch.Tensor) -> torch.Tensor:
        return ((blur @ (image - target).reshape(16, 16) @ blur) ** 2).mean()

    changes = 0
    for step in range(1, 10):
        start = torch.as_tensor(bar(0.3 + 0.1 * step * math.pi, 16), dtype=torch.float64).flatten()
        found = descend(charts, objective, place_of(charts, start), steps=60, level=0.0)
        assert (np.diff(found.values) <= 0.02 * np.array(found.values[:-1])).all()
        angle = angle_of(charts.decode(found.chart, found.latents[None])[0].reshape(16, 16).numpy())
        assert abs(angle - 0.3) < math.radians(4)
        changes += found.changes
    assert changes > 0


def test_an_inversion_finds_what_was_measured(study: Path, tmp_path: Path) -> None:
    from msvae.report.page import write_report

    table = launch(study, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    found = run.store("descend").load()
    best = [found.where(found["index"] // 3 == k) for k in range(2)]
    for k, angle in enumerate((0.0, 31 * math.pi / 90)):
        image = best[k].properties["image"][best[k].properties["misfit"].argmin()]
        assert abs((angle_of(image) - angle + math.pi / 2) % math.pi - math.pi / 2) < math.radians(4)
    sampled = run.store("sample").load().properties
    assert (sampled["low"] <= sampled["high"]).all()
    assert (sampled["accepted"] > 0.2).all()
    column = dict(zip(table.columns, zip(*table.rows, strict=True), strict=True))
    assert float(column["PSNR (dB)"][-1]) > float(column["of tikhonov"][-1])
    page = write_report(tmp_path / "run").read_text()
    assert "what is found from their data" in page
    assert "misfit along the descents" in page


def outcome(run: Path) -> dict[str, Any]:
    stores = {stage: Run.open(run).store(stage).load() for stage in ("descend", "sample", "tikhonov")}
    return {
        f"{stage} {name}": values[np.argsort(table["index"])]
        for stage, table in stores.items()
        for name, values in table.properties.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.mpi
def test_ranks_and_a_restart_find_the_same(
    study: Path, tmp_path: Path, mpiexec: Callable[..., Any], killed: Callable[..., None],
    run_command: Callable[..., list[str]], n: int) -> None:  # fmt: skip
    launch(study, tmp_path / "serial")
    expected = outcome(tmp_path / "serial")
    found = mpiexec(n, "-m", "msvae", "run", str(study), "--output", f"run{n}")
    assert found.returncode == 0, found.stderr
    for name, values in outcome(tmp_path / f"run{n}").items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    killed(run_command(study, tmp_path / "killed"), (tmp_path / "killed" / "evaluations" / "descend").exists)
    launch(study, tmp_path / "killed", resume=True)
    for name, values in outcome(tmp_path / "killed").items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["invert.data='absent.npy'"], r"absent\.npy' is not a file: give a \.npy file"),
        (["charts.dimensions=10"], "expected fewer than charts.components = 10"),
        (["invert.starts=10"], "at most invert.candidates = 9 can be"),
        (["invert.images=[90]"], "found 90, the data set has images 0 to 89"),
        (["charts.components=100"], "101 are needed: add images"),
        (["invert.noise=0.0"], "noise"),
        (["forward.name='function'"], "function is module:function"),
        (["forward.name='function'", "forward.function='absent_module:f'"], "'absent_module:f' cannot be imported"),
        (["forward.name='function'", "forward.function='own_models:few'"], "expected a tensor with a row for each"),
        (["forward.name='function'", "forward.function='own_models:nothing'"], "data that are not finite for an image"),
        (["forward.name='solver'"], r"needs the table \[solver\]"),
    ],
)
def test_mistakes_are_one_sentence(
    study: Path, tmp_path: Path, changes: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MsvaeError, match=says) as error:
        launch(study, tmp_path / "run", overrides=changes)
    assert isinstance(error.value, (StudyError, DataError))
    assert error.value.code == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (np.zeros((2, 7)), "has 7 data for each image, the forward model gives 16"),
        (np.zeros(7), r"holds an array \(7,\), expected finite numbers, a row for each image"),
        (np.full((2, 16), np.nan), "expected finite numbers"),
    ],
)
def test_data_of_a_file_have_the_shape_that_the_model_gives(
    study: Path, tmp_path: Path, content: np.ndarray, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    np.save(tmp_path / "data.npy", content)
    own = ["forward.name='function'", "forward.function='own_models:means'", f"invert.data='{tmp_path / 'data.npy'}'"]
    with pytest.raises(DataError, match=says):
        launch(study, tmp_path / "run", overrides=[*own, "charts.epochs=1"])


def test_measured_data_are_inverted(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    image = bar(0.5, 16)
    np.save(tmp_path / "data.npy", image.mean(axis=1)[None])
    own = ["forward.name='function'", "forward.function='own_models:means'", f"invert.data='{tmp_path / 'data.npy'}'"]
    table = launch(study, tmp_path / "run", overrides=[*own, "invert.controls=[]", "invert.samples=0"])
    assert "PSNR (dB)" not in table.columns
    found = Run.open(tmp_path / "run").store("descend").load().properties
    angle = angle_of(found["image"][found["misfit"].argmin()])
    assert min(abs(angle - 0.5), abs(math.pi - angle - 0.5)) < math.radians(8)  # sums along rows do not tell the sign
