"""The figures of inverse design: targets, designs, progress of searches, fronts, interpretation of the best design."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from msvae.campaigns.design.campaign import InverseDesign
from msvae.files.structures import read_structures
from msvae.report.drawing import Drawing, axes_of, check_panels, picture
from msvae.run.directory import Run
from msvae.vae.blueprint import component_values

__all__ = ["best_design", "interpretation", "pareto_front", "target_and_found"]

FINEST = 64  # voxels along an edge of what is drawn in three dimensions, one by one
BAND = (10, 90)  # percentiles of several searches


def target_and_found(run: Run) -> Drawing | None:
    """Training structures, designs and target in the plane of the first two targets; and distance over solver calls."""
    searches, design = (
        run.read_json("searches.json", list[dict[str, Any]], ["stage", "distances"]),
        run.study.find(InverseDesign),
    )
    if not searches or design is None:
        return None
    figure = Figure(figsize=(9.2, 3.6))
    left, right = axes_of(figure, 1, 2)
    last = -1 if len(design.targets) == 1 else 1  # of a curve its ends, of several targets the first two
    first, second = design.components[0], design.components[last]
    aims = [ends for target in design.targets for ends in target.ends]
    known, found = run.labelled.properties, run.store("search-0").load().properties
    for properties, size, marker, label in ((known, 8, ".", "training structures"),
                                            (found, 22, "o", "designs of the first search")):  # fmt: skip
        x, y = (component_values(properties, number) for number in (first, second))
        left.scatter(x, y, s=size, marker=marker, label=label)
    (low, high), (least, most) = aims[0], aims[last]
    if low == high and least == most:
        left.plot(low, least, "k+", markersize=14, markeredgewidth=2, label="target", zorder=4)
    units = run.store("search-0").load().units
    left.set(xlabel=f"{first} ({units[first.property]})", ylabel=f"{second} ({units[second.property]})")
    left.legend(loc="best", fontsize=7)
    _courses(right, searches)
    return Drawing(
        "target_and_found",
        "Left: solver-computed properties. Right: nearest verified design so far, in "
        "tolerances (1 meets the target by the solver's value), for each search and for random samples of the prior.",
        figure,
    )


def pareto_front(run: Run) -> Drawing | None:
    """Data set and designs in the plane of two objectives, with the front."""
    found = run.read_json("pareto.json", dict[str, Any], ["sets", "front", "names"])
    if not found:
        return None
    figure = Figure(figsize=(4.8, 3.8))
    axis = figure.subplots()
    for name, marker in (("data set", "."), ("search", "o")):
        values = np.array(found["sets"][name])
        axis.scatter(values[:, 0], values[:, 1], s=8 if name == "data set" else 20, marker=marker, label=name)
    axis.plot(*np.array(found["sets"]["search"])[found["front"]].T, "k-", lw=1, label="front")
    axis.set(xlabel=found["names"][0], ylabel=found["names"][1])
    axis.legend()
    return Drawing(
        "pareto_front", "Solver-computed properties of the data set and of the designs, and the front.", figure
    )


def _courses(axis: Any, searches: list[dict[str, Any]]) -> None:
    """Draw the nearest design so far over the calls: of several searches the median, and a band."""
    for name, colour, control in (("search", "C0", False), ("random samples of the prior", "C1", True)):
        own = [s for s in searches if s["stage"].startswith("control") == control]
        if not own:
            continue
        longest = max(len(s["distances"]) for s in own)
        courses = np.full((len(own), longest), np.inf)
        for row, search in zip(courses, own, strict=True):
            course = np.fmin.accumulate([np.inf if d is None else d for d in search["distances"]])
            row[: len(course)], row[len(course) :] = course, course[-1]
        calls, count = own[0].get("price", 1) * np.arange(1, longest + 1), len(own)
        low, middle, high = np.percentile(courses, [BAND[0], 50, BAND[1]], axis=0, method="nearest")
        axis.step(calls, middle, where="post", color=colour, label=name + (f", median of {count}" if count > 1 else ""))
        if count > 1:
            axis.fill_between(calls, low, high, step="post", color=colour, alpha=0.25, lw=0)
    axis.axhline(1, color="k", lw=0.8, ls="--")
    axis.set(xscale="log", yscale="log", xlabel="solver calls", ylabel="distance (tolerances)")
    axis.legend(fontsize=7)


def interpretation(run: Run) -> Drawing | None:
    """Effect of the most important latents on structure and properties, and the contribution of every voxel."""
    found = run.read_json("interpretation.json", dict[str, Any], ["steps", "axes", "numbers", "traversal"])
    if not found or not (run.path / "traversal.h5").exists():
        return None
    structures, steps = read_structures(run.path / "traversal.h5"), found["steps"]
    check_panels(len(found["axes"]) * len(steps))
    figure = Figure(figsize=(1.2 * len(steps) + 4.6, 1.35 * len(found["axes"]) + 0.6), layout="constrained")
    attributed = (run.path / "attribution.h5").exists()
    grid = figure.add_gridspec(len(found["axes"]), len(steps) + (4 if attributed else 2))
    for row, latent in enumerate(found["axes"]):
        for k, step in enumerate(steps):
            axis = figure.add_subplot(grid[row, k])
            picture(axis, structures, row * len(steps) + k)
            axis.set_title(f"{step:+g}", fontsize=8) if row == 0 else None
            axis.set_ylabel(f"latent {latent}") if k == 0 else None
    plot = figure.add_subplot(grid[:, len(steps) : len(steps) + 2])
    for j, name in enumerate(found["numbers"]):
        for row, latent in enumerate(found["axes"]):
            values = np.array(found["traversal"][j][row], dtype=float)
            values /= values[steps.index(0.0)]
            plot.plot(steps, values, "osD^"[j] + "-", color=f"C{row}", label=f"{name}, latent {latent}")
    plot.set(xlabel="standard deviations", ylabel="property over the design's (1)")
    plot.legend(fontsize=6)
    if attributed:
        axis = figure.add_subplot(grid[:, len(steps) + 2 :])
        picture(axis, read_structures(run.path / "attribution.h5"), 0)
        axis.set_title(f"what voxels add to {found['numbers'][0]}", fontsize=8)
    caption = (
        "The best design, its latents moved by standard deviations of the data set's: decoded structures, and their "
        "properties by the solver. Right: derivative of the first property with respect to every voxel."
    )
    return Drawing("interpretation", caption, figure)


def best_design(run: Run) -> Drawing | None:
    """The best design: its surface in 3D, or its image in 2D."""
    path = run.path / "best_design.h5"
    if not path.exists():
        return None
    structures = read_structures(path)
    values = structures.values[0, 0]
    figure = Figure(figsize=(4.2, 4.0))
    if structures.specification.grid.dimensions != 3:
        picture(figure.subplots(), structures, 0)
        return Drawing("best_design", "The best design.", figure)
    axis: Any = figure.add_subplot(projection="3d")
    phase = 0 if structures.fractions[0, 0] < 0.5 else 1
    step = -(-max(values.shape) // FINEST)
    axis.voxels(values[::step, ::step, ::step] == phase, facecolors="#0072B2", edgecolor="#004a75", linewidth=0.1)
    micrometres = [f"{1e6 * length:.3g}" for length in structures.specification.grid.lengths]
    axis.set(
        xlabel="axis 0 (voxels)",
        ylabel="axis 1 (voxels)",
        zlabel="axis 2 (voxels)",
        box_aspect=structures.specification.grid.lengths,
    )
    name = structures.specification.constituents[phase]
    return Drawing("best_design", f"The best design: {name}, a cell of {' x '.join(micrometres)} micrometres.", figure)
