"""Partition functions beside exact ones, and other methods at as many energies.

python benchmarks/partition.py ising [4 6 8 16]    log Z, energy, heat capacity; controls in 20 repetitions
python benchmarks/partition.py coverage            how often 95 % intervals hold, in 20 runs of 4 x 4
python benchmarks/partition.py alloys POTENTIAL    16-site cells, beside every occupation of them
python benchmarks/partition.py vacancies POTENTIAL  a vacancy in 16 sites, beside all of its occupations
python benchmarks/partition.py large POTENTIAL     256 atoms: two seeds, more evaluations, Metropolis
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from partition_controls import CONTROLS, Account
from scipy.special import logsumexp

import msvae
from msvae.campaigns.launch import launch
from msvae_partition.expansion.clusters import Clusters, Expansion
from msvae_partition.expansion.symmetry import Lattice
from msvae_partition.models.exact import kaufman
from msvae_partition.models.ising import BOLTZMANN, bonds
from msvae_partition.observables import Observables
from msvae_partition.summary import ELECTRONVOLT

EXAMPLES = Path(__file__).parents[1] / "examples"
BETAS = (0.2, 0.4407, 0.6)
SEEDS = 20


def found(study: Path, overrides: list[str]) -> dict[str, Any]:
    """Return the result of a run of the campaign, with its seconds and its evaluated occupations."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        launch(study, Path(folder) / "run", overrides=overrides)
        result: dict[str, Any] = json.loads((Path(folder) / "run" / "partition.json").read_text())
        files = [f for f in Path(folder).glob("run/*.h5") if f.stem.startswith(("start", "learn", "estimate"))]
        rows = [msvae.read_structures(f).values for f in files]
        result["rows"] = np.concatenate([r.reshape(len(r), -1) for r in rows]).astype(np.int64)
        return result | {"seconds": time.perf_counter() - start}


def ising_spec(n: int) -> msvae.Specification:
    return msvae.Specification("occupation", 1, msvae.Grid.of((n, n), 3e-10), ("down", "up"))


def of_ising(sizes: list[int]) -> None:
    """Print a row for every size and temperature."""
    columns = ("lattice", "beta", "exact log Z", "found", "95 %", "error/N", "bound", "energy error/N",
               "heat capacity", "evaluations", "s")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    temperatures = [round(1 / b, 9) for b in BETAS]
    for n in sizes:
        more = [f"dataset.shape=[{n}, {n}]", f"partition.temperatures={temperatures}", "partition.budget=400"]
        own = found(EXAMPLES / "partition-ising" / "study.toml", more)
        for kelvin, e in zip(own["temperatures"], own["estimates"], strict=True):
            beta, h = 1 / kelvin, 1e-4
            exact, below, above = (kaufman((n, n), b) for b in (beta, beta - h, beta + h))
            energy, capacity = -(above - below) / (2 * h), beta**2 * (above - 2 * exact + below) / h**2 / n**2
            c = e["means"][1] / (BOLTZMANN * kelvin) ** 2 / n**2
            print(f"| {n} x {n} | {beta:.4f} | {exact:.4f} | {e['log_z']:.4f} | {e['half_width']:.2g} | "
                  f"{abs(e['log_z'] - exact) / n**2:.1e} | {e['bound'] - exact:+.3f} | "
                  f"{abs(e['means'][0] / BOLTZMANN - energy) / n**2:.1e} | {100 * abs(c / capacity - 1):.1f} % | "
                  f"{own['paid']} | {own['seconds']:.0f} |", flush=True)  # fmt: skip
        _controls(n, own["paid"])


def _controls(n: int, budget: int) -> None:
    """Print the median error per site of every control, at as many energies."""
    lattice = Lattice.of(ising_spec(n))

    def energy(x: np.ndarray) -> np.ndarray:
        return -bonds(2.0 * x.reshape(-1, n, n) - 1, (True, True))

    exact = np.array([kaufman((n, n), b) for b in BETAS])
    for name, control in CONTROLS.items():
        errors = []
        for seed in range(SEEDS):
            account = Account(lattice, energy, budget)
            own = np.array(control(account, BETAS, np.random.default_rng(seed)))
            errors.append(np.abs(own - exact) / n**2)
        middle = ", ".join(f"{m:.1e}" for m in np.median(errors, axis=0))
        print(f"  {name}, {budget} energies, median error/N at {BETAS}: {middle}", flush=True)


def coverage() -> None:
    """Print how many of 20 intervals hold the exact value, at each temperature."""
    held = np.zeros(3, dtype=int)
    for seed in range(SEEDS):
        own = found(EXAMPLES / "partition-ising" / "study.toml", [f"seed={100 + seed}", "partition.rounds=4"])
        for k, (kelvin, e) in enumerate(zip(own["temperatures"], own["estimates"], strict=True)):
            held[k] += abs(e["log_z"] - kaufman((4, 4), 1 / kelvin)) < e["half_width"]
    print(f"of {SEEDS} intervals held at 5, 2.2691, 1.6667 K: {held.tolist()}", flush=True)


def alloys(potential: str) -> None:
    """Print every occupation's sums beside the campaign's, for both studies of the example."""
    for name in ("study", "solution"):
        path = EXAMPLES / "alloy-defects" / f"{name}.toml"
        study = msvae.Study.load(path, [f"solver.potential={potential}"])
        specification = study.need_dataset().load(0).specification
        lattice = Lattice.of(specification)
        every = ((np.arange(2**16)[:, None] >> np.arange(16)) & 1).astype(np.int64)
        classes, where = np.unique(lattice.canonical(every), axis=0, return_inverse=True)
        start = time.perf_counter()
        solver = study.need_solver()
        structures = msvae.Structures(classes.reshape(-1, *specification.shape), specification)
        energies = solver.evaluate(structures)["energy"][where.ravel()] * 16
        print(f"{name}: {len(classes)} distinct of 65,536 occupations, {time.perf_counter() - start:.0f} s", flush=True)
        settings = study.campaign
        if settings.conserved:  # type: ignore[attr-defined]
            kept = every.sum(axis=1) == 8
            every, energies = every[kept], energies[kept]
        if settings.potentials:  # type: ignore[attr-defined]
            energies = energies - np.array(settings.potentials)[every].sum(axis=1)  # type: ignore[attr-defined]
        seen = Observables.of(lattice, specification.constituents, settings.order).values(every)  # type: ignore[attr-defined]
        for seed in range(3):
            own = found(path, [f"solver.potential={potential}", f"seed={seed}"])
            rows = lattice.canonical(own["rows"])
            known = {r.tobytes(): e for r, e in zip(lattice.canonical(every), energies, strict=True)}
            fitted = np.array([known[r.tobytes()] for r in rows])
            alone = Expansion.fitted(Clusters.of(lattice, 6, 2), rows, fitted)(every)
            for kelvin, e in zip(own["temperatures"], own["estimates"], strict=True):
                beta = 1 / (BOLTZMANN * kelvin)
                exact = float(logsumexp(-beta * energies))
                mean = float(np.exp(-beta * energies - exact) @ seen[:, -1])
                print(f"  seed {seed}, {kelvin:.0f} K, {own['paid']} energies, {own['seconds']:.0f} s: log Z "
                      f"{exact:.4f}, found {e['log_z']:.4f} +- {e['half_width']:.2g}, error "
                      f"{e['log_z'] - exact:+.4f}; expansion "
                      f"alone {float(logsumexp(-beta * alone)) - exact:+.4f}; {own['names'][-1]} {mean:.4g}, found "
                      f"{e['means'][-1]:.4g} ({100 * (e['means'][-1] / mean - 1):+.1f} %)", flush=True)  # fmt: skip


def vacancies(potential: str) -> None:
    """Print the concentration of vacancies beside that of all occupations with one vacancy and with none."""
    logs: list[np.ndarray] = []
    beta = 1 / (BOLTZMANN * np.array([1500.0, 1000.0, 600.0]))
    for name in ("host", "vacancies"):
        study = msvae.Study.load(EXAMPLES / "alloy-defects" / f"{name}.toml", [f"solver.potential={potential}"])
        specification = study.need_dataset().load(0).specification
        lattice = Lattice.of(specification)
        every = np.array([
            np.insert(np.isin(np.arange(rest), nickel).astype(np.int64), place, 2) if name == "vacancies"
            else np.isin(np.arange(rest), nickel).astype(np.int64)
            for rest in [15 if name == "vacancies" else 16]
            for place in range(16 if name == "vacancies" else 1)
            for nickel in combinations(range(rest), 8)
        ])  # fmt: skip
        classes, times = np.unique(lattice.canonical(every), axis=0, return_counts=True)
        structures = msvae.Structures(classes.reshape(-1, *specification.shape), specification)
        energies = study.need_solver().evaluate(structures)["formation_energy"]
        logs.append(logsumexp(-beta[:, None] * energies, b=times, axis=1))
        print(f"{name}: {len(every)} occupations, {len(classes)} distinct", flush=True)
    exact = np.exp(logs[1] - logs[0]) / 16
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(3):
            for name in ("host", "vacancies"):
                more = [f"partition.against={folder}/host{seed}"] if name == "vacancies" else []
                launch(EXAMPLES / "alloy-defects" / f"{name}.toml", Path(folder) / f"{name}{seed}",
                       overrides=[f"solver.potential={potential}", f"seed={seed}", *more])  # fmt: skip
            own = json.loads((Path(folder) / f"vacancies{seed}" / "partition.json").read_text())
            for kelvin, truth, found in zip(own["temperatures"], exact, own["defects"], strict=True):
                print(f"  seed {seed}, {kelvin:.0f} K, {own['paid']} energies: {truth:.4g} per site, found "
                      f"{found['per_site']:.4g} +- {found['half_width']:.1g} "
                      f"({100 * (found['per_site'] / truth - 1):+.1f} %)", flush=True)  # fmt: skip


def large(potential: str) -> None:
    """Print intervals against evaluations, two seeds, and Metropolis with the solver's energies: 256 atoms of Fe-Ni."""
    base = [f"solver.potential={potential}", "solver.relax=none", "dataset.shape=[4, 4, 4]", "partition.potentials=[]",
            "partition.conserved=true", "dataset.composition=[0.5, 0.5]", "partition.temperatures=[1000.0]",
            "dataset.count=40", "partition.bits=0"]  # fmt: skip
    for seed in (0, 1):
        for budget in (150, 600, 2400):
            more = [*base, f"seed={seed}", f"partition.budget={budget}", "partition.precision=1e-5"]
            own = found(EXAMPLES / "alloy-defects" / "solution.toml", more)
            e = own["estimates"][0]
            print(f"seed {seed}, {own['paid']} energies, {own['seconds']:.0f} s: log Z {e['log_z']:.4f} +- "
                  f"{e['half_width']:.2g}, {e['draws']} draws, effective {e['effective']:.2f}, order "
                  f"{own['short_range_order'][0]['0 1']:.4f}, energy {e['means'][0] / 256 / ELECTRONVOLT:.6f} +- "
                  f"{e['errors'][0] / 256 / ELECTRONVOLT:.1g} eV/site", flush=True)  # fmt: skip
    _metropolis(potential)


def _metropolis(potential: str, steps: int = 40_000) -> None:
    """Print means over exchanges of two atoms, each judged by the solver."""
    specification = msvae.Specification("occupation", 4, msvae.Grid.of((4, 4, 4), 3.55e-10), ("Fe", "Ni"))
    lattice = Lattice.of(specification, symmetric=False)
    solver = msvae.load_solver("lammps-energy", potential=potential)
    rng = np.random.default_rng(0)
    x = rng.permutation(np.repeat([0, 1], 128))
    seen, energies = [], []

    def energy(row: np.ndarray) -> float:
        structures = msvae.Structures(row.reshape(1, *specification.shape), specification)
        return float(solver.evaluate(structures)["energy"][0]) * 256

    now, observed = energy(x), Observables.of(lattice, specification.constituents, ())
    for step in range(steps):
        a, b = rng.choice(np.flatnonzero(x == 0)), rng.choice(np.flatnonzero(x == 1))
        new = x.copy()
        new[a], new[b] = x[b], x[a]
        then = energy(new)
        if np.log(rng.random()) < -(then - now) / (BOLTZMANN * 1000):
            x, now = new, then
        if step > steps // 10 and step % 20 == 0:
            seen.append(observed.values(x[None])[0])
            energies.append(now)
    blocks = np.array_split(np.column_stack([energies, seen]), 20)
    means = np.array([b.mean(axis=0) for b in blocks])
    middle, error = means.mean(axis=0), means.std(axis=0, ddof=1) / np.sqrt(20)
    order = observed.short_range_order(middle[1:])
    energy_of, own = (values[0] / 256 / ELECTRONVOLT for values in (middle, error))
    print(f"Metropolis, {steps} energies: {energy_of:.6f} +- {own:.1g} eV/site, order {order} +- {error[3] / 0.5:.1g}")


if __name__ == "__main__":
    what, *rest = sys.argv[1:] or ["ising"]
    if what == "ising":
        of_ising([int(n) for n in rest] or [4, 6, 8, 16])
    elif what == "coverage":
        coverage()
    else:
        {"alloys": alloys, "large": large, "vacancies": vacancies}[what](rest[0])
