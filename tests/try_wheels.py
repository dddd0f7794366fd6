"""Each wheel in an empty environment without a compiler: python tests/try_wheels.py DIST CONSTRAINTS."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = """
import time, numpy as np, msvae
from msvae_voxelfe.kernels.compiled import kernels
solver = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 10.0}])
labels = np.random.default_rng(0).integers(0, 2, (1, 48, 48, 48))
structures = msvae.Structures.from_labels(labels, spacing=1e-6)
solver.evaluate(structures)
start = time.perf_counter()
value = solver.evaluate(structures)["conductivity"][0, 0, 0]
print(kernels("float64") is not None, round(float(value), 6), round(time.perf_counter() - start, 3))
"""


def tried(wheel: Path, constraints: str) -> tuple[str, str, float]:
    """Return whether there are kernels, a conductivity, and the seconds that it took, from a wheel alone."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/env"], check=True)
        python = f"{folder}/env/bin/python"
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, str(wheel)]
        subprocess.run(install, check=True)
        empty = {**os.environ, "PATH": f"{folder}/env/bin", "HOME": "/proc/none", "MSVAE_NO_COMPILER": "1"}
        empty.pop("XDG_CACHE_HOME", None)
        subprocess.run([f"{folder}/env/bin/msvae", "plugin", "list"], check=True, env=empty, cwd=folder,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        done = subprocess.run([python, "-c", SCRIPT], check=True, env=empty, cwd=folder, capture_output=True, text=True)
    has, value, seconds = done.stdout.split()
    return has, value, float(seconds)


def main(dist: str, constraints: str) -> None:
    """Print what each wheel does; AssertionError if the one with kernels has none, or gives another number."""
    found = {wheel: tried(wheel, constraints) for wheel in sorted(Path(dist).glob("*.whl"))}
    for wheel, (has, value, seconds) in found.items():
        print(f"{wheel.name}: kernels {has}, conductivity {value}, {seconds} s")
    assert [has for has, *_ in found.values()] == ["False" if "none-any" in w.name else "True" for w in found]
    assert len({round(float(value), 5) for _, value, _ in found.values()}) == 1


if __name__ == "__main__":
    main(*sys.argv[1:])
