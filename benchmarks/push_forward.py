"""Push-forward: what cheap fidelities save of full solves, whether intervals cover, and Sobol' against random points.

    make bench

Two tasks: a conductivity of 32 x 32 images (phases 1 and 20) and a stiffness of 32^3 porous solids. A structure-space
head learns from 200 labels; then structures are drawn from the trained prior and solved, and what the head says of
many more of them helps. Everything is printed, written to benchmarks/PUSH_FORWARD.md and drawn to push_forward.png.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from models import simulated, trained

import msvae
from msvae.sampling.estimators import Estimator
from msvae.structures import Array, Structures
from msvae.study.settings import StructureHeadSettings
from msvae.vae.model import VAE
from msvae.vae.structure_head import StructureHead, fit_structure_head

LABELS, FEW = 200, 50


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples of the prior. full: by the solver (n,). cheap: by the head (n,). head_only: of further ones (m,)."""

    name: str
    full: Array
    cheap: Array
    further: Array
    costs: tuple[float, float]


def pool(name: str, structures: Structures, solver: Any, latents: int, sizes: tuple[int, int, int]) -> Pool:
    """Return the samples of a task; sizes: epochs of the model, samples by the solver and further ones by the head."""
    epochs, count, more = sizes
    vae = trained(structures, latents, epochs)
    quantity = solver.quantities(structures.specification)[0]
    labelled = structures[:LABELS]
    labelled = labelled.with_properties(dict(solver.evaluate(labelled)), (quantity,))
    flips = tuple(range(structures.specification.grid.dimensions))
    head = StructureHead(structures.specification, (quantity,), StructureHeadSettings((quantity.name,), epochs=120,
                         flips=flips, batch_size=32), vae.blueprint.architecture)  # fmt: skip
    fit_structure_head(head, labelled, seed=0)
    drawn = vae.decode(vae.sample_latents(count + more, 1))
    start = time.perf_counter()
    cheap = head.predict(drawn)[quantity.name][:, 0, 0]
    middle = time.perf_counter()
    full = solver.evaluate(drawn[:count])[quantity.name][:, 0, 0]
    spent = (time.perf_counter() - middle) / count, (middle - start) / (count + more)
    return Pool(name, full, cheap[:count], cheap[count:], spent)


def reductions(pool: Pool, replicates: int) -> dict[str, Any]:
    """Return variance reduction and coverage over random subsets of the pool with FEW solves each."""
    rng, whole = np.random.default_rng(0), everything(pool)
    truth = {"mean": whole.mean.value, "q05": whole.quantile(0.05).value, "q95": whole.quantile(0.95).value}
    hits, helped, naive = dict.fromkeys(truth, 0), [], 0
    for _ in range(replicates):
        rows = rng.choice(len(pool.full), FEW, replace=False)
        rest = np.concatenate([np.delete(pool.cheap, rows), pool.further])
        y, g = pool.full[rows], pool.cheap[rows]
        estimator = Estimator(y, g[:, None], (rest,))
        found = {"mean": estimator.mean, "q05": estimator.quantile(0.05), "q95": estimator.quantile(0.95)}
        for key, estimate in found.items():
            hits[key] += estimate.low <= truth[key] <= estimate.high
        helped.append(estimator.mean.value)
        order = np.argsort(g)  # fitted to the very solves that it is to be corrected by: it seems to miss nothing
        fitted = np.interp(rest, g[order], y[order])
        naive += abs(fitted.mean() - truth["mean"]) <= 1.96 * fitted.std() / np.sqrt(len(fitted))
    return {
        "correlation": float(np.corrcoef(pool.full, pool.cheap)[0, 1]),
        "reduction": float(pool.full.var(ddof=1) / FEW / np.mean((np.array(helped) - truth["mean"]) ** 2)),
        "coverage": {k: v / replicates for k, v in hits.items()},
        "naive": naive / replicates,
    }


def everything(pool: Pool) -> Estimator:
    """Return what all solves and all predictions of a pool say together: what is taken for the truth."""
    return Estimator(pool.full, pool.cheap[:, None], (pool.further,))


def repetitions(pool: Pool, times: int = 20) -> int:
    """Return how often of 20 the estimate from FEW solves agrees within its interval with all solves of the pool."""
    rng, good, whole = np.random.default_rng(7), 0, everything(pool).mean
    for _ in range(times):
        rows = rng.choice(len(pool.full), FEW, replace=False)
        rest = np.concatenate([np.delete(pool.cheap, rows), pool.further])
        mean = Estimator(pool.full[rows], pool.cheap[rows][:, None], (rest,)).mean
        good += mean.low <= whole.value <= mean.high
    return int(good)


def slopes(vae: VAE, scramblings: int = 8) -> dict[str, list[tuple[int, float]]]:
    """Return the standard error of the mean of a smooth quantity over the number of random and of Sobol' samples."""
    found: dict[str, list[tuple[int, float]]] = {"independent samples": [], "scrambled Sobol'": []}
    for power in range(4, 9):
        n = 2**power
        sobol, loose = [], []
        for k in range(scramblings):
            z = vae.sample_latents(n, 100 * power + k)
            sobol.append(float(smooth(z).mean()))
            single = np.concatenate([vae.sample_latents(1, 10**6 + 1000 * (100 * power + k) + i) for i in range(n)])
            loose.append(float(smooth(single).mean()))
        found["scrambled Sobol'"].append((n, float(np.std(sobol, ddof=1))))
        found["independent samples"].append((n, float(np.std(loose, ddof=1))))
    return found


def smooth(latents: Array) -> Array:
    return np.asarray(np.exp(latents / 8).mean(axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=400)
    asked = parser.parse_args()
    here = Path(__file__).parent
    fractions: dict[str, Any] = {"volume_fraction": [0.3, 0.7], "length": [1e-5, 1e-5]}
    flat = simulated(**fractions, count=1500, shape=[32, 32])
    solid = simulated(count=500, shape=[32, 32, 32], length=[1.2e-5, 1.2e-5], volume_fraction=[0.1, 0.4])
    conductivity = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 20.0}])
    elasticity = msvae.load_solver("elasticity", tolerance=1e-4, phases=[
        {"youngs_modulus": 70e9, "poissons_ratio": 0.33}, {"youngs_modulus": 0.0}])  # fmt: skip
    pools = [pool("conductivity, 32 x 32", flat, conductivity, 16, (40, 2000, 8000)),
             pool("stiffness, 32^3", solid, elasticity, 16, (12, 400, 1200))]  # fmt: skip
    lines = ["# Push-forward of microstructural uncertainty", "",
             f"Head on structures, {LABELS} labels; estimates from {FEW} full solves, {asked.replicates} replicates",
             "", "| task | correlation | variance reduction of the mean | coverage mean, q05, q95 | naive, in-sample | "
             "agreements of 20 | s a solve, a prediction |", "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for each in pools:
        found = reductions(each, asked.replicates)
        coverage = ", ".join(f"{100 * v:.1f} %" for v in found["coverage"].values())
        lines.append(f"| {each.name} | {found['correlation']:.4f} | {found['reduction']:.1f} | {coverage} | "
                     f"{100 * found['naive']:.0f} % | {repetitions(each)} | "
                     f"{each.costs[0]:.2g}, {each.costs[1]:.2g} |")  # fmt: skip
    vae = trained(flat, 16, 10)
    figure = Figure(figsize=(4.8, 3.6))
    axis = figure.subplots()
    lines.append("")
    for name, points in slopes(vae).items():
        n, error = np.array(points).T
        slope = np.polyfit(np.log(n), np.log(error), 1)[0]
        ends = f"{error[0]:.3g} at {n[0]:.0f} samples, {error[-1]:.3g} at {n[-1]:.0f}"
        lines.append(f"{name}: standard error {ends}, slope {slope:.2f}")
        axis.loglog(n, error, "o-", label=f"{name}, slope {slope:.2f}")
    axis.set(xlabel="samples", ylabel="standard error of the mean (1)", title="a smooth quantity of 16 latents")
    axis.set_xticks([16, 64, 256], labels=["16", "64", "256"], minor=False)
    axis.minorticks_off()
    axis.legend()
    figure.savefig(here / "push_forward.png", dpi=110, bbox_inches="tight")
    (here / "PUSH_FORWARD.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    mpl.use("Agg")
    main()
