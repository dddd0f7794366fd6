"""The generator of spinodal patterns: mass, free energy and growth, and published patterns within its spread.

python benchmarks/spinodal.py generator          # mass, free energy and growth of the generator
python benchmarks/spinodal.py resolved           # growth of droplets on a grid of twice the resolution
python benchmarks/spinodal.py patterns FOLDER    # published 400 x 400 patterns against the generator
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from msvae_evolution.measures import characteristic_lengths, growth_exponent
from msvae_microstructures import processes

TIMES = (2.4e-4, 3.6e-4, 5e-4, 7.2e-4, 1e-3, 2e-3, 4e-3, 8e-3)  # that patterns are fitted at


def generator(_):
    """Print mass drift, free energy and growth exponents of the simulator."""
    rng = np.random.default_rng(0)
    times = 5e-6 * np.arange(2001)
    frames = processes.spinodal(0.5 + _noise(rng, 6, 64), times, height=85.0, gradient=0.0175)
    mass, energy = (
        frames.mean(axis=(1, 2)),
        [processes.spinodal_energy(c, height=85.0, gradient=0.0175) for c in frames],
    )
    print(f"relative mass drift over 2,000 steps: {np.abs(mass / mass[0] - 1).max():.1e}")
    print(f"largest rise of the free energy in a step: {max(np.diff(energy).max(), 0.0) / energy[0]:.1e}")
    print("\n| domain | mean | times | characteristic length | growth exponent |\n| --- | --- | --- | --- | --- |")
    for name, n, cells, gradient, step, marks in (
        ("published parameters", 64, 6, 0.0175, 5e-6, (200, 400, 1000, 2000)),
        ("3.4 times as large", 256, 64, 0.0015, 5e-7, (160, 320, 640, 1280)),
        ("the same, later", 256, 64, 0.0015, 5e-7, (1280, 2560, 5120)),
        ("the same, later still", 256, 64, 0.0015, 5e-7, (5120, 10240, 20480)),
    ):
        for mean in (0.5, 0.63):
            marked = np.array(marks) * step
            runs = [
                processes.spinodal(mean + _noise(rng, cells, n), marked, height=85.0, gradient=gradient, step=step)
                for _ in range(12 if n == 64 else 2)
            ]
            lengths = np.stack([characteristic_lengths(run, (1 / n,) * 2) for run in runs])
            found = growth_exponent(marked, lengths)
            print(f"| {name} | {mean} | {marked[0]:.2g} to {marked[-1]:.2g} | {lengths.mean(axis=0)[0]:.3f} to "
                  f"{lengths.mean(axis=0)[-1]:.3f} | {found:.3f} |")  # fmt: skip


def resolved(_):
    """Print the growth exponents of droplets on a grid on which their interface is three pixels wide instead of 1.5."""
    rng, marks = np.random.default_rng(0), 1e-6 * np.array([640, 1280, 2560, 5120])
    runs = [
        processes.spinodal(0.63 + _noise(rng, 64, 512), marks, height=85.0, gradient=0.0015, step=1e-6)
        for _ in range(3)
    ]
    lengths = np.stack([characteristic_lengths(run, (1 / 512,) * 2) for run in runs])
    means = lengths.mean(axis=0)
    print(
        f"mean .63, 512 x 512, {marks[0]:.2g} to {marks[-1]:.2g}: characteristic lengths {np.round(means, 3)}, growth "
        f"exponent {growth_exponent(marks, lengths):.3f}, of each octave {np.round(np.log2(means[1:] / means[:-1]), 3)}"
    )


def _noise(rng, cells, n):
    places = np.ix_(*(np.arange(n) * cells // n for _ in range(2)))
    return rng.uniform(-0.05, 0.05, (cells, cells))[places]


def patterns(asked):
    """Print whether the two-point functions of published patterns are within the generator's spread."""
    print("| pattern | fraction | fitted: mean, cells, gradient, time | lags inside | largest distance (deviations) |")
    print("| --- | --- | --- | --- | --- |")
    for file in sorted(asked.folder.glob("*.txt")):
        pattern = np.loadtxt(file).reshape(400, 400)
        pattern = (pattern > pattern.max() / 2).astype(float)
        coarse = pattern.reshape(80, 5, 80, 5).mean(axis=(1, 3)) > 0.5
        right = _open_two_point(coarse[None])[0, 1:]
        fraction = float(coarse.mean())
        published = min((0.25, 0.37, 0.5, 0.63, 0.75), key=lambda c: abs(c - fraction))
        found = []
        for mean, cells, gradient in product((published,), (4, 6, 8), (0.01, 0.0175, 0.025)):
            made = _generated(fraction, mean, (cells, gradient), 10)
            for k, at in enumerate(TIMES):
                own = _open_two_point(made[:, k])[:, 1:]
                off = (np.abs(own.mean(axis=0) - right) / own.std(axis=0)).max()
                found.append((off, mean, cells, gradient, k, at))
        _, mean, cells, gradient, k, at = min(found)
        many = _open_two_point(_generated(fraction, mean, (cells, gradient), 40, seed=1)[:, k])[:, 1:]
        inside = (right >= many.min(axis=0)) & (right <= many.max(axis=0))
        z = np.abs(right - many.mean(axis=0)) / many.std(axis=0)
        fitted = f"{mean:.3f}, {cells}, {gradient:g}, {at:.2g}"
        print(f"| {file.stem} | {coarse.mean():.3f} | {fitted} | {inside.sum()} of {len(inside)} | {z.max():.2f} |",
              flush=True)  # fmt: skip


def _generated(fraction, mean, parameters, count, seed=0, n=80):
    """Return binary patterns (count, times, n, n) of a mean concentration, cut where they have a phase fraction.

    Sides are without flux, as those of the published patterns: a mirrored start on a periodic square of twice the edge,
    in whose unit times and the gradient's factor are a quarter.
    """
    (cells, gradient), rng, made = parameters, np.random.default_rng(seed), []
    times = np.array(TIMES) / 4
    for _ in range(count):
        start = np.pad(mean + _noise(rng, cells, n), ((0, n), (0, n)), mode="symmetric")
        frames = processes.spinodal(start, times, height=85.0, gradient=gradient / 4, step=5e-6)[:, :n, :n]
        made.append([frame > np.quantile(frame, 1 - fraction) for frame in frames])
    return np.array(made, dtype=float)


def _open_two_point(inside):
    """Return the two-point function (n, lags) of patterns that do not continue, to a quarter of the edge."""
    n = inside.shape[1]
    rows = []
    for axis in (1, 2):
        power = np.abs(np.fft.fft(inside.astype(float), 2 * n, axis=axis)) ** 2
        products = np.fft.ifft(power, axis=axis).real.sum(axis=3 - axis) / n
        rows.append(products[:, : n // 4] / (n - np.arange(n // 4)))
    return np.mean(rows, axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    commands.add_parser("generator").set_defaults(function=generator)
    commands.add_parser("resolved").set_defaults(function=resolved)
    command = commands.add_parser("patterns")
    command.set_defaults(function=patterns)
    command.add_argument("folder", type=Path)
    asked = parser.parse_args()
    asked.function(asked)


if __name__ == "__main__":
    main()
