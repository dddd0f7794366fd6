"""Voxel solvers against their peers, interleaved in one process, on the same structures, at the same verified accuracy.

    make bench

Each peer computes the whole tensor; it counts only where it agrees with the reference (ours at a tolerance of 1e-7)
to the stated accuracy. The table of medians and ratios is written to benchmarks/RESULTS.md with machine and versions.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from scipy import ndimage

import msvae

THREADS = int(os.environ["OMP_NUM_THREADS"])
ACCURACY = 1e-3
CASES = {"contrast 10": 0.1, "contrast 1000": 1e-3, "pores": 0.0}
Run = Callable[[], np.ndarray]


def labels(n: int, seed: int = 0) -> np.ndarray:
    """Return a thresholded random field with 30 % of phase 1 and a correlation length of n / 16 voxels."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random((n, n, n)), n / 16, mode="wrap")
    return (field > np.quantile(field, 0.7)).astype(np.uint8)


def ours_elastic(image: np.ndarray, soft: float, tolerance: float = 1e-4) -> Run:
    phases = [{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": soft, "poissons_ratio": 0.3}]
    solver = msvae.load_solver("elasticity", phases=phases, tolerance=tolerance)
    structures = msvae.Structures.from_labels(image if image.ndim == 4 else image[None], phases=2)
    return lambda: np.asarray(solver.evaluate(structures)["stiffness"])


def mugrid_elastic(image: np.ndarray, soft: float, tolerance: float = 1e-4) -> Run:
    """Return muGrid's Q1 stiffness operator with its reference-material preconditioner, single precision."""
    import muGrid
    from muGrid.Preconditioners import make_reference_stiffness_preconditioner
    from muGrid.Solvers import conjugate_gradients

    shape = image.shape
    operator = muGrid.IsotropicStiffnessOperator3D([1.0] * 3)
    engine = muGrid.FFTEngine(list(shape), ghosts=operator)
    fields = {
        name: engine.real_space_field(name, components=c, dtype=np.float32)
        for name, c in (("lambda", ()), ("mu", ()), ("b", (3,)), ("x", (3,)))
    }
    young = np.where(image == 1, soft, 1.0)
    lame = {"lambda": young * 0.3 / (1.3 * 0.4), "mu": young / 2.6}
    for name, array in lame.items():
        fields[name].p[...] = array
        engine.communicate_ghosts(fields[name])
    macros = []
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        macro = np.zeros((3, 3))
        macro[i, j] += 0.5
        macro[j, i] += 0.5
        macros.append(macro.ravel().tolist())

    def product(u: Any, force: Any) -> None:
        engine.communicate_ghosts(u)
        operator.apply(u, fields["lambda"], fields["mu"], force)

    def run() -> np.ndarray:
        precondition = make_reference_stiffness_preconditioner(
            engine,
            dtype=np.float32,
            element=muGrid.FEMElement.q1,
            grid_spacing=[1.0] * 3,
            lambda_ref=float(lame["lambda"].mean()),
            mu_ref=float(lame["mu"].mean()),
        )
        columns = []
        bare = {name: fields[name]._cpp for name in fields}
        for macro in macros:
            operator.apply_macro_rhs(bare["lambda"], bare["mu"], macro, bare["b"])
            fields["b"].p[...] *= -1
            fields["x"].p[...] = 0
            if np.abs(fields["b"].p).max() > 0:
                conjugate_gradients(
                    muGrid.Communicator(),
                    engine.real_space_collection,
                    fields["b"],
                    fields["x"],
                    hessp=product,
                    prec=precondition,
                    rtol=tolerance,
                    maxiter=500,
                )
            engine.communicate_ghosts(fields["x"])
            stress = np.array(operator.average_stress(bare["x"], bare["lambda"], bare["mu"], macro)).reshape(3, 3)
            columns.append([stress[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))])
        return np.array(columns).T[None] / image.size

    return run


def ours_diffusion(image: np.ndarray) -> Run:
    solver = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 0.0}], tolerance=1e-3)
    structures = msvae.Structures.from_labels(image[None], phases=2)
    return lambda: np.diag(solver.evaluate(structures)["conductivity"][0])


def taufactor_diffusion(image: np.ndarray) -> Run:
    """Return taufactor's periodic solver along each axis: a finite-volume scheme, so values differ by its error."""
    import taufactor

    def along(axis: int) -> float:
        solver = taufactor.PeriodicSolver(np.moveaxis(image, axis, 0) == 0, device="cpu")
        solver.solve(verbose=False)
        return float(np.ravel(solver.D_eff)[0])

    return lambda: np.array([along(axis) for axis in range(3)])


def measure(runs: dict[str, Run], repeats: int) -> dict[str, tuple[float, np.ndarray]]:
    """Return for each runner the median of its wall times, measured in turn, and its last result."""
    results: dict[str, np.ndarray] = {name: run() for name, run in runs.items()}  # warm
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            results[name] = run()
            times[name].append(time.perf_counter() - start)
    return {name: (statistics.median(times[name]), results[name]) for name in runs}


def elasticity_rows(sizes: list[int], repeats: int) -> list[list[str]]:
    rows = []
    for n in sizes:
        image = labels(n)
        for case, soft in CASES.items():
            exact = ours_elastic(image, soft, 1e-7)()[0]
            found = measure({"msvae": ours_elastic(image, soft), "muGrid": mugrid_elastic(image, soft)}, repeats)
            error = {name: np.abs(r[0] - exact).max() / exact.max() for name, (_, r) in found.items()}
            assert max(error.values()) < ACCURACY, f"{case}: errors {error} are not below {ACCURACY}"
            ours, peer = found["msvae"][0], found["muGrid"][0]
            rows.append(
                [
                    f"stiffness {n}³, {case}",
                    "muGrid",
                    f"{1e3 * ours:.0f}",
                    f"{1e3 * peer:.0f}",
                    f"{peer / ours:.1f}",
                    f"{error['msvae']:.0e} / {error['muGrid']:.0e}",
                ]
            )
    return rows


def batch_row(repeats: int) -> list[str]:
    """Return the time per structure alone and in a batch of 32."""
    batch = np.stack([labels(32, seed) for seed in range(32)])
    found = measure({"alone": ours_elastic(batch[0], 0.1), "batch": ours_elastic(batch, 0.1)}, repeats)
    alone, together = found["alone"][0], found["batch"][0] / 32
    return [
        "stiffness 32³ in a batch of 32, contrast 10",
        "msvae alone",
        f"{1e3 * together:.0f}",
        f"{1e3 * alone:.0f}",
        f"{alone / together:.1f}",
        "",
    ]


def diffusion_rows(sizes: list[int], repeats: int) -> list[list[str]]:
    rows = []
    for n in sizes:
        image = labels(n)
        found = measure({"msvae": ours_diffusion(image), "taufactor": taufactor_diffusion(image)}, repeats)
        (ours, value), (peer, other) = found["msvae"], found["taufactor"]
        rows.append(
            [
                f"diffusivities {n}³ along three axes, pores",
                "taufactor",
                f"{1e3 * ours:.0f}",
                f"{1e3 * peer:.0f}",
                f"{peer / ours:.1f}",
                f"{value[0]:.4f} / {other[0]:.4f}",
            ]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    chosen = parser.parse_args()
    try:
        import torch

        torch.set_num_threads(THREADS)
    except ImportError:
        pass
    rows = elasticity_rows(chosen.sizes, chosen.repeats)
    rows.append(batch_row(chosen.repeats))
    rows += diffusion_rows([64], chosen.repeats)
    head = ["case", "peer", "msvae (ms)", "peer (ms)", "ratio", "errors, or values: msvae / peer"]
    table = "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])
    versions = ", ".join(f"{p} {version(p)}" for p in ("numpy", "scipy", "torch", "muGrid", "taufactor"))
    text = (
        f"# Voxel solvers against their peers\n\nWritten by `benchmarks/solvers.py`: medians of {chosen.repeats} "
        f"interleaved runs, {THREADS} threads, whole tensors including set-up; elasticity at a verified accuracy of "
        f"{ACCURACY:g}.\n\nMachine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}; Python "
        f"{platform.python_version()}, {versions}.\n\n{table}\n"
    )
    chosen.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
