"""Screening: constraints hold, what is found is likely, and ranks and restarts give the same."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from msvae import Component, DataError, Run, StudyError
from msvae.campaigns.launch import launch
from msvae_alloys.attribution import FEATURES, permutation, shapley
from msvae_alloys.candidates import Known, Space
from msvae_alloys.compositions import Compositions
from msvae_alloys.formulas import amounts, formula_of
from msvae_alloys.pseudo_labels import completed
from msvae_alloys.screen import Bound, Screen
from msvae_alloys.screening import chances

STUDY = """
campaign = "screen"
seed = 1
[dataset]
name = "compositions"
path = "alloys.csv"
properties = ["single phase"]
[architecture]
name = "alloy-perceptron"
width = 32
members = 2
[model]
latents = 2
features = 16
stem = "none"
conditions = [{ property = "single phase", classes = 2 }]
semi_supervised = true
independence = 10.0
agreement = 1.0
[training]
epochs = 25
learning_rate = 5e-3
batch_size = 32
[screen]
target = { property = "single phase" }
count = 3000
keep = 20
number = [3, 5]
largest = 0.6
bounds = [{ element = "Ni", low = 0.1, high = 0.3 }]
price = 20.0
"""
SYMBOLS = ("Al", "Co", "Cr", "Fe", "Ni", "Ti")


def written(folder: Path) -> Path:
    """Return a study of a table that the data set's own example gives, with some classes unknown."""
    alloys = Compositions.example(300, 0)
    with open(folder / "alloys.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["alloy", "single phase"])
        for k, (x, y) in enumerate(zip(alloys.values, alloys.properties["single phase"], strict=True)):
            formula = formula_of(alloys.specification.constituents, x.tolist())
            writer.writerow([formula, "" if k % 5 == 4 else int(y)])
    (folder / "study.toml").write_text(STUDY.replace("alloys.csv", str(folder / "alloys.csv")))
    return folder / "study.toml"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return written(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the study, whose model other runs of it may take."""
    folder = tmp_path_factory.mktemp("screen")
    launch(written(folder), folder / "run")
    return folder / "run"


def pool(run: Path) -> list[dict[str, str]]:
    with open(run / "pool.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_found_meets_the_constraints_and_is_of_the_asked_class(whole: Path, tmp_path: Path) -> None:
    launch(
        whole.with_name("study.toml"), tmp_path / "run", overrides=["screen.value=0", f"training.start_from={whole}"]
    )
    for value, run in ((1, Run.open(whole)), (0, Run.open(tmp_path / "run"))):
        rows = pool(run.path)
        reach = Known.of(run.study.need(Screen), run.structures.values).reach
        assert 0 < reach < 0.5
        assert {row["workflow"] for row in rows} >= {"candidates", "inversion"}
        found = []
        for row in rows:
            x = amounts(row["composition (at.%)"])
            assert 3 <= len(x) <= 5
            assert 10 - 0.1 <= x["Ni"] <= 30 + 0.1
            assert max(x.values()) <= 60 + 0.1
            assert float(row["price (USD/kg)"]) <= 20
            assert float(row["distance to known (at.%)"]) <= 100 * reach + 0.1
            dissolved = sum(x.get(symbol, 0.0) for symbol in ("Al", "Ti", "Mo", "Nb", "Cu"))
            found.append((dissolved < 20) == bool(value))
        assert np.mean(found) > 0.9  # 20 % divides the classes
        best = [max(float(r["probability"]) for r in rows if r["workflow"] == w) for w in ("candidates", "inversion")]
        assert 0.9 < best[0] <= best[1] + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.mpi
def test_ranks_and_a_restart_find_the_same(
    study: Path, whole: Path, tmp_path: Path, mpiexec: Callable[..., Any], n: int
) -> None:
    study.write_text(study.read_text().replace("count = 3000", "count = 400"))
    taken = f"training.start_from={whole}"
    launch(study, tmp_path / "serial", overrides=[taken])
    expected = pool(tmp_path / "serial")
    found = mpiexec(n, "-m", "msvae", "run", str(study), "--output", f"run{n}", "--set", taken)
    assert found.returncode == 0, found.stderr
    assert pool(tmp_path / f"run{n}") == expected
    (tmp_path / "serial" / "pool.csv").unlink()
    launch(study, tmp_path / "serial", overrides=[taken], resume=True)
    assert pool(tmp_path / "serial") == expected


def test_the_class_that_is_asked_for_is_judged_and_the_pool_drawn(whole: Path) -> None:
    from msvae.report.page import write_report

    page = write_report(whole).read_text()
    assert "The best compositions of each workflow" in page
    assert "What the prediction depends on" in page
    told = json.loads((whole / "attribution.json").read_text())
    assert told["shapley"][FEATURES.index("elements themselves")] == max(told["shapley"])  # they decide the class
    table = parquet.read_table(whole / "pool.parquet").to_pylist()
    assert [row["probability"] for row in table] == [float(row["probability"]) for row in pool(whole)]
    run = Run.open(whole)
    settings, x = run.study.need(Screen), run.structures.values.astype(float)
    both = [chances(run.model, Screen(settings.target, value=value), x) for value in (0, 1)]
    np.testing.assert_allclose(sum(both), 1.0, atol=1e-5)
    known = np.isfinite(run.structures.properties["single phase"])
    agree = (both[1] > 0.5) == run.structures.properties["single phase"]
    assert agree[known].mean() > 0.9


def test_what_a_prediction_depends_on_is_attributed_to_it() -> None:
    """A linear function has Shapley values w (x - mean of the background); they sum to what is to be explained."""
    rng = np.random.default_rng(0)
    weights = np.array([3.0, 0.0, -1.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.2, 0.1])
    rows, background = rng.standard_normal((20, 11)), rng.standard_normal((8, 11))
    found = shapley(lambda x: x @ weights, rows, background)
    exact = weights * (rows - background.mean(axis=0))
    np.testing.assert_allclose(found[:, :9], exact[:, :9], atol=1e-10)
    np.testing.assert_allclose(found[:, 9], exact[:, 9:].sum(axis=1), atol=1e-10)
    effects = permutation(lambda x: x @ weights, rows, rng)
    assert effects.argmax() == 0
    assert effects[[1, 3, 4, 6, 7, 8]].max() == 0


def test_unknown_classes_are_what_a_forest_of_the_known_ones_says() -> None:
    alloys = Compositions.example(400, 0)
    truth = alloys.properties["single phase"]
    hidden = np.where(np.arange(400) < 80, truth, np.nan)
    few = alloys.with_properties({"single phase": hidden}, alloys.quantities)
    found = completed(few, "single phase", 0).properties["single phase"]
    np.testing.assert_array_equal(found[:80], truth[:80])
    assert 0.8 < (found[80:] == truth[80:]).mean() < 1  # the larger class has .6
    np.testing.assert_array_equal(found, completed(few, "single phase", 0).properties["single phase"])
    assert completed(alloys, "single phase", 0) is alloys
    none = alloys.with_properties({"single phase": np.full(400, np.nan)}, alloys.quantities)
    with pytest.raises(DataError, match="needs alloys whose 'single phase' is known"):
        completed(none, "single phase", 0)


@pytest.mark.slow
def test_a_forest_completes_classes_before_training(study: Path, tmp_path: Path) -> None:
    small = ["training.epochs=2", "screen.workflows=['candidates']", "screen.count=200"]
    for unknown in ("model", "forest"):
        launch(study, tmp_path / unknown, overrides=[*small, f"screen.unknown='{unknown}'"])
    chance = [[float(row["probability"]) for row in pool(tmp_path / unknown)] for unknown in ("model", "forest")]
    assert chance[0] != chance[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("screen.value=2", "expected a class from 0 to 1"),
        ("screen.target.property='hardness'", "has to be a condition of the model"),
        ("model.semi_supervised=false", "independence and agreement need conditions and semi_supervised"),
        ("screen.elements=['Fe', 'Ni', 'Zr']", "element 'Zr' is in no alloy"),
        ("screen.elements=['Fe', 'Cr', 'Co']", "'Ni' is not among screen.elements"),
        ("screen.bounds=[{element='Ni', low=0.5, high=0.4}]", "low is at most high"),
        (
            "model.conditions=[{property='single phase', classes=2}, {property='hardness'}]",
            "'latents' decodes with the target as the only condition",
        ),
        ("screen.largest=0.1", "no composition meets bounds and number of elements"),
        ("screen.price=0.01", "no composition meets the constraints"),
    ],
)
def test_mistakes_are_one_sentence(study: Path, tmp_path: Path, change: str, says: str) -> None:
    with pytest.raises((StudyError, DataError), match=says):
        launch(study, tmp_path / "run", overrides=["training.epochs=1", change])


@pytest.mark.parametrize("seed", range(3))
def test_candidates_and_projections_stay_inside(seed: int) -> None:
    bounds = (Bound("Al", high=0.1), Bound("Ni", low=0.2, high=0.5))
    settings = Screen(Component("c"), number=(3, 4), largest=0.5, bounds=bounds)
    space = Space.of(settings, SYMBOLS)
    rng = np.random.default_rng(seed)
    x = space.candidates(2000, rng)
    inside = x[space.admitted(x)]
    assert len(inside) > 1000
    assert ((inside > 0).sum(axis=1) <= 4).all()
    np.testing.assert_allclose(inside.sum(axis=1), 1.0)
    moved = space.projected(rng.dirichlet(np.ones(6), 500))
    np.testing.assert_allclose(moved.sum(axis=1), 1.0)
    assert (moved >= space.low - 1e-9).all()
    assert (moved <= space.high + 1e-9).all()


def test_the_reach_of_known_alloys_is_that_of_their_neighbours() -> None:
    line = np.stack([np.linspace(0, 1, 11), 1 - np.linspace(0, 1, 11)], axis=1)
    known = Known.of(Screen(Component("c")), line)
    assert known.reach == pytest.approx(0.1)
    assert Known.of(Screen(Component("c"), distance=0.3), line).reach == 0.3
    x = np.array([[0.45, 0.55], [0.0, 1.0], [0.12, 0.88]])
    np.testing.assert_allclose(known.nearest(x)[0], [0.05, 0.0, 0.02], atol=1e-12)
    np.testing.assert_array_equal(Known(line[:1], 0.1).first(x, 2), [1])
    np.testing.assert_array_equal(known.first(x, 2), [0, 1])
