"""Torture: a solver that does everything to its process, and a job that is killed at any instant."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import Run

pytestmark = pytest.mark.mpi

CRUEL = """
import ctypes, os, sys, time
from dataclasses import dataclass
import numpy as np
import msvae

@dataclass(frozen=True)
class Cruel(msvae.Solver):
    '''Does to its process what the structure's id says: one structure in twenty each, in 140 never ending.'''
    name = "cruel"
    kinds = ("phases",)
    computes = (msvae.Quantity("fraction"),)

    def evaluate(self, structures):
        fault = int(structures.ids[0], 16) % 20
        if fault == 0:
            raise ValueError("no mesh")
        if fault == 1:
            return {"fraction": np.full(1, np.nan)}
        if fault == 2:
            return {"fraction": np.zeros((1, 2))}
        if fault == 3 and int(structures.ids[0], 16) % 7 == 0:
            time.sleep(1000)
        if fault == 4:
            sys.stderr.write("assertion failed in line 7")
            sys.stderr.flush()
            os.abort()
        if fault == 5:
            ctypes.string_at(0)
        if fault == 6:
            np.ones(1 << 30)
        if fault == 7:
            sys.exit(3)
        return {"fraction": structures.fractions[:, 1]}

@msvae.hook
def msvae_solvers():
    return [Cruel]
"""
LABELS = {
    0: ("failed", "ValueError: no mesh"),
    1: ("invalid", "not a finite number"),
    2: ("invalid", "has shape (1, 2)"),
    3: ("timeout", "longer than the 15 s of executor.timeout"),
    4: ("crashed", "SIGABRT (Aborted); it wrote: assertion failed in line 7"),
    5: ("crashed", "SIGSEGV"),
    6: ("crashed", "memory"),
    7: ("crashed", "sys.exit(3)"),
}
STUDY = """
campaign = "label"
plugin_files = ["cruel.py"]
[dataset]
name = "simulated"
count = {count}
shape = [8, 8]
length = [3e-6, 3e-6]
[solver]
name = "{solver}"
[architecture]
name = "perceptron"
[executor]
{executor}
"""


def descendants(pid: int) -> set[int]:
    """Return the processes that a process has started, and those that they have."""
    found, family = set(), [pid]
    for parent in family:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                family.append(int(path.parent.name))
                found.add(int(path.parent.name))
    return found


def alive(pids: set[int]) -> set[int]:
    """Return those of some processes that still run."""
    left = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                left.add(pid)
        except OSError:
            continue
    return left


def ended(pids: set[int], limit: float = 20.0) -> bool:
    """Return whether processes have ended, after some patience."""
    end = time.monotonic() + limit
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pids)


@pytest.mark.parametrize("count", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_evaluations_survive_every_fault_and_each_is_labelled(
    tmp_path: Path, start_job: Callable[..., subprocess.Popen[str]], count: int
) -> None:
    (tmp_path / "cruel.py").write_text(CRUEL)
    executor = 'isolation = "process"\ntimeout = 15.0\nmemory_limit = 0.3'
    (tmp_path / "study.toml").write_text(STUDY.format(count=count, solver="cruel", executor=executor))
    job = start_job(3, "-m", "msvae", "run", "study.toml", "--output", "run", limit=900)
    started: set[int] = set()
    while job.poll() is None:
        started |= descendants(job.pid)
        time.sleep(0.2)
    assert job.returncode == 0, (tmp_path / "job.log").read_text()
    assert ended(started)
    run = Run.open(tmp_path / "run")
    table = run.evaluations
    assert table["index"].tolist() == list(range(count))
    fractions = run.structures.fractions[:, 1]
    seen: Counter[int] = Counter()
    for k, name in enumerate(table["structure"].tolist()):
        fault = int(name, 16) % 20
        if fault == 3 and int(name, 16) % 7:
            fault = 8
        seen[fault] += 1
        status, says = LABELS.get(fault, ("done", ""))
        assert table["status"][k] == status, (fault, table["message"][k])
        assert says in table["message"][k]
        assert table["attempts"][k] == (2 if status == "crashed" else 1) or table["cached"][k]
        expected = fractions[k] if status == "done" else np.nan
        np.testing.assert_array_equal(table.properties["fraction"][k], expected)
    assert min(seen[fault] for fault in LABELS if fault != 3) > count // 40
    assert seen[3]
    log = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["event"] == "campaign done"


COUNTING = """
import os, time
from dataclasses import dataclass
import msvae

@dataclass(frozen=True)
class Counted(msvae.Solver):
    '''Writes down when it has evaluated a structure.'''
    name = "counted"
    kinds = ("phases",)
    computes = (msvae.Quantity("fraction"),)
    log: str = ""
    pause: float = 0.0

    def evaluate(self, structures):
        time.sleep(self.pause)
        with open(self.log, "a") as file:
            file.write(structures.ids[0] + "\\n")
        return {"fraction": structures.fractions[:, 1]}

@msvae.hook
def msvae_solvers():
    return [Counted]
"""


def counting_study(folder: Path, count: int, pause: float) -> Path:
    (folder / "cruel.py").write_text(COUNTING)
    text = STUDY.format(count=count, solver="counted", executor="")
    text = text.replace('name = "counted"', f'name = "counted"\nlog = "{folder}/log"\npause = {pause}')
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


def final_table(run: Run) -> dict[str, Any]:
    """Return what may not depend on who computed it, and when."""
    table = run.evaluations
    columns = {name: table[name] for name in ("index", "structure", "status", "message", "seed", "latents")}
    return {**columns, **table.properties}


@pytest.mark.parametrize("kills", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (10, 100))])
@pytest.mark.parametrize("whom", ["the whole job", "one rank"])
def test_killed_at_random_instants_and_resumed_it_loses_and_repeats_nothing(
    tmp_path: Path, start_job: Callable[..., subprocess.Popen[str]], mpiexec: Callable[..., Any], kills: int, whom: str
) -> None:
    """What was acknowledged before a kill is there after it, and is not evaluated again."""
    if whom == "one rank" and kills > 10:
        pytest.skip("the same code as with the whole job")
    counting_study(tmp_path, count=60 * kills, pause=0.005)
    arguments = ("-m", "msvae", "run", "study.toml", "--output", "run")
    rng = np.random.default_rng(kills)
    before, log = Run(tmp_path / "run").evaluations, tmp_path / "log"
    for k in range(kills):
        job = start_job(3, *arguments, *(["--resume"] if (tmp_path / "run" / "study.toml").exists() else ["--force"]))
        wait_for(job, log, lines=int(rng.integers(0, 60)) if k else 10)
        time.sleep(rng.uniform(0, 0.3))
        family = descendants(job.pid)
        if whom == "one rank":
            workers = [pid for pid in family if "msvae" in command_of(pid)]
            os.kill(int(rng.choice(workers)), signal.SIGKILL) if workers else None
        else:
            for pid in (job.pid, *family):
                os.kill(pid, signal.SIGKILL) if alive({pid}) else None
        job.wait(60)
        assert ended(family)
        after = Run(tmp_path / "run").evaluations
        assert set(before["index"].tolist()) <= set(after["index"].tolist())
        again = set(log.read_text().split()) & set(before["structure"].tolist()) if log.exists() else set()
        assert not again
        log.write_text("")
        before = after
    result = mpiexec(3, *arguments, "--resume", limit=300)
    assert result.returncode == 0, result.stderr
    assert not set(log.read_text().split()) & set(before["structure"].tolist())
    undisturbed = mpiexec(3, *arguments[:-1], "undisturbed", limit=300)
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected = final_table(Run.open(tmp_path / "undisturbed"))
    for name, column in final_table(Run.open(tmp_path / "run")).items():
        np.testing.assert_array_equal(column, expected[name])


def wait_for(job: subprocess.Popen[str], log: Path, lines: int) -> None:
    """Wait until a job has evaluated so many structures, or has ended."""
    while job.poll() is None and (len(log.read_text().splitlines()) if log.exists() else 0) < lines:
        time.sleep(0.005)


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a file system needs root")
def test_a_disk_that_fills_up_ends_the_job_with_one_sentence_and_it_goes_on_with_more_room(
    tmp_path: Path, mpiexec: Callable[..., Any]
) -> None:
    counting_study(tmp_path, count=2000, pause=0.0)
    source = (tmp_path / "cruel.py").read_text()
    source = source.replace('Quantity("fraction")', 'Quantity("fraction", "1", (1500,))')
    (tmp_path / "cruel.py").write_text(source.replace("fractions[:, 1]", "fractions[:, 1:] * [range(1500)]"))
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine may not mount a file system")
    try:
        arguments = ("-m", "msvae", "run", "study.toml", "--output", "disk/run")
        full = mpiexec(3, *arguments)
        assert full.returncode == 2, full.stderr
        assert full.stderr.count("No space left") == 1
        assert "Traceback" not in full.stderr
        before = Run.open(disk / "run").evaluations
        assert 100 < len(before) < 2000
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        (tmp_path / "log").write_text("")
        result = mpiexec(3, *arguments, "--resume")
        assert result.returncode == 0, result.stderr
        table = Run.open(disk / "run").evaluations
        assert table["index"].tolist() == list(range(2000))
        assert not set((tmp_path / "log").read_text().split()) & set(before["structure"].tolist())
    finally:
        subprocess.run(["umount", str(disk)], check=False)
