"""The figures of campaigns about parts: comparison with DNS, push-forward of uncertainty, gradation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from msvae.report.drawing import Drawing, axes_of, picture
from msvae.run.directory import Run
from msvae.structure_file import read_structures

__all__ = ["dns", "field", "gradation", "push_forward"]


def dns(run: Run) -> Drawing | None:
    """Global error over the size of structures, and the local quantity of every structure against DNS."""
    found, part = run.read_json("dns.json", dict[str, Any], ["dns", "rows"]), run.study.part
    if not found or part is None:
        return None
    truth, rows = found["dns"], found["rows"]
    figure = Figure(figsize=(9.6, 3.4))
    left, middle, right = axes_of(figure, 1, 3)
    names = list(dict.fromkeys(row["name"] for row in rows))
    for k, name in enumerate(names):
        own = [row for row in rows if row["name"] == name]
        sizes = [row["size"] for row in own]
        style: dict[str, Any] = {"marker": "osD^"[k % 4], "ls": "-" if len(own) > 1 else "", "label": name}
        left.plot(sizes, [100 * (row["quantity"] / truth["quantity"] - 1) for row in own], **style)
        if name == names[0]:
            middle.plot(sizes, [100 * row["scatter"] for row in own], marker="o")
        finest = own[len(own) // 2]
        right.scatter(truth["cells"][str(finest["size"])], finest["cells"], s=9, marker=style["marker"], label=name)
    left.axhline(0, color="k", lw=0.8, ls="--")
    left.set(xlabel="structure's edge (voxels)", ylabel="error of the global response (%)", xscale="log")
    left.legend(fontsize=6)
    middle.set(
        xlabel="structure's edge (voxels)", ylabel="scatter of the axial property (%)", xscale="log", ylim=(0, None)
    )
    right.axline((1, 1), slope=1, color="k", lw=0.8, ls="--")
    right.set(xlabel="work in a structure by DNS, over its mean (1)", ylabel="the same by the model (1)")
    caption = (
        "The bar against its direct numerical simulation. Left: error of the global response. Middle: scatter of the "
        "structures' axial property. Right: stress times strain, or flux times gradient, of every structure."
    )
    return Drawing("dns", caption, figure)


def field(run: Run) -> Drawing | None:
    """Correlation of neighbours and scatter of blocks, of generated parts, of the image, and without correlation."""
    found = run.read_json("field.json", dict[str, Any], ["found", "lags", "edges", "phase"])
    if not found:
        return None
    figure = Figure(figsize=(7.6, 3.2))
    left, right = axes_of(figure, 1, 2)
    for k, (name, row) in enumerate(found["found"].items()):
        style: dict[str, Any] = {"marker": "osD^"[k % 4], "color": "k" if k == 0 else f"C{k - 1}", "label": name}
        left.plot(found["lags"], np.array(row["correlation"], dtype=float), **style)
        right.plot(found["edges"], np.array(row["scatter"], dtype=float), **style)
    left.axhline(0, color="0.6", lw=0.8)
    left.set(xlabel="distance (structures)", ylabel="autocorrelation (1)", xticks=found["lags"])
    right.set(xlabel="edge of the block (voxels)", ylabel="scatter of its mean (1)", xticks=found["edges"])
    right.set_ylim(0, None)
    right.legend(fontsize=7)
    phase = found["phase"]
    caption = (
        f"The fraction of '{phase}' in structures side by side, and in blocks of them: generated parts and the image."
    )
    return Drawing("field", caption, figure)


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


def gradation(run: Run) -> Drawing | None:
    """The graded part, and the profile that was asked against the one that was measured."""
    found, path = run.read_json("gradation.json", dict[str, Any]), run.path / "part.h5"
    if not found or not path.exists():
        return None
    part = read_structures(path)
    figure = Figure(figsize=(9.2, 3.2))
    left, right = axes_of(figure, 1, 2)
    picture(left, part, 0)
    left.set(title="part", xlabel=f"{1e6 * part.specification.grid.lengths[-1]:.3g} µm")
    if "designs" in found:
        names = [row[0] for row in found["designs"]]
        right.bar(names, [float(row[3]) for row in found["designs"]])
        right.set(ylabel="stiffness by DNS over the uniform part's (1)")
    else:
        target, measured = np.array(found["target"]), np.array(found["measured"])
        along = np.array(found["positions"])[:, 0]
        right.scatter(along, measured, s=8, alpha=0.5, label="window")
        order = np.unique(along)
        right.plot(order, [measured[along == x].mean() for x in order], "o-", color="C1", label="mean")
        right.plot(order, [target[along == x].mean() for x in order], "k--", lw=1, label="asked")
        right.set(xlabel="position along the first axis (1)", ylabel="measured of the decoded windows")
        right.legend(fontsize=7)
    return Drawing("gradation", "The graded part, decoded to one image; and what was measured of it.", figure)
