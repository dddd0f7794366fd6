"""What `msvae run --dry-run` says of a study's wall time, and how long the run then takes, one after the other.

python benchmarks/dry_run.py [STUDY] [RANKS] [KEY=VALUE ...]    # by default the demo on 3 ranks
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def job(study: Path, ranks: int, output: Path, *more: str) -> tuple[str, float]:
    """Return what a run prints, and its wall time in s, start and end of the processes included."""
    command = [sys.executable, "-m", "mpi4py", "-m", "msvae", "run", str(study), "--output", str(output), *more]
    if ranks > 1:
        beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = [str(shutil.which("mpiexec", path=beside)), "-n", str(ranks), *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "200"}
    start = time.perf_counter()
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    return done.stdout, time.perf_counter() - start


def main() -> None:
    """Print the plan, both times and their ratio."""
    study = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "examples" / "demo" / "study.toml"
    ranks = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    settings = [part for text in sys.argv[3:] for part in ("--set", text)]
    with tempfile.TemporaryDirectory() as folder:
        plan, pilot = job(study, ranks, Path(folder) / "run", "--dry-run", *settings)
        print(plan)
        row = next(line for line in plan.splitlines() if re.match(r"\W+total\b", line))
        value, unit = re.findall(r"([\d.]+) (s|min|h|d)\b", row)[-1]
        said = float(value) * SECONDS[unit]
        print(f"load average before the run: {os.getloadavg()[0]:.1f}")
        _, took = job(study, ranks, Path(folder) / "run", *settings)
        print(f"dry run {pilot:.0f} s; it says {said:.0f} s, the run took {took:.0f} s: ratio {said / took:.2f}")


if __name__ == "__main__":
    main()
