"""`msvae run --dry-run`: counts are those of the run, nothing is left behind, times follow from what was measured."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from msvae import Run, StudyError, TargetError
from msvae.campaigns.launch import launch
from msvae.cli.app import app
from msvae.start.estimate import pilot, rehearsal
from msvae.start.estimate.pilot import Solved
from msvae.start.estimate.plan import Pace, Plan, Step, duration
from msvae.start.estimate.rehearsal import rehearse
from msvae.study import Study

COUNTED = """
import os
from dataclasses import dataclass
from pathlib import Path
import msvae

@dataclass(frozen=True)
class Counted(msvae.Solver):
    '''Writes down every call.'''
    name = "counted"
    kinds = ("phases",)
    computes = (msvae.Quantity("fraction"),)
    fails: bool = False

    def evaluate(self, structures):
        with open(Path(__file__).with_name("calls"), "a") as file:
            file.write(len(structures) * "x")
        value = structures.fractions[:, 1]
        return {"fraction": value * float("nan") if self.fails else value}

@msvae.hook
def msvae_solvers():
    return [Counted]
"""


OWN = """
from dataclasses import dataclass
import msvae

@dataclass(frozen=True)
class Own(msvae.Campaign):
    '''Says what it does.'''
    name = "own"
    prepares = "structures"

    def expects(self, study, seconds):
        return [msvae.Expected("rounds", 40)]

    def run(self, context):
        raise NotImplementedError

@dataclass(frozen=True)
class Silent(msvae.Campaign):
    '''Does not.'''
    name = "silent"

    def run(self, context):
        raise NotImplementedError

@msvae.hook
def msvae_campaigns():
    return [Own, Silent]
"""


def table_of(study: Path, *overrides: str) -> dict[str, tuple[str, ...]]:
    """Return the rows of the plan by their stages."""
    table = rehearse(study, study.parent / "runs" / "run", overrides=overrides)
    assert table is not None
    return {row[0]: row for row in table.rows}


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    (tmp_path / "counted.py").write_text(COUNTED)
    (tmp_path / "study.toml").write_text(
        'plugin_files = ["counted.py"]\ncampaign = "label"\n[dataset]\nname = "simulated"\ncount = 400\n'
        'shape = [4, 4]\n[solver]\nname = "counted"\n'
    )
    return tmp_path / "study.toml"


def test_the_evaluations_are_those_of_the_run(study_file: Callable[..., Path], tmp_path: Path) -> None:
    study = study_file("inverse-design")
    rows = table_of(study)
    assert list(rows) == ["data set", "label", "train", "search", "random control", "total"]
    assert not (tmp_path / "runs").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]
    launch(study, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    done = {stage: len(run.store(stage).load()) for stage in run.stages}
    assert done["label"] == int(rows["label"][2])
    assert done["search-0"] <= int(rows["search"][2])
    assert done["control-0"] <= int(rows["random control"][2])
    assert rows["train"][1].startswith("3 epochs of ")
    assert sum(int(row[2] or 0) for name, row in rows.items() if name != "total") == int(rows["total"][2])


def test_a_limit_of_labels_and_conditions_that_come_with_the_data_are_seen(study_file: Callable[..., Path]) -> None:
    rows = table_of(study_file("label"), "label.limit=5")
    assert (rows["label"][2], "train" in rows) == ("5", False)
    assert "label" not in table_of(study_file("train"), "model.heads=[]")


def test_a_pilot_makes_few_calls_and_leaves_the_cache_alone(counted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = counted.parent / "cache"
    rows = table_of(counted, f"cache.path={cache}")
    calls = len((counted.parent / "calls").read_text())
    assert rows["label"][2] == "400"
    assert 0 < calls <= 1 + pilot.MOST
    assert not cache.exists()


def test_a_solver_that_always_fails_is_said_before_the_run(counted: Path) -> None:
    with pytest.raises(TargetError, match="evaluations of the pilot failed; the first"):
        table_of(counted, "solver.fails=true")


def test_a_wrong_study_is_refused_as_by_a_run(study_file: Callable[..., Path]) -> None:
    with pytest.raises(StudyError, match="did you mean 'conductivity'"):
        table_of(study_file("train"), 'model.heads=["conductivty"]')


def test_times_follow_from_the_pace(study_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a clock: what the pilot measures is given."""
    given = Solved(0.1, 0.05, 100.0, 0.25, {})
    monkeypatch.setattr(rehearsal, "solved", lambda context, structures: given)
    monkeypatch.setattr(rehearsal, "epoch_of", lambda context, structures, known: (2.0, 4_000_000))
    plans = []

    def kept(context: object) -> Plan:
        plans.append(plan_of(context))  # type: ignore[arg-type]
        return plans[-1]

    plan_of = rehearsal.plan_of
    monkeypatch.setattr(rehearsal, "plan_of", kept)
    table_of(study_file("inverse-design"), "training.epochs=10", "design.repeats=2")
    steps = {step.stage: step for step in plans[0].steps}
    assert steps["label"].seconds == pytest.approx(24 * 0.05)
    assert (steps["train"].seconds, steps["train"].at_most) == (20.0, True)
    assert steps["search"].seconds == pytest.approx(2 * 8 * (0.05 + 1.0))  # 8 calls and as many thoughts of 1 s, twice
    assert steps["random control"].evaluations == 8
    assert plans[0].seconds == pytest.approx(sum(step.seconds for step in plans[0].steps))
    assert plans[0].disk > 5 * 4_000_000 + 100.0 * plans[0].evaluations
    assert "25 % of the pilot failed" in "".join(plans[0].table().notes)


def test_plain_candidates_of_a_fast_solver_count(study_file: Callable[..., Path]) -> None:
    study = Study.load(study_file("inverse-design"), ["design.call_seconds=0.01"])
    (search, _) = study.campaign.expects(study, 1.0) or ()
    assert search.evaluations == 8 + 2 * 30  # two rounds of four, and in each what .3 s have room for


def test_what_a_campaign_prepares_and_expects_is_what_is_planned(study_file: Callable[..., Path]) -> None:
    """A campaign of a plugin has the same say as the core's."""
    study = study_file("label")
    (study.parent / "own.py").write_text(OWN)
    text = study.read_text().replace('campaign = "label"', 'plugin_files = ["own.py"]\ncampaign = "own"')
    study.write_text(text)
    rows = table_of(study)
    assert (list(rows), rows["rounds"][2]) == (["data set", "rounds", "total"], "40")
    study.write_text(text.replace('"own"', '"silent"'))
    rows = table_of(study)
    assert list(rows) == ["data set", "label", "train", "total"]
    assert rows["total"][1] == "without the campaign itself"


def test_a_campaign_that_cannot_say_is_left_out_and_named() -> None:
    plan = Plan("x", (Step("data set", "", 0, 1.0),), Pace(1.0), 1, whole=False)
    assert plan.table().rows[-1][:2] == ("total", "without the campaign itself")
    assert [duration(s) for s in (59.0, 60.0, 3600.0, 86400.0)] == ["59.0 s", "1.0 min", "1.0 h", "1.0 d"]


def test_the_command_says_that_nothing_was_kept(counted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = CliRunner().invoke(app, ["run", str(counted), "--dry-run"], catch_exceptions=False)
    assert "nothing was kept; next: msvae run" in result.stdout
    assert not (tmp_path / "runs").exists()
    said = float(result.stdout.split("memory: ")[1].split(" MiB")[0])
    assert said * 2**20 >= 0.99 * before * 1024 or os.uname().sysname == "Darwin"


@pytest.mark.mpi
def test_ranks_share_the_pilot(counted: Path, mpiexec: Callable[..., object]) -> None:
    done = mpiexec(3, "-m", "msvae", "run", str(counted), "--dry-run")
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    assert "on 2 workers" in done.stdout  # type: ignore[attr-defined]
