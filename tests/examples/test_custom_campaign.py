"""A campaign of a third party, installed with pip: run over ranks, killed, resumed, reported, described."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from msvae import Run

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_campaign"

pytestmark = pytest.mark.mpi


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", *arguments]
    return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return the example's study, which does without the file, as the package is installed."""
    file = tmp_path / "study.toml"
    file.write_text(re.sub("plugin_files.*\n", "", (EXAMPLE / "study.toml").read_text()))
    return file


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("packages")
    shutil.copytree(EXAMPLE, folder / "custom_campaign")
    options = ["--quiet", "--no-deps", "--no-build-isolation"]
    done = command("pip", "install", *options, str(folder / "custom_campaign"), cwd=folder)
    assert done.returncode == 0, done.stderr
    yield
    command("pip", "uninstall", "--quiet", "--yes", "msvae-evolution-strategy", cwd=folder)


def test_the_example_has_fewer_than_sixty_lines() -> None:
    assert len((EXAMPLE / "evolution_strategy.py").read_text().splitlines()) < 60


@pytest.mark.slow
def test_it_runs_over_ranks_and_a_killed_one_goes_on_to_the_same_end(
    tmp_path: Path,
    study: Path,
    start_job: Callable[..., subprocess.Popen[str]],
    mpiexec: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    arguments = ["-m", "msvae", "run", str(study), "--set", "evolution_strategy.rounds=6", "--set", "training.epochs=3"]
    arguments += ["--set", "dataset.count=24", "--set", "dataset.shape=[8, 8]", "--output"]
    job = start_job(3, *arguments, "killed")
    while not (tmp_path / "killed" / "evaluations" / "evolution-strategy").exists():
        assert job.poll() is None, (tmp_path / "job.log").read_text()
        time.sleep(0.02)
    job.kill()
    job.wait()
    whole = command(*arguments[1:], "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    resumed = mpiexec(3, *arguments, "killed", "--resume", "--report")
    assert resumed.returncode == 0, resumed.stderr
    tables = [Run.open(tmp_path / name).read_json("summary.json") for name in ("whole", "killed")]
    assert [table["rows"] for table in tables[1:]] == [table["rows"] for table in tables[:-1]]
    assert tables[0]["columns"] == ["after", "largest"]
    assert float(tables[0]["rows"][-1][1]) >= float(tables[0]["rows"][0][1]) > 0
    found = Run.open(tmp_path / "killed").store("evolution-strategy").load()
    np.testing.assert_array_equal(found["index"], np.arange(48))
    assert (tmp_path / "killed" / "figures" / "evolution-strategy.png").stat().st_size > 5000


def test_its_keys_are_described_and_a_misspelt_one_is_said_like_one_of_the_core(tmp_path: Path, study: Path) -> None:
    schema = json.loads(command("msvae", "study", "schema", cwd=tmp_path).stdout)
    assert (
        schema["properties"]["evolution_strategy"]["properties"]["rounds"]["description"] == "of solving and sampling."
    )
    said = []
    for key in ("evolution_strategy.ruonds", "training.epohcs"):
        done = command("msvae", "run", str(study), "--set", f"{key}=3", cwd=tmp_path)
        assert done.returncode == 2
        said.append(done.stderr.strip().replace("\n", " "))
    assert (
        "evolution_strategy.ruonds: unknown key - did you mean 'rounds'? (known: children, of, parents, rounds, spread)"
        in said[0]
    )
    assert "training.epohcs: unknown key - did you mean 'epochs'? (known: batch_size," in said[1]
    done = command("msvae", "plugin", "check", "evolution-strategy", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
