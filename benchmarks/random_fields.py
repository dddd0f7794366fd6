"""Gaussian random fields at scattered points: msvae against GSTools, interleaved in one process, one thread.

    make bench

16 channels with a full cross-covariance at 125,000 points in a cube of five correlation lengths, Matern 3/2; GSTools
(randomisation method, 1,000 modes) draws one channel at the same points. Then msvae at a million points. The table is
written to benchmarks/RANDOM_FIELDS.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import gstools
import numpy as np

from msvae.sampling.fields.covariance import Coregionalization, Correlation
from msvae.sampling.fields.gaussian_field import field_at

CHANNELS, POINTS, LENGTH = 16, 125_000, 10.0


def timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, default=Path(__file__).with_name("RANDOM_FIELDS.md"))
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((CHANNELS, CHANNELS))
    model = Coregionalization.of(Correlation((LENGTH,) * 3, 1.5), factor @ factor.T / CHANNELS)
    points, many = rng.random((POINTS, 3)) * 5 * LENGTH, rng.random((1_000_000, 3)) * 10 * LENGTH
    gstools.config.NUM_THREADS = 1
    peer = gstools.SRF(gstools.Matern(dim=3, var=1.0, len_scale=LENGTH, nu=1.5), mode_no=1000)
    ours, theirs = [], []
    for k in range(asked.rounds):
        ours.append(timed(lambda seed=k: field_at(model, points, seed)))  # type: ignore[misc]
        theirs.append(timed(lambda seed=k: peer(points.T, seed=seed, mesh_type="unstructured")))  # type: ignore[misc]
    million = timed(lambda: field_at(model, many, 0))
    sample, channel = statistics.median(ours), statistics.median(theirs)
    lines = [
        "# Random fields against GSTools", "",
        f"Written by `benchmarks/random_fields.py`: medians of {asked.rounds} interleaved rounds, 1 thread; "
        f"GSTools {version('gstools')}.", "",
        "| | seconds |", "| --- | --- |",
        f"| msvae, {CHANNELS} channels at {POINTS:,} points | {sample:.2f} |",
        f"| msvae, per channel | {sample / CHANNELS:.3f} |",
        f"| GSTools, one channel | {channel:.2f} |",
        f"| GSTools over msvae, per channel | {channel * CHANNELS / sample:.0f} times |",
        f"| msvae, {CHANNELS} channels at {len(many):,} points | {million:.1f} |", "",
        f"Largest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB.", "",
    ]  # fmt: skip
    asked.write.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
