"""Questions asked as workers become free: none waits, and a search that was killed goes on with the same questions."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import Run, TargetError
from msvae.campaigns.launch import launch
from msvae.dispatch.scheduling import run_asynchronously

UNEQUAL = """
import time
from dataclasses import dataclass
import msvae

@dataclass(frozen=True)
class Unequal(msvae.Solver):
    '''The fraction of phase 1, which takes ten times as long for some structures as for others.'''
    name = "unequal"
    kinds = ("phases",)
    computes = (msvae.Quantity("conductivity", "W/m/K", ("d", "d")),)
    slowest: float = 1.0

    def evaluate(self, structures):
        time.sleep(self.slowest * 10 ** (-(int(structures.ids[0], 16) % 101) / 100))
        return {"conductivity": structures.fractions[:, 1, None, None] * [[1.0, 0.0], [0.0, 2.0]]}

@msvae.hook
def msvae_solvers():
    return [Unequal]
"""
FAR = "design.targets=[{property='conductivity', component=[0, 0], value=2.0, tolerance=0.001}]"  # no fraction is two
SEARCH = ["design.asynchronous=true", "design.guards=false", "design.control_budget=0", FAR]


def slow_study(study_file: Callable[..., Path], slowest: float) -> Path:
    study = study_file("inverse-design")
    (study.parent / "unequal.py").write_text(UNEQUAL)
    text = study.read_text().replace('name = "conductivity"\n', f'name = "unequal"\nslowest = {slowest}\n')
    lines = [line for line in text.splitlines() if not line.startswith("phases")]
    study.write_text('plugin_files = ["unequal.py"]\n' + "\n".join(lines))
    return study


def test_as_many_run_as_are_asked_for_and_each_question_knows_the_answers_before_it() -> None:
    answers: list[int] = []
    known: list[int] = []

    def ask() -> int | None:
        known.append(len(answers))
        return len(known) if len(known) <= 12 else None

    def work(items: Any) -> int:
        time.sleep(0.01 * (items[0] % 3))
        return int(items[0])

    with ThreadPoolExecutor(3) as executor:
        for answer in run_asynchronously(executor, work, ask, under_way=3):
            if answer is not None:
                answers.append(answer)
    assert sorted(answers) == list(range(1, 13))
    assert known[:3] == [0, 0, 0]
    assert known[3:12] == list(range(1, 10))


def test_what_has_not_begun_is_given_up() -> None:
    begun: list[int] = []
    numbers = iter(range(100))

    def work(items: Any) -> int:
        begun.append(items[0])
        time.sleep(0.05)
        return int(items[0])

    with ThreadPoolExecutor(1) as executor:
        until = {"under_way": 8, "until": lambda: len(begun) >= 3}
        found = [a for a in run_asynchronously(executor, work, lambda: next(numbers), **until) if a is not None]
    assert len(begun) < 8
    assert found == begun


def questions(path: Path) -> Any:
    """Return the latents of a search in the order of their questions."""
    return Run.open(path).store("search-0").load().latents


@pytest.mark.parametrize(
    "searcher", ["composite", *(pytest.param(s, marks=pytest.mark.slow) for s in ("random", "gaussian-process"))]
)
def test_a_killed_search_goes_on_with_the_same_questions(
    study_file: Callable[..., Path],
    tmp_path: Path,
    run_command: Callable[..., list[str]],
    killed: Callable[..., None],
    searcher: str,
) -> None:
    study = slow_study(study_file, 0.6)
    more = [*SEARCH, f"design.searcher={searcher}", "design.budget=14", "design.batch=3"]
    stage = tmp_path / "killed" / "evaluations" / "search-0"
    command = run_command(study, tmp_path / "killed", *more, "executor.workers=2")
    killed(command, lambda: len(list(stage.glob("*.h5"))) >= 2)
    before = Run.open(tmp_path / "killed").store("search-0").arrived()
    assert 0 < len(before) < 14
    for name in ("one", "two"):
        shutil.copytree(tmp_path / "killed", tmp_path / name)
        launch(study, tmp_path / name, overrides=[*more, "executor.name=serial"], resume=True)
    np.testing.assert_array_equal(questions(tmp_path / "one"), questions(tmp_path / "two"))
    assert len(questions(tmp_path / "one")) == 14
    kept = Run.open(tmp_path / "one").store("search-0").arrived()
    np.testing.assert_array_equal(kept.latents[: len(before)], before.latents)


@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_budgets_in_core_hours_and_in_time_end_a_search(
    study_file: Callable[..., Path], tmp_path: Path, asynchronous: str
) -> None:
    study = slow_study(study_file, 0.02)
    more = [*SEARCH, f"design.asynchronous={asynchronous}", "design.batch=2"]
    launch(study, tmp_path / "hours", overrides=[*more, "design.core_hours=1e-9"])
    assert len(Run.open(tmp_path / "hours").store("search-0").load()) == 2
    with pytest.raises(TargetError, match="proposed no design"):
        launch(study, tmp_path / "time", overrides=[*more, "design.wall_time=1e-9"])


@pytest.mark.mpi
def test_two_ranks_share_evaluations_that_take_unequally_long(
    study_file: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    study = slow_study(study_file, 0.5)
    more = [*SEARCH, "design.budget=30", "design.batch=4", "design.retrain_every=4"]
    arguments = [part for key in more for part in ("--set", key)]
    found = mpiexec(3, "-m", "msvae", "run", str(study), "--output", "run", *arguments)
    assert found.returncode == 0, found.stderr
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    ended = [e for e in events if e.get("event") == "stage ended" and e["stage"] == "search-0"]
    table = Run.open(tmp_path / "run").store("search-0").load()
    assert set(table["rank"].tolist()) == {1, 2}  # how busy they are is for a benchmark to say
    assert 0 < ended[0]["utilisation"] <= 1
