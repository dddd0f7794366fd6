"""Traversals: the same over ranks and after a restart, what is refused, and their parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import MsvaeError
from msvae.campaigns.launch import launch
from msvae.campaigns.traverse.correction import Surrogate, likeliest
from msvae.campaigns.traverse.scores import Scale, score

AXES = """
[traverse]
samples = {samples}
traversals = 12
steps = 5
reach = 1.0
corrections = {corrections}
"""
NUMBERS = "axes = [{property='conductivity', component=[0, 0]}, {property='conductivity', component=[1, 1]}]"


@pytest.fixture
def study(study_file: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that writes a study of two conductivities."""

    def write(samples: int = 300, corrections: int = 2) -> Path:
        path = study_file("traverse", AXES.format(samples=samples, corrections=corrections))
        path.write_text(path.read_text().replace("count = 24", "count = 40").replace("[model]", f"[model]\n{NUMBERS}"))
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.mpi
def test_ranks_and_a_restart_traverse_the_same(
    study: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any], n: int
) -> None:
    path = study(samples=60, corrections=1)
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 2"))
    launch(path, tmp_path / "serial")
    expected = json.loads((tmp_path / "serial" / "traversals.json").read_text())
    model = f"training.start_from={tmp_path / 'serial'}"
    found = mpiexec(n, "-m", "msvae", "run", str(path), "--output", f"run{n}", "--set", model)
    assert found.returncode == 0, found.stderr
    assert json.loads((tmp_path / f"run{n}" / "traversals.json").read_text()) == expected
    (tmp_path / "serial" / "traversals.json").unlink()
    shutil.rmtree(tmp_path / "serial" / "evaluations" / "traversal-1")
    launch(path, tmp_path / "serial", resume=True)
    assert json.loads((tmp_path / "serial" / "traversals.json").read_text()) == expected


def test_axes_of_the_training_are_taken_where_no_samples_are_asked_for(
    study: Callable[..., Path], tmp_path: Path
) -> None:
    table = launch(study(samples=0, corrections=0), tmp_path / "run")
    assert table is not None
    assert [row[1] for row in table.rows] == ["once (axes alone)"] * 2
    assert not (tmp_path / "run" / "evaluations" / "samples").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("axes = [", "axes = [] # ["), "needs at least one number of a property"),
        (("component=[1, 1]", "component=[4, 1]"), "component"),
        (("property='conductivity', component=[1, 1]", "property='stiffness', component=[1, 1]"), "stiffness"),
        (("samples = 300", "samples = 5"), "axes are fitted to at least"),
        (("[model]", "[model]\nconditions=[{property='conductivity', component=[0, 1]}]"), "no conditional model"),
        (("steps = 5", "steps = 2"), "steps"),
    ],
)  # fmt: skip
def test_what_cannot_be_traversed_is_one_sentence(
    study: Callable[..., Path], tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    path = study()
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(MsvaeError, match=says) as caught:
        launch(path, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_the_process_and_its_slopes_are_those_of_a_smooth_function() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((400, 3))
    y = np.column_stack([np.sin(z[:, 0]), z[:, 1] * 0.5 + 0.2 * z[:, 2] ** 2])
    process = Surrogate.of(z, y, *likeliest(z, y))
    at = 0.8 * rng.standard_normal((20, 3))
    mean, slopes = process(at)
    np.testing.assert_allclose(mean[:, 0], np.sin(at[:, 0]), atol=0.02)
    step = 1e-5 * np.eye(3)
    differences = np.stack([(process(at + d)[0] - process(at - d)[0]) / 2e-5 for d in step], axis=-1)
    np.testing.assert_allclose(slopes, differences, atol=1e-5)


def test_zeros_among_decades_are_told_apart_and_logarithms_go_both_ways() -> None:
    values = np.column_stack([[0.0, 1e-15, 1e-14, 1e-13, 1e-12], [1.0, 2.0, 3.0, 4.0, 5.0]])
    scale = Scale.of(values, np.array([True, False]))
    assert scale.follows(values).tolist() == [False, True, True, True, True]
    np.testing.assert_allclose(scale.inverse(scale(values))[1:], values[1:])


def test_scores_see_what_moves_and_what_does_not() -> None:
    rng = np.random.default_rng(1)
    positions = rng.standard_normal((30, 1)) + np.linspace(-1, 1, 7)
    still = np.broadcast_to(rng.standard_normal((30, 1)), positions.shape)
    good = score(positions, np.stack([np.exp(positions), still], axis=-1), np.ones(2), 0)
    assert good.own == pytest.approx(1.0)
    assert good.held < 0.05
    assert good.drift == 0
    bad = score(positions, np.stack([np.exp(positions), still + np.linspace(-2, 2, 7)], axis=-1), np.ones(2), 0)
    assert bad.held > 0.6
    assert bad.drift == pytest.approx(4.0)
