"""Latent dynamics of spinodal patterns against persistence, networks on pixels, and simulators with large steps.

python benchmarks/evolution.py controls RUN [--frames 20]  # accuracy and time of simulators with large steps
python benchmarks/evolution.py py_pde RUN [--frames 2]     # py-pde beside the dynamics: pip install py-pde numba
python benchmarks/evolution.py backward RUN [--frames 20]  # samples of earlier frames, and frames between two
python benchmarks/evolution.py dynamics RUN [--epochs 2]   # the kinds of dynamics, on held-out simulations

RUN: a run of examples/cahn-hilliard/study.toml. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from scipy import fft

from msvae import Run, seed_of
from msvae_evolution.backward import ancestors, generator_spread
from msvae_evolution.codes import Latents
from msvae_evolution.dynamics.fitting import fit_dynamics
from msvae_evolution.forecast import Forecaster
from msvae_evolution.measures import two_point
from msvae_evolution.prediction import DYNAMICS, loaded
from msvae_evolution.series import TIME, Series, sides
from msvae_microstructures import processes

STABLE = 0.8  # of the largest stable step of explicit Euler
OCTAVE = ((0, 1), (1, 3), (4, 9))  # frames of which the second has twice the time of the first


def _given(run):
    """Return a run's frames, its model's code, series, sides and settings."""
    structures, study = run.structures, run.study
    series = Series.of(structures)
    return structures, Latents(run.model.requires_grad_(False)), series, sides(structures, series, study), study


def controls(asked):
    """Print error and time of frames at twice the time, by the dynamics and by simulators with large steps."""
    run = Run.open(asked.run)
    structures, code, series, (_, _, test), study = _given(run)
    settings = study.campaign
    dynamics = loaded(code, settings, run.path / DYNAMICS)
    plain = dataclasses.replace(settings, relaxation=0.0)
    cases = [(series.rows[s][a], series.rows[s][b]) for s in test[: asked.frames] for a, b in OCTAVE]
    makers = {"persistence": lambda given, end: given.values[0, 0]}
    for name, own, dataset in (("dynamics", settings, study.dataset), ("dynamics, no simulator", plain, None)):
        makers[name] = _maker(Forecaster(code, dynamics, own, dataset))
    for grid in (64, 32):
        for step in (5e-6, 1e-5, 1.4e-5, 2e-5, 1e-4, 5e-4):
            makers[f"spectral, {grid} x {grid}, step {step:g}"] = lambda given, end, g=grid, h=step: _spectral(
                given, end, g, h
            )
    seen = structures[np.array([int(last) for _, last in cases])]
    again = run.model.decode(run.model.encode(seen)).values
    print(f"{len(cases)} frames of {asked.frames} test simulations, at twice the time; mean squared error of their "
          f"reconstruction {((again - seen.values) ** 2).mean():.6f}\n")  # fmt: skip
    print("| method | pixel error | over persistence | processor time of a frame (ms) |\n| --- | --- | --- | --- |")
    reference = None
    for name, make in makers.items():
        error, cost = _measured(make, structures, cases)
        reference = reference or error
        print(f"| {name} | {error:.4f} | {error / reference:.3f} | {1e3 * cost:.2f} |", flush=True)
    _batches(Forecaster(code, dynamics, plain, None), structures, cases)


def _maker(forecaster):
    return lambda given, end: forecaster.forward(given, [end])[0].values[0, 0]


def _measured(make, structures, cases):
    """Return the root of the mean squared error, and the median processor time of a frame in s."""
    errors, costs = [], []
    for first, last in cases:
        given, end = structures[int(first)], float(structures.properties[TIME][last])
        begun = time.process_time()
        made = make(given, end)
        costs.append(time.process_time() - begun)
        errors.append(((made - structures.values[last, 0]) ** 2).mean())
    return float(np.sqrt(np.mean(errors))), float(np.median(costs))


def _spectral(given, end, grid, step):
    """Return the frame that a spectral simulation on a coarser grid with a larger step makes, on the given grid."""
    c = given.values[0, 0].astype(np.float64)
    n, start = len(c), float(given.properties[TIME][0])
    height, gradient = (float(given.properties[name][0]) for name in ("height", "gradient"))
    coarse = _resampled(c, grid)
    steps = max(1, round((end - start) / step))
    made = processes.spinodal(coarse, [end - start], height=height, gradient=gradient, step=(end - start) / steps)[0]
    return _resampled(made, n)


def _resampled(c, n):
    """Return a periodic field on another grid, by its Fourier coefficients."""
    m, spectrum = len(c), fft.fftshift(fft.fft2(c))
    if n < m:
        cut = (m - n) // 2
        return fft.ifft2(fft.ifftshift(spectrum[cut : cut + n, cut : cut + n])).real * (n / m) ** 2
    pad = (n - m) // 2
    return fft.ifft2(fft.ifftshift(np.pad(spectrum, pad))).real * (n / m) ** 2


def _batches(forecaster, structures, cases):
    """Print the time of a frame where many go through the networks at once."""
    times = structures.properties[TIME]
    rows = [int(first) for first, _ in cases if times[first] == times[cases[0][0]]]
    given = structures[np.array(rows)]
    start = float(given.properties[TIME][0])
    begun = time.process_time()
    forecaster.forward(given, [2 * start])
    print(f"\n{len(rows)} frames together: {1e3 * (time.process_time() - begun) / len(rows):.2f} ms of a frame")


def py_pde(asked):
    """Print error and time of py-pde: finite differences, compiled, the largest stable step of explicit Euler."""
    import pde

    run = Run.open(asked.run)
    structures, code, series, (_, _, test), study = _given(run)
    plain = dataclasses.replace(study.campaign, relaxation=0.0)
    make = _maker(Forecaster(code, loaded(code, study.campaign, run.path / DYNAMICS), plain, None))
    cases = [(series.rows[s][a], series.rows[s][b]) for s in test[: asked.frames] for a, b in OCTAVE]
    error, cost = _measured(make, structures, cases)
    print(f"{len(cases)} frames, py-pde {pde.__version__}\n")
    print("| method | pixel error | processor time of a frame (ms), without compiling |\n| --- | --- | --- |")
    print(f"| dynamics alone | {error:.4f} | {1e3 * cost:.2f} |", flush=True)
    for n in (32, 64, 128):
        errors, costs = [], []
        for first, last in cases:
            end = float(structures.properties[TIME][last])
            spent, made = _with_py_pde(pde, structures[int(first)], n, end)
            costs.append(spent)
            errors.append(((made - structures.values[last, 0]) ** 2).mean())
        print(f"| py-pde, {n} x {n} | {np.sqrt(np.mean(errors)):.4f} | {1e3 * np.median(costs):,.1f} |", flush=True)


def _with_py_pde(pde, given, n, end):
    """Return processor time (s), without compiling, and the frame that py-pde makes on n x n pixels.

    Explicit Euler is stable below steps of 2 / (gradient |k|^4 + 2 height |k|^2), |k|^2 = 8 / spacing^2.
    """
    c = _resampled(given.values[0, 0].astype(np.float64), n)
    height, gradient = (float(given.properties[name][0]) for name in ("height", "gradient"))
    equation = pde.PDE({"c": f"laplace({2 * height}*c*(1-c)*(1-2*c) - {gradient}*laplace(c))"})
    k2, span = 8.0 * n**2, end - float(given.properties[TIME][0])
    step = STABLE * 2 / (gradient * k2**2 + 2 * height * k2)
    start = pde.ScalarField(pde.CartesianGrid([[0, 1], [0, 1]], [n, n], periodic=True), c)
    found = equation.solve(start, t_range=span, dt=span / np.ceil(span / step), solver="euler", tracker=None)
    return equation.diagnostics["controller"]["profiler"]["solver"], _resampled(found.data, 64)


def backward(asked):
    """Print what becomes of samples of earlier frames, by the number of corrections, and frames between two."""
    run = Run.open(asked.run)
    structures, code, series, (train, _, test), study = _given(run)
    fitted = loaded(code, study.campaign, run.path / DYNAMICS)
    print("| corrections | samples inside | error of evolved frames | spread of samples | error of samples |")
    print("| --- | --- | --- | --- | --- |")
    for corrections in (0, 1, 2, 4):
        own = dataclasses.replace(study.campaign, corrections=corrections)
        forecaster, rows = Forecaster(code, fitted, own, study.dataset), []
        for simulation in test[: asked.frames]:
            first, last = (int(series.rows[simulation][k]) for k in (1, 3))
            given = structures[last]
            made = ancestors(
                forecaster, given, float(structures.properties[TIME][first]), count=8, seed=int(simulation)
            )
            spread = generator_spread(structures, series, train, given)
            off = two_point(made.evolved.values[:, 0].astype(float)) - two_point(given.values[:, 0].astype(float))
            rows.append((
                ((np.abs(off) / spread).max(axis=1) <= 1).mean(),
                ((made.evolved.values - given.values) ** 2).mean(), made.samples.values.var(axis=0).mean(),
                ((made.samples.values - structures.values[first]) ** 2).mean(),
            ))  # fmt: skip
        share, *squares = np.mean(rows, axis=0)
        shown = " | ".join(f"{value:.4f}" for value in np.sqrt(squares))
        print(f"| {corrections} | {100 * share:.0f} % | {shown} |", flush=True)
    errors, nearer = [], []
    for simulation in test[: asked.frames]:
        frames = structures[series.rows[simulation]]
        made = forecaster.between(frames[0], frames[9], float(frames.properties[TIME][2]))
        errors.append(((made.values - frames.values[[2]]) ** 2).mean())
        nearer.append(((frames.values[0] - frames.values[2]) ** 2).mean())
    made, rest = (np.sqrt(np.mean(values)) for values in (errors, nearer))
    print(f"\nthree times the first time, from the first and the tenth: {made:.4f}, the nearer frame {rest:.4f}")


def dynamics(asked):
    """Print the errors of every kind of dynamics on held-out simulations, all with the run's model."""
    run = Run.open(asked.run)
    structures, code, series, divided, study = _given(run)
    train, calibrate, _ = divided
    print("| dynamics | pixel error / persistence, calibration simulations | fit (s) |\n| --- | --- | --- |")
    for kind in asked.kinds:
        settings = dataclasses.replace(study.campaign, dynamics=kind, epochs=asked.epochs)
        begun = time.perf_counter()
        fitted = fit_dynamics(
            code, structures, series, settings, train=train, calibrate=calibrate, backward=False,
            seed=seed_of(study.seed, "dynamics"), limit=lambda: None, report=lambda *_: None,
        )  # fmt: skip
        cost = time.perf_counter() - begun
        forecaster = Forecaster(code, fitted, dataclasses.replace(settings, relaxation=0.0), None)
        cases = [(series.rows[s][a], series.rows[s][b]) for s in calibrate for a, b in OCTAVE]
        error, _ = _measured(_maker(forecaster), structures, cases)
        rest, _ = _measured(lambda given, end: given.values[0, 0], structures, cases)
        print(f"| {kind} | {error / rest:.3f} | {cost:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (controls, py_pde, backward, dynamics):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("run", type=Path)
        command.add_argument("--frames", type=int, default=20)
        command.add_argument("--epochs", type=int, default=2)
        command.add_argument("--kinds", nargs="+", default=["ode", "linear", "gaussian-process", "flow"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.function(asked)


if __name__ == "__main__":
    main()
