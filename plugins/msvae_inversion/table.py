"""The table of an inversion: how well each image explains its data, and how near it is to the truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from msvae import Array, Evaluations, Table
from msvae_inversion.problem import Problem

__all__ = ["psnr", "table_of"]


def psnr(image: Array, truth: Array, levels: Array) -> float:
    """Return the peak signal-to-noise ratio (dB) of an image, whose peak is the range of the data set's images."""
    error = float(((image.ravel() - truth.ravel()) ** 2).mean())
    return float(10 * np.log10((levels[1] - levels[0]) ** 2 / max(error, 1e-30)))


def table_of(
    problem: Problem, best: Evaluations, samples: Evaluations | None, controls: Mapping[str, Evaluations]
) -> Table:
    """Return a row for each image, and one of the means."""
    columns = _columns(problem, best, samples, controls)
    rows = tuple(
        (str(k), *(f"{column[k]:.3g}" if name == "chart" else f"{column[k]:.3f}" for name, column in columns.items()))
        for k in range(len(best))
    )
    mean = ("mean", *("" if name == "chart" else f"{np.mean(column):.3f}" for name, column in columns.items()))
    stages = {**({} if samples is None else {"samples": samples}), **controls}
    failed = [f"{name}: {int((~t.done).sum())} failed, {t['message'][~t.done][0]}"
              for name, t in stages.items() if (~t.done).any()]  # fmt: skip
    return Table("Images that explain the data", ("image", *columns), (*rows, mean), tuple(failed))


def _columns(
    problem: Problem, best: Evaluations, samples: Evaluations | None, controls: Mapping[str, Evaluations]
) -> dict[str, list[float]]:
    measured = problem.measured
    columns: dict[str, list[float]] = {name: best.properties[key].tolist()
                                       for name, key in (("misfit / noise", "misfit"), ("chart", "chart"))}  # fmt: skip
    if np.isfinite(measured.truth).all():
        images = {"PSNR (dB)": best.properties["image"]}
        if samples is not None:
            images["of the posterior mean"] = samples.properties["mean"]
        images |= {f"of {control}": found.properties["image"] for control, found in controls.items()}
        for name, made in images.items():
            columns[name] = [psnr(x, t, measured.levels) for x, t in zip(made, measured.truth, strict=True)]
        if samples is not None:
            t = measured.truth.reshape(len(measured.truth), *problem.grid)
            held = (samples.properties["low"] <= t) & (t <= samples.properties["high"])
            columns["pixels within interval"] = held.reshape(len(held), -1).mean(axis=1).tolist()
    return columns
