"""The figures of an inversion: truths beside what was found, and the misfit along the descents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from msvae import Array, Drawing, Run
from msvae_inversion.inversion import best_starts
from msvae_inversion.invert import Invert
from msvae_inversion.problem import MEASURED

MOST = 8  # images that are shown


def images(run: Run, settings: Invert) -> Drawing | None:
    """Truths, images found on the charts, controls, and deviations of the posterior."""
    if "descend" not in run.stages:
        return None
    truth, levels = _truth(run.path)
    best = best_starts(run.store("descend").load(), settings.starts)
    grid = best.properties["image"].shape[1:]
    if len(grid) != 2:
        return None
    rows: dict[str, Array] = {"truth": truth.reshape(-1, *grid)} if np.isfinite(truth).all() else {}
    rows["charts"] = best.properties["image"]
    for name in map(str, settings.controls):
        if name in run.stages:
            rows[name] = run.store(name).load().properties["image"]
    if "sample" in run.stages:
        rows["posterior deviation"] = run.store("sample").load().properties["deviation"]
    count = min(MOST, len(best))
    figure = Figure(figsize=(1.3 * count + 1.6, 1.35 * len(rows)), layout="constrained")
    for line, (axes, (name, values)) in enumerate(
        zip(figure.subplots(len(rows), count, squeeze=False), rows.items(), strict=True)
    ):
        spread = name == "posterior deviation"
        low, high = (0.0, float(values[:count].max())) if spread else (levels[0], levels[1])
        for k, axis in enumerate(axes):
            shown = axis.imshow(values[k], vmin=low, vmax=high, cmap="magma" if spread else "cividis")
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
            if line == 0:
                axis.set_title(f"image {k}", fontsize=8)
        axes[0].set_ylabel(name.replace(" ", "\n").replace("-", "\n"), fontsize=8)
        if line == 0 or spread:
            figure.colorbar(shown, ax=axes, label="deviation (1)" if spread else "value (1)", shrink=0.9)
    return Drawing("inversion", "Images, and what is found from their data by each method.", figure)


def descents(run: Run, settings: Invert) -> Drawing | None:
    """Misfit of every descent over its steps."""
    if "descend" not in run.stages:
        return None
    found = run.store("descend").load()
    figure = Figure(figsize=(4.6, 3.2))
    axis = figure.subplots()
    for k, values in zip(found["index"].tolist(), found.properties["values"], strict=True):
        axis.semilogy(values, lw=0.8, color=f"C{k // settings.starts % 8}")
    axis.axhline(settings.discrepancy, color="k", ls=":", lw=0.9, label="level of the noise (Morozov)")
    axis.set(xlabel="step of the descent", ylabel="misfit / noise (1)")
    axis.legend()
    return Drawing("descents", "Root mean square misfit along the descents; a colour is an image.", figure)


def _truth(path: Path) -> tuple[Array, Array]:
    with np.load(path / MEASURED, allow_pickle=False) as arrays:
        return arrays["truth"], arrays["levels"]
