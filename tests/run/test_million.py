"""A store with a million evaluations: fast to write, fast to open, small in memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from msvae import Quantity
from msvae.run.store import EvaluationStore
from msvae.structures.evaluations import Evaluations

READ = """
import sys, time
from pathlib import Path
from msvae.run.store import EvaluationStore
start = time.perf_counter()
table = EvaluationStore(Path(sys.argv[1])).load()
chosen = table.where(table.done & (table.properties["k"] > 5e5))
seconds = time.perf_counter() - start
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(len(table), len(chosen), seconds, int(peak) / 1024, "torch" in sys.modules)
"""


def rows(first: int, n: int) -> Evaluations:
    """Return evaluations, one in fifty of which failed with a message of its own."""
    index = np.arange(first, first + n)
    failed = index % 50 == 0
    return Evaluations(
        {
            "index": index,
            "structure": np.array([f"{k * 2654435761 % 2**64:016x}" for k in index.tolist()]),
            "status": np.where(failed, "failed", "done").astype(object),
            "message": np.array([f"no convergence at {k}" if k % 50 == 0 else "" for k in index], dtype=object),
            "cost": np.full(n, 1e-3),
            "seed": index.astype(np.uint64),
            "rank": (index % 64).astype(np.int32),
            "iterations": np.zeros(n, dtype=np.int64),
            "attempts": np.ones(n, dtype=np.int32),
            "cached": np.zeros(n, dtype=bool),
            "latents": np.random.default_rng(first).standard_normal((n, 4)),
        },
        {"k": index.astype(float)},
    )


@pytest.mark.slow
def test_a_million_evaluations_are_written_opened_and_filtered(tmp_path: Path) -> None:
    """The figures are printed (pytest -s), for what they are depends on the machine; what they need does not."""
    store = EvaluationStore(tmp_path / "s", [Quantity("k", "W/m/K")], {"solver": "x 1234", "study": "ab" * 32})
    tables = [rows(first, 2000) for first in range(0, 1_000_000, 2000)]
    start = time.perf_counter()
    for table in tables:
        store.append(table)
    print(f"\n{1e6 / (time.perf_counter() - start):.0f} evaluations a second written")
    command = [sys.executable, "-c", READ, str(tmp_path / "s")]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    total, chosen, seconds, mebibytes, torch = result.stdout.split()
    print(f"opened and filtered in {float(seconds):.2f} s with {float(mebibytes):.0f} MiB")
    assert (int(total), int(chosen), torch) == (1_000_000, 490_000, "False")
    assert float(mebibytes) < 500
    assert len(store.files) < 40
