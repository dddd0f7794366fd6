"""Voxel solvers against their peers, interleaved in one process, on the same structures, at the same verified accuracy.

    make bench

Every solver computes the whole tensor, set-up included, at the loosest of the tolerances 1e-1, 1e-2 ... with which its
error is below the accuracy. The table is written to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import peers
import torch
from peers import Run
from scipy import ndimage

import msvae

THREADS = int(os.environ["OMP_NUM_THREADS"])
ACCURACY = 1e-3
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
CASES = {"contrast 10": 0.1, "contrast 1000": 1e-3, "pores": 0.0}
HEAD = ("case", "peer", "msvae (ms)", "peer (ms)", "ratio", "errors, or values: msvae / peer")
TEXT = """# Voxel solvers against their peers

Written by `benchmarks/solvers.py`: medians of {repeats} interleaved runs (slow peers fewer), {threads} threads, whole
tensors including set-up. Elasticity: every solver at the loosest of the tolerances 1e-1, 1e-2 ... with which its error
is below {accuracy:g}, against trilinear elements solved to 1e-7; muSpectre 0.27 (Fourier derivatives) and torch-fem
(no periodic boundary) against themselves.

Machine: {machine}; {versions}.

{table}

{notes}
"""
MUSPECTRE, TORCH_FEM = "muSpectre", "torch-fem (affine boundary)"
DIFFUSION = (  # our solver, taufactor's, and what they solve
    ("conductivity", "PeriodicSolver", "periodic"),
    ("through-conductivity", "Solver", "face to face"),
)
OTHERWISE = (MUSPECTRE, TORCH_FEM)  # what is solved or discretised otherwise is verified against itself
Row = tuple[str, ...]
Maker = Callable[[np.ndarray, float, float], Run]


def labels(n: int, seed: int = 0) -> np.ndarray:
    """Return a thresholded random field with 30 % of phase 1 and a correlation length of n / 16 voxels."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random((n, n, n)), n / 16, mode="wrap")
    return (field > np.quantile(field, 0.7)).astype(np.uint8)


def elasticity(image: np.ndarray, soft: float, tolerance: float) -> Run:
    """Return our stiffness (6, 6) of an image, or (n, 6, 6) of a batch."""
    phases = [{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": soft, "poissons_ratio": 0.3}]
    solver = msvae.load_solver("elasticity", phases=phases, tolerance=tolerance)
    structures = msvae.Structures.from_labels(image if image.ndim == 4 else image[None], phases=2)

    def run() -> np.ndarray:
        found = np.asarray(solver.evaluate(structures)["stiffness"])
        return found if image.ndim == 4 else found[0]

    return run


def conductivity(image: np.ndarray, name: str) -> Run:
    """Return the conductivities along the axes by one of our solvers, with pores of phase 1."""
    solver = msvae.load_solver(name, phases=[{"conductivity": 1.0}, {"conductivity": 0.0}], tolerance=1e-3)
    structures = msvae.Structures.from_labels(image[None], phases=2)

    def run() -> np.ndarray:
        found = solver.evaluate(structures)["conductivity"][0]
        return found if found.ndim == 1 else np.diag(found)

    return run


def loosest(name: str, make: Callable[[float], Run], exact: np.ndarray) -> tuple[Run, float]:
    """Return a solver at the loosest tolerance with which it is accurate, and its error there."""
    for tolerance in TOLERANCES:
        run = make(tolerance)
        error = np.abs(run() - exact).max() / exact.max()
        if error < ACCURACY:
            return run, float(error)
    raise AssertionError(f"{name} is not accurate to {ACCURACY:g} at a tolerance of {TOLERANCES[-1]:g}")


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


def row(case: str, peer: str, ours: float, theirs: float, note: str = "") -> Row:
    """Return a row of the table for two wall times in s, and print it."""
    cells = (case, peer, f"{1e3 * ours:.0f}", f"{1e3 * theirs:.0f}", f"{theirs / ours:.1f}", note)
    print(*cells, sep=" | ", flush=True)
    return cells


def compared(image: np.ndarray, case: str, name: str, make: Callable[[float], Run], repeats: int) -> Row:
    """Return the row of one peer for the stiffness of a structure."""
    exact = elasticity(image, CASES[case], 1e-7)()
    ours, own = loosest("msvae", lambda tolerance: elasticity(image, CASES[case], tolerance), exact)
    theirs, other = loosest(name, make, make(1e-7)() if name in OTHERWISE else exact)
    found = measure({"msvae": ours, name: theirs}, repeats)
    what = f"stiffness {len(image)}³, {case}"
    return row(what, name, found["msvae"][0], found[name][0], f"{own:.0e} / {other:.0e}")


def against(make: Maker, name: str, n: int, cases: list[str], repeats: int) -> Iterator[Row]:
    """Yield the rows of one peer for the stiffness of an n^3 structure."""
    image = labels(n)
    for case in cases:
        yield compared(image, case, name, partial(make, image, CASES[case]), repeats)


def against_muspectre(cases: list[str], repeats: int) -> Iterator[Row]:
    """Yield the rows of muSpectre, whose grids are odd."""
    image = labels(31)
    for case in cases:
        peer = peers.MuSpectre(image, CASES[case])
        yield compared(image, case, MUSPECTRE, peer, repeats)
        peer.close()


def batch(repeats: int) -> Iterator[Row]:
    """Yield the time per structure alone and in a batch of 32."""
    images = np.stack([labels(32, seed) for seed in range(32)])
    runs = {"alone": elasticity(images[0], 0.1, 1e-3), "batch": elasticity(images, 0.1, 1e-3)}
    found = measure(runs, 4 * repeats)
    yield row("stiffness 32³ in a batch of 32, contrast 10", "msvae alone", found["batch"][0] / 32, found["alone"][0])


def diffusion(sizes: list[int], repeats: int) -> Iterator[Row]:
    """Yield the rows of taufactor: periodic images, and diffusion from face to face."""
    for n, (name, peer, what) in itertools.product(sizes, DIFFUSION):
        image = labels(n)
        found = measure({"msvae": conductivity(image, name), "taufactor": peers.taufactor(image, peer)}, repeats)
        (ours, value), (theirs, other) = found["msvae"], found["taufactor"]
        note = f"{value[0]:.4f} / {other[0]:.4f}"
        yield row(f"diffusivities {n}³ along three axes, {what}, pores", "taufactor", ours, theirs, note)


def hyperelastic(data: Path, repeats: int) -> Iterator[Row]:
    """Yield the row of one Mechanical MNIST bitmap, all 12 displacements, against scikit-fem."""
    from msvae_microstructures.mechanical_mnist import MechanicalMnist

    bitmap = MechanicalMnist(path=data / "mechanical_mnist", limit=1).load(0)
    published = bitmap.properties["energy"][0, 1:]
    phases = [{"youngs_modulus": e, "poissons_ratio": 0.3} for e in (1.0, 100.0)]
    solver = msvae.load_solver("hyperelasticity", phases=phases)
    steps = tuple(d / 28 for d in (0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0))
    runs = {
        "msvae": lambda: np.asarray(solver.evaluate(bitmap)["energy"][0]),
        "peer": peers.scikit_fem_hyperelastic(bitmap.values[0, 0], steps),
    }
    found = measure(runs, repeats)
    errors = [np.abs(energy[-1] / published[-1] - 1) for _, energy in found.values()]
    note = f"{errors[0]:.0e} / {errors[1]:.0e} of the published energy"
    yield row("Mechanical MNIST, 12 displacements", "scikit-fem", found["msvae"][0], found["peer"][0], note)


def iterations(image: np.ndarray, soft: float, tolerance: float = 1e-4) -> int:
    """Return the iterations of our stiffness, of the slowest load case."""
    phases = [{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": soft, "poissons_ratio": 0.3}]
    solver = msvae.load_solver("elasticity", phases=phases, tolerance=tolerance)
    return int(solver.evaluate(msvae.Structures.from_labels(image[None], phases=2)).iterations[0])  # type: ignore[attr-defined]


def scaling(repeats: int) -> list[str]:
    """Return sentences: time per voxel and iteration, its share of bare Fourier transforms and memory bandwidth."""
    found = measure({n: elasticity(labels(int(n)), 1e-3, 1e-4) for n in ("32", "64")}, repeats)
    each = {n: t / iterations(labels(int(n)), 1e-3) / int(n) ** 3 for n, (t, _) in found.items()}
    field = torch.zeros(3, 64, 64, 64, dtype=torch.complex64)
    source = np.ones(1 << 26, dtype=np.float32)
    target = np.zeros_like(source)

    def transforms() -> np.ndarray:
        for _ in range(3):  # three pairs of load cases
            torch.fft.ifftn(torch.fft.fftn(field, dim=(1, 2, 3)), dim=(1, 2, 3))
        return np.zeros(1)

    def copy() -> np.ndarray:
        np.copyto(target, source)
        return target[:1]

    bare = {name: t for name, (t, _) in measure({"fft": transforms, "copy": copy}, repeats).items()}
    step = each["64"] * 64**3
    vectors = 6 + 4 + 2  # passes over a pair of load cases: product with all before it; planes; columns
    moved = 3 * 64**3 * 4 * (6 * vectors + 2)
    bandwidth = 2 * source.nbytes / bare["copy"]
    counts = {n: iterations(labels(n), 0.0) for n in (16, 32, 64, 128)}
    start = time.perf_counter()
    elasticity(labels(128), 0.0, 1e-4)()
    wall = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return [
        f"Time per voxel and iteration, 64³ over 32³ (contrast 1000): {each['64'] / each['32']:.2f}.",
        f"One iteration of the six load cases at 64³ takes {1e3 * step:.1f} ms; torch's Fourier transforms alone would "
        f"take {1e3 * bare['fft']:.1f} ms ({100 * bare['fft'] / step:.0f} %), and it moves "
        f"{moved / step / 1e9:.1f} GB/s where a copy on one thread moves {bandwidth / 1e9:.1f} GB/s "
        f"({100 * moved / step / bandwidth:.0f} %).",
        f"Iterations with pores, tolerance 1e-4: {', '.join(f'{c} at {n}³' for n, c in counts.items())}.",
        f"128³ with pores, full tensor: {wall:.1f} s; the largest memory of this whole process was {peak:.1f} GB.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    chosen = parser.parse_args()
    torch.set_num_threads(THREADS)
    notes = scaling(3 * chosen.repeats)
    every, linear = list(CASES), ["contrast 10", "contrast 1000"]
    rows = [
        *against(peers.mugrid, "muGrid", 32, every, chosen.repeats),
        *against(peers.mugrid, "muGrid", 64, every, 3),
        *against_muspectre(linear, 7),
        *against(peers.scikit_fem, "scikit-fem, pyamg", 32, linear, 1),
        *against(peers.torch_fem, TORCH_FEM, 32, ["contrast 10"], 1),
        *batch(chosen.repeats),
        *diffusion([64, 128], 3),
    ]
    if (chosen.data / "mechanical_mnist").is_dir():
        rows += hyperelastic(chosen.data, 3)
    table = "\n".join("| " + " | ".join(r) + " |" for r in [HEAD, ("---",) * len(HEAD), *rows])
    packages = ("numpy", "scipy", "torch", "muGrid", "scikit-fem", "pyamg", "torch-fem", "taufactor")
    text = TEXT.format(
        repeats=chosen.repeats,
        threads=THREADS,
        accuracy=ACCURACY,
        machine=f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        versions=", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)]),
        table=table,
        notes="\n".join(f"- {note}" for note in notes),
    )
    chosen.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
