"""The job scripts under a real Slurm: time limits, requeues, killed nodes and arrays (`make test-slurm`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cluster import Cluster, missing
from msvae import Run
from msvae.campaigns.launch import launch
from msvae.campaigns.push_forward.merging import merged
from msvae.sampling.estimators import Estimator

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.skipif(bool(missing()), reason=missing() or "-")]
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "slurm.sh"
BIN = Path(sys.executable).parent
Study = Callable[..., Path]
PUSH_FORWARD = """
[push_forward]
property = "conductivity"
component = [0, 0]
fidelity = "head"
pilot = 10
budget = 40
"""
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("slurm"), count=2, cores=3) as cluster:
        yield cluster


def submitted(
    slurm: Cluster, folder: Path, study: Path, *options: str, more: tuple[str, ...] = (), script: Path = SCRIPT
) -> str:
    """Submit a job of three ranks on one node and return its number; its output is in out.txt.

    options: of sbatch. more: of msvae.
    """
    own = ("--ntasks-per-node=3", f"--output={folder}/out.txt", *options, str(script), str(study), "run", *more)
    return slurm.submit(*own, folder=folder, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")


def columns(run: Path) -> tuple[list[int], np.ndarray]:
    table = Run.open(run).store("label").load()
    order = np.argsort(table["index"])
    return table["index"][order].tolist(), next(iter(table.properties.values()))[order]


def ended(slurm: Cluster, job: str, folder: Path) -> str:
    """Return the state in which a job ends, after however many requeues."""
    try:
        slurm.wait(lambda: slurm.shown(job)["JobState"] in ENDED, patience=400)
    except AssertionError as error:
        said = (folder / "out.txt").read_text() if (folder / "out.txt").exists() else "nothing"
        raise AssertionError(f"job {job} is {slurm.shown(job)['JobState']}; it said {said[-3000:]}") from error
    return slurm.shown(job)["JobState"]


def started(slurm: Cluster, folder: Path, count: int) -> None:
    """Wait until a run has so many evaluations."""

    def has() -> bool:
        run = folder / "run"
        return (run / "study.toml").exists() and len(Run.open(run).store("label").load()) >= count

    slurm.wait(has, patience=300)


def test_a_job_at_its_time_limit_is_requeued_goes_on_and_ends_like_an_undisturbed_one(
    slurm: Cluster, tmp_path: Path, slow_study: Study
) -> None:
    """SIGUSR1 comes 30 to 90 s after it has begun, for Slurm counts in minutes; it has 100 s of work to do."""
    study = slow_study("[executor]\nname = 'mpi'\n")
    job = submitted(slurm, tmp_path, study, "--time=3", "--signal=USR1@90", more=("--set", "solver.pause=8.0"))
    assert ended(slurm, job, tmp_path) == "COMPLETED"
    assert int(slurm.shown(job)["Restarts"]) >= 1
    assert (Run.open(tmp_path / "run").read_json("status.json") or {})["state"] == "done"
    launch(study, tmp_path / "serial", overrides=["executor.name='serial'", "solver.pause=0.0"])
    indices, values = columns(tmp_path / "run")
    assert indices == list(range(24))
    np.testing.assert_array_equal(values, columns(tmp_path / "serial")[1])


def test_a_cancelled_job_ends_at_a_clean_point_and_goes_on_when_it_is_submitted_again(
    slurm: Cluster, tmp_path: Path, slow_study: Study
) -> None:
    study = slow_study("[executor]\nname = 'mpi'\n")
    job = submitted(slurm, tmp_path, study)
    started(slurm, tmp_path, 3)
    slurm.call("scancel", job)
    assert ended(slurm, job, tmp_path) == "CANCELLED"
    before = len(Run.open(tmp_path / "run").store("label").load())
    again = submitted(slurm, tmp_path, study)
    assert ended(slurm, again, tmp_path) == "COMPLETED"
    assert 3 <= before <= 24
    assert columns(tmp_path / "run")[0] == list(range(24))


def test_a_job_whose_node_dies_goes_on_another_one(slurm: Cluster, tmp_path: Path, slow_study: Study) -> None:
    study = slow_study("[executor]\nname = 'mpi'\n")
    job = submitted(slurm, tmp_path, study, more=("--set", "solver.pause=1.0"))
    started(slurm, tmp_path, 4)
    node = slurm.crash(job)
    try:
        assert ended(slurm, job, tmp_path) == "COMPLETED"
    finally:
        slurm.start_node(node)
    assert int(slurm.shown(job)["Restarts"]) >= 1
    assert columns(tmp_path / "run")[0] == list(range(24))


def test_a_daemon_that_is_killed_and_started_again_costs_its_job_nothing(
    slurm: Cluster, tmp_path: Path, slow_study: Study
) -> None:
    study = slow_study("[executor]\nname = 'mpi'\n")
    job = submitted(slurm, tmp_path, study)
    started(slurm, tmp_path, 2)
    node = int(slurm.shown(job)["NodeList"].removeprefix("n"))
    daemon = slurm.daemons.pop(f"slurmd-n{node}")
    daemon.kill()
    daemon.wait()
    slurm.start_node(node)
    assert ended(slurm, job, tmp_path) == "COMPLETED"
    assert columns(tmp_path / "run")[0] == list(range(24))


def test_an_array_of_push_forwards_is_merged_into_one_with_the_pooled_interval(
    slurm: Cluster, tmp_path: Path, study_file: Study
) -> None:
    study, script = study_file("push-forward", PUSH_FORWARD), ROOT / "cluster" / "slurm-array.sh"
    job = submitted(slurm, tmp_path, study, "--ntasks-per-node=1", "--array=1-4", script=script)
    slurm.wait(lambda: not slurm.call("squeue", "-h", "-j", job).strip(), patience=400)
    runs = [tmp_path / f"run-{k}" for k in range(1, 5)]
    values = [json.loads((run / "push_forward.json").read_text())["values"] for run in runs]
    table, plain = merged(runs)
    pooled = Estimator(np.concatenate(values)).mean
    if plain["p_equal_means"] >= 0.01:
        np.testing.assert_allclose(plain["estimates"]["mean"], [pooled.value, pooled.low, pooled.high])
    assert plain["samples"] == 160
    assert "seeds 1, 2, 3, 4" in table.notes[0]


def test_blocks_of_parsl_are_jobs_and_one_that_is_killed_loses_nothing(
    slurm: Cluster, tmp_path: Path, slow_study: Study
) -> None:
    """The campaign runs outside of the jobs; one of two blocks is cancelled while it works."""
    pytest.importorskip("parsl", exc_type=ImportError)
    study = slow_study()
    settings = ["executor.name=parsl", "executor.parsl.provider=slurm", "executor.parsl.blocks=2", "solver.pause=3.0",
                "executor.parsl.workers=1", "executor.parsl.walltime=600.0", "executor.parsl.address=127.0.0.1",
                "executor.parsl.exclusive=false", "executor.retries={}"]  # fmt: skip
    command = [sys.executable, "-m", "msvae", "run", str(study), "--output", "run", "--no-report",
               *(word for text in settings for word in ("--set", text))]  # fmt: skip
    environment = slurm.environment | {"PATH": os.pathsep.join([str(BIN), os.environ["PATH"]])}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as process:  # fmt: skip
        try:
            started(slurm, tmp_path, 3)
            slurm.wait(lambda: len(slurm.call("squeue", "-h", "-t", "R", "-o", "%i").split()) == 2)
            slurm.call("scancel", slurm.call("squeue", "-h", "-t", "R", "-o", "%i").split()[0])
            said, _ = process.communicate(timeout=400)
        finally:
            process.kill()
    assert process.returncode == 0, said
    table = Run.open(tmp_path / "run").store("label").load()
    assert sorted(table["index"].tolist()) == list(range(24))
    assert set(table["status"].tolist()) == {"done"}
