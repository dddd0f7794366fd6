"""Workers that are lost: frozen ones, groups one rank of which fails alone, and evaluations that end their job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msvae import Run
from msvae.campaigns.launch import launch

pytestmark = pytest.mark.mpi

SOLVER = """
import ctypes, os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
import msvae
from msvae.dispatch import groups

groups.GRACE = 0.5

@dataclass(frozen=True)
class Fragile(msvae.Solver):
    '''Does something to the process that evaluates the structure with this id's end; on rank 1, of a group.'''
    name = "fragile"
    kinds = ("phases",)
    computes = (msvae.Quantity("fraction"),)
    victim: str = ""
    does: str = ""
    ranks: int = 1
    pause: float = 0.02

    def evaluate(self, structures):
        time.sleep(self.pause)
        if structures.ids[0] == self.victim:
            exec(self.does)
        return {"fraction": structures.fractions[:, 1]}

    def evaluate_on(self, communicator, structures):
        if structures.ids[0] == self.victim and communicator.Get_rank() == 1:
            exec(self.does)
        communicator.barrier()
        return {"fraction": structures.fractions[:, 1]}

@msvae.hook
def msvae_solvers():
    return [Fragile]
"""
FREEZE = "mark = Path({!r}); mark.exists() or (mark.touch(), os.kill(os.getpid(), signal.SIGSTOP))"


@pytest.fixture
def fragile(study_file: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """Return a function that writes a study whose solver does something to one structure; and that one's id."""

    def write(does: str, extra: str = "", ranks: int = 1) -> tuple[Path, str]:
        launch(study_file("label"), tmp_path / "first")
        victim = Run.open(tmp_path / "first").structures.ids[11]
        (tmp_path / "fragile.py").write_text(SOLVER)
        study = study_file("label", extra)
        settings = f'name = "fragile"\nvictim = "{victim}"\ndoes = {json.dumps(does)}\nranks = {ranks}\n#'
        text = study.read_text().replace('name = "conductivity"\nphases', settings)
        study.write_text('plugin_files = ["fragile.py"]\n' + text.replace('heads = ["conductivity"]', ""))
        return study, victim

    return write


def _assert_all_but(run: Path, victim: str, status: str, says: str) -> None:
    table = Run.open(run).evaluations
    assert sorted(table["index"].tolist()) == list(range(24))
    for name, found, message in zip(table["structure"], table["status"], table["message"], strict=True):
        if name != victim:
            assert found == "done", message
        else:
            assert (found, says in message) == (status, True), message


def _lost_workers(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "worker lost"]


def test_what_a_frozen_rank_had_goes_to_others_and_the_run_ends(
    fragile: Callable[..., tuple[Path, str]], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    study, victim = fragile(FREEZE.format(str(tmp_path / "mark")), "[executor]\npatience = 2.0\n")
    result = mpiexec(4, "-m", "msvae", "run", str(study), "--output", "run")
    assert result.returncode == 0, result.stderr
    assert "Properties of 24 structures" in result.stdout
    _assert_all_but(tmp_path / "run", victim, "done", "")
    (lost,) = _lost_workers(tmp_path / "run")
    assert lost["rank"] in (1, 2, 3)
    assert f"rank {lost['rank']} (process {lost['process']} on {lost['host']})" in " ".join(result.stderr.split())
    assert not (tmp_path / "run" / "workers").exists()
    assert not (tmp_path / "run" / "run.lock").exists()


@pytest.mark.slow
def test_an_evaluation_that_freezes_every_rank_is_a_failure(
    fragile: Callable[..., tuple[Path, str]], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    study, victim = fragile("os.kill(os.getpid(), signal.SIGSTOP)", "[executor]\npatience = 1.5\n")
    result = mpiexec(5, "-m", "msvae", "run", str(study), "--output", "run")
    assert result.returncode == 0, result.stderr
    _assert_all_but(tmp_path / "run", victim, "crashed", "fell silent, as another before")


@pytest.mark.slow
def test_the_last_rank_that_freezes_ends_the_job_in_a_sentence(
    fragile: Callable[..., tuple[Path, str]], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    study, victim = fragile(FREEZE.format(str(tmp_path / "mark")), "[executor]\npatience = 1.5\n")
    result = mpiexec(2, "-m", "msvae", "run", str(study), "--output", "run")
    assert result.returncode == 2, result.stderr
    assert "no worker is left: rank 1" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert mpiexec(2, "-m", "msvae", "run", str(study), "--output", "run", "--resume").returncode == 0
    _assert_all_but(tmp_path / "run", victim, "done", "")


def test_what_a_frozen_process_of_a_pool_had_goes_to_others(
    fragile: Callable[..., tuple[Path, str]], tmp_path: Path
) -> None:
    study, victim = fragile(FREEZE.format(str(tmp_path / "mark")), "[executor]\npatience = 2.0\nworkers = 3\n")
    launch(study, tmp_path / "run")
    _assert_all_but(tmp_path / "run", victim, "done", "")
    (lost,) = _lost_workers(tmp_path / "run")
    assert not Path(f"/proc/{lost['process']}").exists()


@pytest.mark.parametrize("ranks", [5, pytest.param(7, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "does", ["raise ValueError('no mesh here')", pytest.param("sys.exit(3)", marks=pytest.mark.slow)]
)
def test_a_group_one_rank_of_which_fails_alone_is_given_up_and_the_others_go_on(
    fragile: Callable[..., tuple[Path, str]], tmp_path: Path, mpiexec: Callable[..., Any], does: str, ranks: int
) -> None:
    study, victim = fragile(does, ranks=2)
    result = mpiexec(ranks, "-m", "msvae", "run", str(study), "--output", "run")
    assert result.returncode == 0, result.stderr
    says = "ValueError: no mesh here" if "raise" in does else "SystemExit: 3"
    _assert_all_but(tmp_path / "run", victim, "failed", says)


def test_a_group_that_takes_longer_than_the_timeout_is_given_up(
    fragile: Callable[..., tuple[Path, str]], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    study, victim = fragile("time.sleep(1000)", "[executor]\ntimeout = 1.5\n", ranks=2)
    result = mpiexec(5, "-m", "msvae", "run", str(study), "--output", "run")
    assert result.returncode == 0, result.stderr
    _assert_all_but(tmp_path / "run", victim, "timeout", "took longer than the 1.5 s of executor.timeout")
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (failed,) = [event for event in events if event["event"] == "evaluation failed"]
    assert (failed["structure"], failed["status"]) == (victim, "timeout")


@pytest.mark.parametrize(
    ("does", "code", "status", "says"),
    [
        pytest.param(
            "raise ValueError('no mesh here')", 2, "failed", "ValueError: no mesh here", marks=pytest.mark.slow
        ),
        ("ctypes.string_at(0)", None, "crashed", "Segmentation fault"),
        pytest.param("os._exit(3)", None, "crashed", "os._exit(3) was called", marks=pytest.mark.slow),
    ],
)
def test_what_ends_the_only_group_is_labelled_and_one_resume_does_the_rest(
    fragile: Callable[..., tuple[Path, str]], tmp_path: Path, mpiexec: Callable[..., Any],
    does: str, code: int | None, status: str, says: str,
) -> None:  # fmt: skip
    study, victim = fragile(does, ranks=2)
    result = mpiexec(3, "-m", "msvae", "run", str(study), "--output", "run")
    assert result.returncode == code or (code is None and result.returncode != 0), result.stderr
    again = mpiexec(3, "-m", "msvae", "run", str(study), "--output", "run", "--resume")
    assert again.returncode == 0, again.stderr
    _assert_all_but(tmp_path / "run", victim, status, says)


@pytest.mark.slow
def test_an_evaluation_with_which_two_jobs_died_is_not_tried_a_third_time(
    fragile: Callable[..., tuple[Path, str]], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    study, victim = fragile("os.kill(os.getpid(), signal.SIGKILL)", ranks=2)
    for resume in ([], ["--resume"], ["--resume"]):
        result = mpiexec(3, "-m", "msvae", "run", str(study), "--output", "run", *resume)
    assert result.returncode == 0, result.stderr
    _assert_all_but(tmp_path / "run", victim, "crashed", "2 died while it was under way")
