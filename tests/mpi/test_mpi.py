"""Real MPI jobs: any number of ranks gives the same, and an error ends the job."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import Run, StudyError
from msvae.campaigns.launch import launch
from msvae.dispatch.engines.managers import count, evaluating
from msvae.dispatch.leftovers import remove_leftovers

pytestmark = pytest.mark.mpi


def columns(run: Run, stage: str) -> dict[str, Any]:
    table = run.store(stage).load()
    return {"structure": table["structure"], "latents": table.latents, **table.properties}


@pytest.mark.parametrize("ranks", [(1, 3), pytest.param((2, 4, 5), marks=pytest.mark.slow)])
def test_serial_and_one_to_five_ranks_give_the_same_evaluations_and_table(
    study_file: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any], ranks: tuple[int, ...]
) -> None:
    study = study_file("inverse-design")
    launch(study, tmp_path / "serial")
    serial = Run.open(tmp_path / "serial")
    for n in ranks:
        result = mpiexec(n, "-m", "msvae", "run", str(study), "--output", f"run{n}")
        assert result.returncode == 0, result.stderr
        run = Run.open(tmp_path / f"run{n}")
        for stage in ("label", "search-0", "control-0"):
            for name, column in columns(serial, stage).items():
                np.testing.assert_array_equal(columns(run, stage)[name], column)
        found, expected = (r.read_json("summary.json") for r in (run, serial))
        assert [row[:-1] for row in found["rows"]] == [row[:-1] for row in expected["rows"]]  # the last is wall time
        assert found["notes"] == expected["notes"]
        worked = set(run.evaluations["rank"].tolist())
        assert worked <= ({0} if n == 1 else set(range(1, n)))


@pytest.mark.parametrize("extra", ["", pytest.param("free_bits = 0.2\n", marks=pytest.mark.slow)])
def test_two_ranks_train_like_one_with_twice_the_batch(
    study_file: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any], extra: str
) -> None:
    """24 structures, 19 to train on: the last batch is shared unevenly."""
    study = study_file("train")
    study.write_text(study.read_text().replace("[training]\n", f"{extra}[training]\n"))
    launch(study, tmp_path / "one")
    result = mpiexec(2, "-m", "msvae", "run", str(study), "--output", "two", "--set", "training.ranks=2", "--set",
                     "training.batch_size=4", "--set", "training.checkpoint_minutes=0")  # fmt: skip
    assert result.returncode == 0, result.stderr
    histories = [Run.open(tmp_path / name).read_json("training.json") for name in ("one", "two")]
    for one, two in zip(*histories, strict=True):
        assert one.keys() == two.keys()
        np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=1e-4, atol=1e-5)
    result = mpiexec(2, "-m", "msvae", "run", str(study), "--output", "three", "--set", "training.ranks=3")
    assert result.returncode == 2
    assert "training.ranks: 3 processes cannot train together, there are 2" in result.stderr


def test_an_exception_on_any_rank_ends_the_job_at_once(mpiexec: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text('plugin_files = ["p.py"]\ncampaign = "label"\n[dataset]\nname = "simulated"\n')
    (tmp_path / "p.py").write_text(
        "from mpi4py import MPI\nif MPI.COMM_WORLD.rank == 1:\n    raise KeyboardInterrupt\n"
    )
    result = mpiexec(3, "-m", "msvae", "run", "study.toml", limit=60)
    assert result.returncode != 0
    assert "timed out" not in (result.stderr + result.stdout).lower()


def test_a_mistake_under_mpi_is_one_sentence_and_exit_code_two(mpiexec: Callable[..., Any]) -> None:
    result = mpiexec(3, "-m", "msvae", "run", "absent.toml")
    assert result.returncode == 2
    assert result.stderr.count("cannot be read") == 1
    assert "Traceback" not in result.stderr


def test_only_rank_zero_scans_the_entry_points(mpiexec: Callable[..., Any]) -> None:
    code = (
        "import importlib.metadata as m, sys\nfrom mpi4py import MPI\nfrom msvae import plugins\n"
        "from msvae.plugins import registration\n"
        "calls = []\nreal = registration.entry_points\n"
        "registration.entry_points = lambda **k: calls.append(1) or real(**k)\n"
        "from msvae.dispatch.world import share_plugins\nshare_plugins()\n"
        "assert len(calls) == (MPI.COMM_WORLD.rank == 0), calls\n"
        "assert len(plugins.registry().loaded) >= 8\n"
    )
    result = mpiexec(3, "-c", code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("driver", ["label", "train", "inverse_design"])
def test_every_driver_runs_under_mpi(
    driver: str, study_file: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    script = Path(__file__).parents[2] / "drivers" / f"{driver}.py"
    assert len(script.read_text().splitlines()) < 30
    study = study_file("inverse-design")
    result = mpiexec(2, str(script), str(study), "run", "--set", "dataset.count=20")
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert len(Run.open(tmp_path / "run").structures) == 20


@pytest.mark.parametrize("end", ["MPI.COMM_WORLD.Abort(3)", "os.kill(os.getpid(), 9)", "sys.exit(3)"])
def test_a_job_leaves_no_shared_memory_behind_whatever_ends_it(
    mpiexec: Callable[..., Any], tmp_path: Path, end: str, launcher: str
) -> None:
    """MPICH leaves its segment, and a job that is started again under the same number fails in MPI_Init."""
    lines = [
        "import os, sys",
        "from pathlib import Path",
        "from mpi4py import MPI",
        "from msvae.dispatch import world",
        "maps = Path('/proc/self/maps')",
        "names = {line.split()[-1] for line in maps.read_text().splitlines() if '/dev/shm/' in line}",
        "world.tidy()",
        "assert MPI.COMM_WORLD.allreduce(1) == 2",
        "if MPI.COMM_WORLD.Get_rank() == 0:",
        "    Path('segments').write_text('\\n'.join(names))",
        f"    {end}",
        "MPI.COMM_WORLD.Barrier()",
    ]
    (tmp_path / "ends.py").write_text("\n".join(lines))
    assert mpiexec(2, "ends.py").returncode != 0
    segments = (tmp_path / "segments").read_text().split()
    assert segments or "openmpi" in launcher
    assert not [segment for segment in segments if Path(segment).exists()]


def test_topology_files_go_once_their_launcher_is_gone(
    mpiexec: Callable[..., Any], tmp_path: Path, launcher: str
) -> None:
    """A file that is younger than a launcher that runs may be that one's."""
    if "openmpi" in launcher:
        pytest.skip("MPICH's launcher writes them")
    for name, age in (("old", 10_000), ("young", -10)):
        file = tmp_path / f"hydra_hwloc_xmlfile_{name}"
        file.touch()
        os.utime(file, (time.time() - age, time.time() - age))
    (tmp_path / "clears.py").write_text(
        "from pathlib import Path\nfrom mpi4py import MPI\nfrom msvae.dispatch.leftovers import remove_leftovers\n"
        "if MPI.COMM_WORLD.Get_rank() == 0:\n    remove_leftovers(Path.cwd())\n"
    )
    assert mpiexec(2, "clears.py").returncode == 0
    assert [file.name for file in tmp_path.glob("hydra*")] == ["hydra_hwloc_xmlfile_young"]


def test_what_dead_jobs_have_left_in_shared_memory_is_removed(tmp_path: Path) -> None:
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    names = {
        "mpich_shm_old_0": True, "mpich_shm_young_0": False, "somebody_elses": False,
        f"sem.loky-{gone}-abc": True, f"sem.loky-{os.getpid()}-abc": False,
    }  # fmt: skip
    for name in names:
        (tmp_path / name).touch()
        age = 0 if "young" in name else 1000
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    remove_leftovers(tmp_path, tmp_path)
    assert {name for name in names if not (tmp_path / name).exists()} == {name for name, goes in names.items() if goes}


def test_leaders_of_teams_give_the_evaluations_of_one_manager(
    study_file: Callable[..., Path], tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    """Seven ranks: the manager, two leaders and two workers for each; leaders evaluate nothing. It resumes."""
    study = study_file("label")
    launch(study, tmp_path / "serial")
    serial, more = Run.open(tmp_path / "serial"), ("--set", "executor.managers=2", "--no-report")
    for resume in ((), ("--resume",)):
        result = mpiexec(7, "-m", "msvae", "run", str(study), "--output", "teams", *more, *resume)
        assert result.returncode == 0, result.stderr
        if not resume:
            shutil.rmtree(tmp_path / "teams" / "evaluations" / "label")
    teams = Run.open(tmp_path / "teams")
    first, second = (np.argsort(run.store("label").load()["index"]) for run in (serial, teams))
    for name, column in columns(serial, "label").items():
        np.testing.assert_array_equal(columns(teams, "label")[name][second], column[first])
    assert set(teams.evaluations["rank"].tolist()) <= {2, 3, 5, 6}


def test_a_team_does_not_do_what_it_cannot(study_file: Callable[..., Path], tmp_path: Path) -> None:
    for more, why in [
        (["executor.patience=5.0"], "executor.patience"),
        (["executor.ranks_per_solver=2"], "executor.ranks_per_solver"),
        (["campaign='inverse-design'", "design.asynchronous=true"], "leave out executor.managers, or"),
    ]:
        with pytest.raises(StudyError, match=why):
            launch(study_file("inverse-design"), tmp_path / "run", overrides=["executor.managers=2", *more])
    assert (count(7, 4), count(64, 4), count(3, 4)) == (2, 4, 1)
    assert (evaluating(7, 4), evaluating(64, 4), evaluating(100_000, 300)) == (4, 59, 99_699)
