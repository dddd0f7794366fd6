"""Policies: what is tried again, what is never paid for twice, who is told, and when a campaign gives up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import msvae
from msvae import MsvaeError
from msvae.campaigns.launch import launch
from msvae.dispatch import known
from msvae.files.structures import structures_to_bytes
from msvae.run.cache import solver_key
from msvae.run.directory import Run

FLAKY = """
import os
from dataclasses import dataclass
from pathlib import Path
import msvae

@dataclass(frozen=True)
class Flaky(msvae.Solver):
    '''Fails until it has been called often enough.'''
    name = "flaky"
    kinds = ("phases",)
    computes = (msvae.Quantity("fraction"),)
    calls: int = 0

    def evaluate(self, structures):
        with open(os.environ["MSVAE_TEST_LOG"], "a") as file:
            file.write(structures.ids[0] + "\\n")
        if len(Path(os.environ["MSVAE_TEST_LOG"]).read_text().split()) <= self.calls:
            raise RuntimeError("no licence")
        return {"fraction": structures.fractions[:, 1]}

    def expected_costs(self, structures):
        return structures.fractions[:, 1]

@msvae.hook
def msvae_solvers():
    return [Flaky]

@msvae.hook
def msvae_evaluated(evaluation):
    if evaluation.index == 5:
        raise ValueError("an observer may fail")
    with open(os.environ["MSVAE_TEST_SEEN"], "a") as file:
        file.write(f"{evaluation.index} {evaluation.status}\\n")
"""


@pytest.fixture
def flaky(study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes a study whose solver fails the first few times, and is observed."""
    monkeypatch.setenv("MSVAE_TEST_SEEN", str(tmp_path / "seen"))
    monkeypatch.setenv("MSVAE_TEST_LOG", str(tmp_path / "log"))

    def write(calls: int, extra: str = "") -> Path:
        (tmp_path / "flaky.py").write_text(FLAKY)
        study = study_file("label", extra)
        text = study.read_text().replace('name = "conductivity"\nphases', f'name = "flaky"\ncalls = {calls}\n#')
        study.write_text('plugin_files = ["flaky.py"]\n' + text.replace('heads = ["conductivity"]', ""))
        return study

    return write


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_what_failed_is_tried_again_as_often_as_the_study_says(flaky: Callable[..., Path], tmp_path: Path) -> None:
    launch(flaky(2, "[executor.retries]\nfailed = 2\n"), tmp_path / "run")
    table = Run.open(tmp_path / "run").evaluations
    assert table.done.all()
    assert sorted(table["attempts"].tolist()) == [1] * 23 + [3]


def test_long_evaluations_start_first(flaky: Callable[..., Path], tmp_path: Path) -> None:
    launch(flaky(0), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    fractions = dict(zip(run.structures.ids, run.structures.fractions[:, 1], strict=True))
    costs = [fractions[name] for name in lines(tmp_path / "log")]
    assert costs == sorted(costs, reverse=True)


def test_observers_see_what_was_acknowledged_and_disturb_nothing(
    flaky: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    launch(flaky(1), tmp_path / "run")
    expected = [f"{e.index} {e.status}" for e in Run.open(tmp_path / "run").evaluations if e.index != 5]
    assert sorted(lines(tmp_path / "seen")) == sorted(expected)
    assert "raised in msvae_evaluated: ValueError('an observer may fail')" in caplog.text


def test_after_too_many_failures_it_gives_up_and_keeps_what_it_has(flaky: Callable[..., Path], tmp_path: Path) -> None:
    study = flaky(1000, "[executor]\nmax_failures = 3\n")
    with pytest.raises(MsvaeError, match=r"over executor\.max_failures = 3.*log\.jsonl"):
        launch(study, tmp_path / "run")
    assert len(Run.open(tmp_path / "run").evaluations) > 3
    log = [json.loads(line) for line in lines(tmp_path / "run" / "log.jsonl")]
    assert {"RuntimeError: no licence"} == {line["message"] for line in log if line["event"] == "evaluation failed"}


def test_failures_are_made_again_on_request_when_a_run_goes_on(flaky: Callable[..., Path], tmp_path: Path) -> None:
    study = flaky(5)
    launch(study, tmp_path / "run")
    assert (~Run.open(tmp_path / "run").evaluations.done).sum() == 5
    launch(study, tmp_path / "run", resume=True)
    assert len(lines(tmp_path / "log")) == 24
    launch(study, tmp_path / "run", resume=True, retry=["timeout"])
    assert len(lines(tmp_path / "log")) == 24
    (tmp_path / "log").write_text("")  # it will fail again
    launch(study, tmp_path / "run", resume=True, retry=["failed"])
    assert (~Run.open(tmp_path / "run").evaluations.done).sum() == 5
    launch(study, tmp_path / "run", resume=True, retry=["failed"])
    table = Run.open(tmp_path / "run").evaluations
    assert len(lines(tmp_path / "log")) == 10
    assert table.done.all()
    assert table["index"].tolist() == list(range(24))


def test_a_structure_is_never_paid_for_twice(flaky: Callable[..., Path], tmp_path: Path) -> None:
    """Not within a run, and not in another run that shares a cache; another solver's settings are another key."""
    image = np.tile(np.random.default_rng(0).integers(0, 2, (4, 8, 8)), (3, 1, 1))
    structures = msvae.Structures.from_labels(image, 1e-6)
    (tmp_path / "twelve.h5").write_bytes(structures_to_bytes(structures))
    study = flaky(0, f'[cache]\npath = "{tmp_path}/cache"\n')
    overrides = [f"dataset={{name='hdf5', path='{tmp_path}/twelve.h5'}}"]
    for name in ("one", "two"):
        launch(study, tmp_path / name, overrides=overrides)
        assert len(lines(tmp_path / "log")) == 4
        table = Run.open(tmp_path / name).evaluations
        np.testing.assert_array_equal(table.properties["fraction"], structures.fractions[:, 1])
        assert table["cached"].sum() == (8 if name == "one" else 12)
    launch(study, tmp_path / "three", overrides=[*overrides, "solver.calls=-1"])
    assert len(lines(tmp_path / "log")) == 8
    launch(study, tmp_path / "three", overrides=[*overrides, "solver.calls=-1"], resume=True)
    for file in (tmp_path / "cache").rglob("*.h5"):
        file.write_bytes(b"damaged")
    known._solved_in.cache_clear()
    known.known_in.cache_clear()
    launch(study, tmp_path / "four", overrides=overrides)
    assert len(lines(tmp_path / "log")) == 12


def test_a_file_that_the_settings_name_is_part_of_what_the_cache_knows(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    """A potential that was changed is another potential, though it has the same name."""
    potential = tmp_path / "potential"
    keys = []
    for content in ("one", "two", "one"):
        potential.write_text(content)
        settings = f"solver={{name='lammps-energy', potential='{potential}'}}"
        keys.append(solver_key(msvae.Study.load(study_file(), [settings, "model.heads=[]"])))
    assert keys[0] == keys[2] != keys[1]


def test_a_run_that_replaces_another_in_one_process_knows_nothing_of_it(
    study_file: Callable[..., Path], tmp_path: Path
) -> None:
    """What a process has loaded of a run is not what stands at the same paths after --force."""
    study = study_file("inverse-design")
    tables = []
    for k, factor in enumerate((10.0, 20.0, 20.0)):
        phases = f"solver.phases=[{{conductivity=1.0}}, {{conductivity={factor}}}]"
        launch(study, tmp_path / ("fresh" if k == 2 else "run"), force=k == 1, overrides=[phases])
        run = Run.open(tmp_path / ("fresh" if k == 2 else "run"))
        tables.append({stage: run.store(stage).load().properties["conductivity"] for stage in run.stages})
    assert not np.array_equal(tables[0]["label"], tables[1]["label"])
    for stage, expected in tables[2].items():
        np.testing.assert_array_equal(tables[1][stage], expected)


@pytest.mark.parametrize("extra", ["", '[executor]\nisolation = "process"\n', "[executor]\nworkers = 2\n"])
def test_where_a_solver_raised_stands_in_the_log(flaky: Callable[..., Path], tmp_path: Path, extra: str) -> None:
    launch(flaky(3, extra), tmp_path / "run")
    events = [json.loads(line) for line in lines(tmp_path / "run" / "log.jsonl")]
    traces = [event for event in events if event["event"] == "traceback"]
    failed = [event for event in events if event["event"] == "evaluation failed"]
    assert {event["index"] for event in traces} == {event["index"] for event in failed}
    assert len(failed) == 3
    assert all('raise RuntimeError("no licence")' in event["traceback"] for event in traces)
