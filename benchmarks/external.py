"""Programs as solvers: how far CalculiX, FEniCSx, GetDP and LAMMPS are from the solvers here, and what a run costs.

    python benchmarks/external.py            # in the repository's root; programs that are not installed are left out

Each study of examples/external-* is run as it is, in this process. The table says the largest difference of any
structure, relative to its largest number, and seconds for a structure: of the study, and of the solver here. At the end
stands what the solver `external` takes for a program that does nothing.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import msvae
from msvae import Run, Structures
from msvae.campaigns.launch import launch

ROOT = Path(__file__).parents[1]
ELASTIC = [{"youngs_modulus": 70e9, "poissons_ratio": 0.3}, {"youngs_modulus": 400e9, "poissons_ratio": 0.2}]
PLASTIC = [{**ELASTIC[0], "yield_stress": 200e6, "hardening": 1e9}, ELASTIC[1]]
PAIRS = {"pair_style": "lj/cut 6.0", "pair_coeff": ["1 1 0.4 2.3", "2 2 0.5 2.2", "1 2 0.6 2.25"]}
CASES: Mapping[str, tuple[str, str, str, dict[str, Any]]] = {  # program; property; solver and its settings
    "external-calculix/study.toml": ("ccx", "stiffness", "elasticity", {"phases": ELASTIC, "tolerance": 1e-8}),
    "external-calculix/plasticity.toml": (
        "ccx", "stress", "plasticity", {"phases": PLASTIC, "strains": [0.002, 0.004, 0.006, 0.008, 0.01]}
    ),
    "external-fenicsx/study.toml": (
        "/usr/bin/mpiexec", "stiffness", "elasticity", {"phases": ELASTIC, "tolerance": 1e-8}
    ),
    "external-getdp/study.toml": (
        "getdp", "conductivity", "through-conductivity",
        {"phases": [{"conductivity": 1.0}, {"conductivity": 10.0}], "tolerance": 1e-8},
    ),
    "external-lammps/study.toml": ("lmp", "energy", "lammps-energy", PAIRS),
}  # fmt: skip


def compared(example: str, folder: Path) -> str:
    """Return the row of an example."""
    program, name, solver_name, settings = CASES[example]
    if shutil.which(program) is None:
        return f"| `{example}` | {program} is not installed | | | |"
    launch(ROOT / "examples" / example, folder / "run", overrides=[f"solver.scratch='{folder}'"])
    run = Run.open(folder / "run", trust=True)
    table, solver = run.evaluations, msvae.load_solver(solver_name, **settings)
    start = time.perf_counter()
    expected = np.asarray(solver.evaluate(run.structures)[name])
    ours = (time.perf_counter() - start) / len(table)
    found = table.properties[name]
    expected = expected[..., 0] if expected.ndim > found.ndim else expected
    axes = tuple(range(1, found.ndim))
    size = np.abs(expected).max(axis=axes) if axes else np.abs(expected)
    difference = np.abs(found - expected).max(axis=axes) if axes else np.abs(found - expected)
    theirs = float(np.median(table["cost"]))
    done = f"{int(table.done.sum())} of {len(table)}"
    return (
        f"| `{example}` | `{solver_name}` | {done} | {np.nanmax(difference / size):.0e} | {theirs:.2f} | {ours:.3f} |"
    )


def launch_seconds(count: int = 40) -> float:
    """Return the median seconds of a program that does nothing."""
    solver = msvae.load_solver("external", command=["echo", "a = 1"], outputs=[{"name": "a", "pattern": "a = (.)"}])
    structures = Structures.from_labels(np.random.default_rng(0).integers(0, 2, (count, 8, 8, 8)), 1e-6)
    seconds = []
    for k in range(count):
        start = time.perf_counter()
        solver.evaluate(structures[k])
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def main() -> None:
    print("| study | against | done | largest difference | s a structure | s here |")
    print("| --- | --- | --- | --- | --- | --- |")
    for example in CASES:
        with tempfile.TemporaryDirectory() as folder:
            print(compared(example, Path(folder)), flush=True)
    print(f"\nA launch that does nothing takes {1e3 * launch_seconds():.0f} ms.")


if __name__ == "__main__":
    main()
