"""Threads share structures, load cases and grids; what they find is what one thread finds, to the bit."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae_voxelfe.kernels import threads as threads_of

ROOT = Path(__file__).parents[2]
ELASTIC = [{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": 0.0}]
SETTINGS: dict[str, dict[str, Any]] = {
    "conductivity": {"phases": [{"conductivity": 1.0}, {"conductivity": 0.0}]},
    "through-conductivity": {"phases": [{"conductivity": 1.0}, {"conductivity": 0.1}]},
    "elasticity": {"phases": ELASTIC},
    "permeability": {"pores": 0},
    "plasticity": {
        "phases": [{"youngs_modulus": 1.0, "yield_stress": 0.01}, {"youngs_modulus": 0.5}],
        "strains": [0.01, 0.02],
    },
    "periodic-hyperelasticity": {
        "phases": [{"youngs_modulus": 1.0}, {"youngs_modulus": 0.5}],
        "deformation": [[1.1, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        "steps": [1.0],
    },
}

LONG = {  # batches
    "conductivity": 400, "through-conductivity": 400, "elasticity": 150, "permeability": 60, "plasticity": 30,
    "periodic-hyperelasticity": 30,
}  # fmt: skip


def _structures(rng: np.random.Generator, largest: int) -> msvae.Structures:
    shape = rng.integers(4, largest + 1, 3)
    labels = rng.random((rng.integers(1, 4), *shape)) < 0.25
    return msvae.Structures.from_labels(labels.astype(int), 1e-6)


def _stress(monkeypatch: pytest.MonkeyPatch, name: str, batches: int, largest: int) -> None:
    monkeypatch.setattr(threads_of, "SMALL", 0)  # threads, however little there is for them to do
    rng, solver = np.random.default_rng(7), msvae.load_solver(name, **SETTINGS[name])
    for _ in range(batches):
        structures = _structures(rng, largest)
        found = []
        for threads in ("1", "2", "3"):
            monkeypatch.setenv("OMP_NUM_THREADS", threads)
            found.append(solver.evaluate(structures))
        for other in found[1:]:
            for quantity, values in found[0].items():
                np.testing.assert_array_equal(
                    other[quantity], values, err_msg=f"{name} {structures.specification.grid}"
                )


@pytest.mark.parametrize("name", ["conductivity", "through-conductivity", "elasticity", "permeability"])
def test_two_and_three_threads_find_what_one_finds_to_the_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _stress(monkeypatch, name, 4, 24)


@pytest.mark.parametrize("name", ["plasticity", "periodic-hyperelasticity"])
def test_nonlinear_solvers_find_the_same_with_two_and_three_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _stress(monkeypatch, name, 1, 10)


@pytest.mark.parametrize("shape", [(66, 40, 40), (64, 48, 33)])
def test_threads_that_share_one_large_grid_find_what_one_finds_to_the_bit(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads_of, "SMALL", 0)
    labels = (np.random.default_rng(3).random((1, *shape)) < 0.2).astype(int)
    solver = msvae.load_solver("conductivity", phases=SETTINGS["conductivity"]["phases"])
    found = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(solver.evaluate(msvae.Structures.from_labels(labels))["conductivity"])
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


@pytest.mark.parametrize(
    ("running", "quota", "expected"),
    [("1/90", "max 100000", 8), ("4/90", "max 100000", 5), ("20/90", "max 100000", 1), ("1/9", "300000 100000", 3)],
)
def test_threads_are_as_many_as_there_are_idle_processors(
    running: str, quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("RUNNING", f"0.1 0.2 0.3 {running} 4711"), ("CONTAINER", quota)):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(threads_of, name, tmp_path / name)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_of.allowed() == expected
    assert threads_of.allowed(10) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "6,2")
    assert threads_of.allowed() == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SETTINGS))
def test_long_stress_with_two_and_three_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a minute a solver; STRESS=7 in the environment makes it 200 s."""
    linear = name in ("conductivity", "through-conductivity", "elasticity")
    _stress(monkeypatch, name, LONG[name] * int(os.environ.get("STRESS", "1")), 40 if linear else 16)


def _library(name: str) -> str:
    """Return the path of a library of the compiler, or its name alone if it has none."""
    command = ["cc", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@pytest.mark.slow
def test_sanitizers_find_no_error_of_memory_in_the_kernels() -> None:
    preloaded = [_library("libasan.so"), _library("libstdc++.so")]  # which it looks for exceptions in when it is loaded
    if not Path(preloaded[0]).is_file():
        pytest.skip("the compiler has no AddressSanitizer")
    environment = {
        **os.environ,
        "MSVAE_COMPILER_FLAGS": "-O1 -g -fsanitize=address,undefined -fno-sanitize=alignment -fno-omit-frame-pointer",
        "LD_PRELOAD": ":".join(preloaded),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", "tests/voxelfe"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "runtime error" not in done.stderr
