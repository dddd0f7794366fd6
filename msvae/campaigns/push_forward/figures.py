"""The figure of a push-forward."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from msvae.report.drawing import Drawing
from msvae.run.directory import Run

__all__ = ["push_forward"]


def push_forward(run: Run) -> Drawing | None:
    """Distribution of the quantity by every fidelity and control, and the intervals that were estimated."""
    found = run.read_json("push_forward.json", dict[str, Any], ["values", "cheap", "estimates", "quantity", "unit"])
    if not found:
        return None
    figure = Figure(figsize=(6.4, 3.8))
    axis = figure.subplots()
    controls = found.get("controls", {})
    series = {"samples": found["values"], **found["cheap"], "uncorrelated latents": controls.get("uncorrelated", [])}
    for name, values in series.items():
        if len(values) > 1:
            ordered = np.sort(values)
            axis.step(ordered, (np.arange(len(ordered)) + 0.5) / len(ordered), where="mid", label=name)
    if "homogeneous" in controls:
        axis.axvline(controls["homogeneous"], color="k", lw=0.8, ls=":", label="homogeneous")
    for name, (value, low, high) in found["estimates"].items():
        if name.endswith("quantile") and None not in (low, high):
            level = float(name.split()[0]) / 100
            axis.errorbar(value, level, xerr=[[value - low], [high - value]], color="k", marker="o", ms=4, capsize=3)
    value, low, high = found["estimates"]["mean"]
    error = (found.get("discretisation_errors") or {}).get("mean")
    if error is not None and None not in (low, high):
        axis.axvspan(low - error, high + error, color="0.93", label="mean, interval and discretisation error")
    axis.axvspan(low, high, color="0.8", label="mean, with its interval")
    axis.set(xlabel=f"{found['quantity']} ({found['unit']})", ylabel="distribution function (1)", ylim=(0, 1))
    axis.legend(fontsize=7)
    caption = (
        "Distribution of the quantity of interest over samples of each fidelity and of the controls. Black: "
        "quantiles with their intervals, from all fidelities together."
    )
    return Drawing("push_forward", caption, figure)
