"""Isolation: whatever a solver does to its process is a failed evaluation, and the next one is right."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import PluginError, Structures
from msvae.dispatch.isolation.isolated import IsolatedSolver
from msvae.dispatch.isolation.processes import resident, without_mpi
from msvae.plugins import files as plugin_files
from msvae.plugins.conformance import example_structures

SOLVER = """
import ctypes, os, signal, subprocess, sys, time
from dataclasses import dataclass
import numpy as np
import msvae

@dataclass(frozen=True)
class Naughty(msvae.Solver):
    '''Does what it is told to, to structures whose first voxel is set.'''
    name = "naughty"
    kinds = ("phases",)
    computes = (msvae.Quantity("fraction"),)
    does: str = ""

    def evaluate(self, structures):
        if structures.values[0].flat[0]:
            exec(self.does)
        return {"fraction": structures.fractions[:, 1]}
"""


@pytest.fixture
def naughty(tmp_path: Path) -> Iterator[Callable[..., IsolatedSolver]]:
    """Yield a function that makes an isolated solver; its processes are ended."""
    path = tmp_path / "naughty.py"
    path.write_text(SOLVER)
    made: list[IsolatedSolver] = []

    def make(does: str, **limits: Any) -> IsolatedSolver:
        made.append(IsolatedSolver(plugin_files.import_file(path).Naughty(does), [str(path)], **limits))
        return made[-1]

    yield make
    for solver in made:
        solver.close()


def good_and_bad() -> tuple[Structures, Structures]:
    structures = example_structures("phases", 2, 20)
    first = structures.values[:, 0, 0, 0]
    return structures[int((first == 0).argmax())], structures[int((first == 1).argmax())]


@pytest.mark.parametrize(
    ("does", "status", "says"),
    [
        ("raise ValueError('no mesh')", "failed", "ValueError: no mesh"),
        ("sys.exit(3)", "crashed", "sys.exit(3)"),
        ("os._exit(4)", "crashed", "exit code 4"),
        ("os.kill(os.getpid(), 9)", "crashed", "SIGKILL"),
        ("print('line 7', file=sys.stderr, flush=True); os.abort()", "crashed", "SIGABRT (Aborted); it wrote: line 7"),
        ("ctypes.string_at(0)", "crashed", "SIGSEGV"),
        ("time.sleep(1000)", "timeout", "longer than the 0.4 s of executor.timeout"),
        ("while True: pass", "timeout", "longer than the 0.4 s"),
        ("[np.ones(1 << 22) for _ in range(1 << 20)]", "crashed", "memory"),
        ("for p in [subprocess.Popen([sys.executable, '-c', 'x = b\"x\" * (350 << 20); import time; time.sleep(9)']) "
         "for _ in '12']: p.wait()", "crashed", "more than the 0.5 GiB of executor.memory_limit"),
    ],
)  # fmt: skip
def test_a_fault_is_labelled_and_the_next_evaluation_is_right(
    naughty: Callable[..., IsolatedSolver], does: str, status: str, says: str
) -> None:
    good, bad = good_and_bad()
    solver = naughty(does, timeout=0.4 if status == "timeout" else 20.0, memory=0.5)
    for structures, expected in ((good, "done"), (bad, status), (bad, status), (good, "done")):
        outcome = solver.evaluate(structures, index=3, rank=2, seed=5)
        assert outcome.status == expected, outcome.message
        assert (outcome.index, outcome.rank, outcome.seed, outcome.structure) == (3, 2, 5, structures.ids[0])
        if expected == "done":
            assert outcome.properties["fraction"] == structures.fractions[0, 1]
        else:
            assert says in outcome.message


def test_nothing_that_a_killed_solver_has_started_is_left(
    naughty: Callable[..., IsolatedSolver], tmp_path: Path
) -> None:
    does = f"p = subprocess.Popen(['sleep', '1000']); open('{tmp_path}/pid', 'w').write(str(p.pid)); time.sleep(1000)"
    solver = naughty(does, timeout=1.0)
    assert solver.evaluate(good_and_bad()[1], index=0).status == "timeout"
    assert_ends(int((tmp_path / "pid").read_text()))


def assert_ends(pid: int) -> None:
    """Wait for the end of a process, which has been killed."""
    for _ in range(500):
        with suppress(OSError):
            if ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                time.sleep(0.02)
                continue
        return
    pytest.fail("the program that the solver had started still runs")


def test_grandchildren_in_sessions_of_their_own_end_with_the_child(
    naughty: Callable[..., IsolatedSolver], tmp_path: Path
) -> None:
    does = (
        f"p = subprocess.Popen(['sh', '-c', 'sleep 1000 & echo $! > {tmp_path}/pid; exit'], start_new_session=True); "
        "p.wait(); os.abort()"
    )
    assert naughty(does).evaluate(good_and_bad()[1], index=0).status == "crashed"
    assert_ends(int((tmp_path / "pid").read_text()))


def test_a_solver_that_forks_gives_every_structure_its_own_answer(naughty: Callable[..., IsolatedSolver]) -> None:
    solver = naughty("os.fork()", timeout=20.0)
    good, bad = good_and_bad()
    for k, structures in enumerate([bad, good, bad, bad, good, good]):
        outcome = solver.evaluate(structures, index=k)
        assert (outcome.status, outcome.index, outcome.structure) == ("done", k, structures.ids[0])
        assert outcome.properties["fraction"] == structures.fractions[0, 1]


def test_what_a_solver_writes_without_an_end_fills_no_disk(naughty: Callable[..., IsolatedSolver]) -> None:
    does = "[os.write(2, b'x' * 79 + b'\\n') for _ in range(1 << 20)]; os.write(2, b'the last line'); os.abort()"
    solver = naughty(does, timeout=60.0)
    outcome = solver.evaluate(good_and_bad()[1], index=0)
    assert outcome.status == "crashed"
    assert outcome.message.endswith("the last line")
    assert len(outcome.message) < 1000
    endless = naughty("while True: os.write(2, b'x' * 80)", timeout=0.5)
    assert endless.evaluate(good_and_bad()[1], index=0).status == "timeout"
    assert endless.evaluate(good_and_bad()[0], index=0).status == "done"


def test_a_child_that_is_stopped_is_given_up(naughty: Callable[..., IsolatedSolver]) -> None:
    solver = naughty("os.kill(os.getpid(), signal.SIGSTOP)", patience=0.5)
    good, bad = good_and_bad()
    outcome = solver.evaluate(bad, index=0)
    assert (outcome.status, "stopped for longer than the 0.5 s" in outcome.message) == ("crashed", True)
    assert solver.evaluate(good, index=1).status == "done"


def test_a_child_that_does_not_read_its_question_is_given_up(naughty: Callable[..., IsolatedSolver]) -> None:
    solver = naughty("", patience=0.5)
    large = Structures.from_labels(np.zeros((1, 128, 128, 128), dtype=int), phases=2)
    assert solver.evaluate(large, index=0).status == "done"
    os.kill(solver.child or 0, signal.SIGSTOP)
    outcome = solver.evaluate(large, index=1)
    assert (outcome.status, "said nothing for 0.5 s" in outcome.message) == ("crashed", True)
    assert solver.evaluate(large, index=2).status == "done"


def test_a_nursery_that_is_stopped_is_given_up(naughty: Callable[..., IsolatedSolver]) -> None:
    solver = naughty("os.abort()", patience=0.5)
    good, bad = good_and_bad()
    assert solver.evaluate(good, index=0).status == "done"
    assert solver.nursery is not None
    frozen = solver.nursery.pid
    os.kill(frozen, signal.SIGSTOP)
    outcome = solver.evaluate(bad, index=0)
    assert (outcome.status, "does not say how" in outcome.message) == ("crashed", True)
    assert solver.evaluate(good, index=1).status == "done"
    assert not Path(f"/proc/{frozen}").exists()
    os.kill(solver.nursery.pid, signal.SIGSTOP)
    solver.close()


def test_a_nursery_that_is_killed_is_replaced(naughty: Callable[..., IsolatedSolver]) -> None:
    solver = naughty("time.sleep(1000)", timeout=20.0)
    good, bad = good_and_bad()
    assert solver.evaluate(good, index=0).status == "done"
    assert solver.nursery is not None
    os.kill(solver.nursery.pid, signal.SIGKILL)
    solver.nursery.wait()
    time.sleep(0.2)  # the child dies with it
    outcomes = [solver.evaluate(good, index=k).status for k in range(3)]
    assert outcomes == ["crashed", "done", "done"]
    threading.Timer(1.0, os.kill, (solver.nursery.pid, signal.SIGKILL)).start()
    lost = solver.evaluate(bad, index=9)
    assert (lost.status, "SIGKILL" in lost.message) == ("crashed", True)
    assert solver.evaluate(good, index=0).status == "done"


def test_closing_ends_the_processes(naughty: Callable[..., IsolatedSolver]) -> None:
    solver = naughty("")
    solver.evaluate(good_and_bad()[0], index=0)
    assert solver.nursery is not None
    processes = [solver.nursery.pid, solver.child or 0]
    assert all(resident(pid) > 0 for pid in processes)
    solver.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    solver.close()


def test_a_solver_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(SOLVER)
    solver = IsolatedSolver(plugin_files.import_file(tmp_path / "late.py").Naughty(""), [str(tmp_path / "absent.py")])
    with pytest.raises(PluginError, match=r"cannot be loaded in a process of its own: .*there is no such file"):
        solver.evaluate(good_and_bad()[0], index=0)
    solver.close()


def test_a_child_starts_clean_of_the_launcher() -> None:
    environment = {"PMI_RANK": "1", "OMPI_COMM_WORLD_SIZE": "3", "PMIX_RANK": "0", "HYDI_CONTROL_FD": "9", "HOME": "/"}
    assert without_mpi(environment) == {"HOME": "/"}
    assert resident(os.getpid()) > 1 << 20
    assert resident(2**22 + 1) == 0
