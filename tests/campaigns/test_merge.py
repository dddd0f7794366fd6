"""Replicates of a push-forward merged into one result."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from msvae import RunError
from msvae.campaigns.launch import launch
from msvae.campaigns.push_forward.merging import merged
from msvae.cli.app import app
from msvae.sampling.estimators import Estimator

PUSH_FORWARD = """
[push_forward]
property = "conductivity"
component = [0, 0]
fidelity = "solver"
cheap = ["head"]
pilot = 10
budget = 24
most = 100
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, small: Callable[[str], str]) -> list[Path]:
    """Three replicates with models of their own."""
    folder = tmp_path_factory.mktemp("replicates")
    (folder / "study.toml").write_text(small("push-forward") + PUSH_FORWARD)
    for seed in (1, 2, 3):
        launch(folder / "study.toml", folder / f"run-{seed}", overrides=[f"seed={seed}"])
    return [folder / f"run-{seed}" for seed in (1, 2, 3)]


def found_in(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "push_forward.json").read_text())
    return found


def test_the_interval_is_that_of_all_samples_together(runs: list[Path], tmp_path: Path) -> None:
    table, plain = merged(runs)
    values = [found_in(run)["values"] for run in runs]
    assert plain["samples"] == sum(map(len, values))
    value, low, high = plain["estimates"]["mean"]
    if plain["p_equal_means"] >= 0.01:
        alone = Estimator(np.concatenate(values)).mean
        assert abs(value - alone.value) < alone.half_width
        ends = [found_in(run)["estimates"]["mean"] for run in runs]
        assert high - low < min(most - least for _, least, most in ends)
    else:
        means = [np.mean(v) for v in values]
        assert value == pytest.approx(np.mean(means))
        assert "their models differ" in table.notes[1]
    command = ["merge", *map(str, runs), "--output", str(tmp_path / "merged.json")]
    said = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "seeds 1, 2, 3" in said.output
    assert json.loads((tmp_path / "merged.json").read_text()) == json.loads(json.dumps(plain))


def test_without_cheap_values_the_samples_are_pooled_to_the_bit(runs: list[Path], tmp_path: Path) -> None:
    """Without a cheap fidelity the merged estimate is that of the values one after the other."""
    study = runs[0].parent / "study.toml"
    more = ["push_forward.cheap=[]", "push_forward.budget=20"]
    places = [tmp_path / f"run-{seed}" for seed in (4, 5)]
    for seed, place in zip((4, 5), places, strict=True):
        launch(study, place, overrides=[f"seed={seed}", *more])
    _, plain = merged(places)
    pooled = Estimator(np.concatenate([found_in(place)["values"] for place in places]))
    if plain["p_equal_means"] >= 0.01:
        assert plain["estimates"]["mean"] == [pooled.mean.value, pooled.mean.low, pooled.mean.high]
    assert plain["estimates"]["variance"] == [pooled.variance.value, pooled.variance.low, pooled.variance.high]


def test_scramblings_of_several_runs_are_scramblings_of_one(runs: list[Path], tmp_path: Path) -> None:
    study = runs[0].parent / "study.toml"
    more = [
        "push_forward.cheap=[]",
        "push_forward.sampler='sobol'",
        "push_forward.budget=32",
        "push_forward.replicates=4",
    ]
    places = [tmp_path / f"run-{seed}" for seed in (6, 7)]
    for seed, place in zip((6, 7), places, strict=True):
        launch(study, place, overrides=[f"seed={seed}", *more])
    _, plain = merged(places)
    each = np.concatenate([np.reshape(found_in(place)["values"], (4, 8)).mean(axis=1) for place in places])
    if plain["p_equal_means"] >= 0.01:
        assert plain["estimates"]["mean"][0] == pytest.approx(each.mean())
    assert plain["samples"] == 64


def test_what_are_no_replicates_is_refused_in_one_sentence(runs: list[Path], tmp_path: Path) -> None:
    study = runs[0].parent / "study.toml"
    launch(study, tmp_path / "other", overrides=["seed=9", "push_forward.budget=12"])
    launch(study, tmp_path / "label", overrides=["campaign='label'"])
    for paths, why in [
        ([runs[0], runs[0]], "have the same samples, of seed 1"),
        ([runs[0], tmp_path / "other"], r"differ in \[push_forward\]"),
        ([runs[0], tmp_path / "label"], "a run of 'label'; runs of 'push-forward' are merged"),
        ([runs[0], tmp_path / "none"], "not a run directory"),
    ]:
        with pytest.raises(RunError, match=why):
            merged(paths)
    (tmp_path / "other" / "summary.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        merged([tmp_path / "other"])


def test_a_runs_state_is_an_exit_code(runs: list[Path], tmp_path: Path) -> None:
    code = CliRunner().invoke(app, ["status", str(runs[0]), "--exit-code"]).exit_code
    assert code == 0
    for state, expected in [("stopped", 75), ("failed", 1), ("running", 76)]:  # of a process that is gone
        folder = tmp_path / state
        folder.mkdir()
        shown = {"state": state, "host": platform.node(), "process": 2**22 + 1}
        (folder / "status.json").write_text(json.dumps(shown))
        assert CliRunner().invoke(app, ["status", str(folder), "--exit-code"]).exit_code == expected
