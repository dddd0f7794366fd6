"""Figures of the campaign: film strips, the error against the horizon, lengths with bands, properties against time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from msvae import Array, Drawing, Evaluations, Run
from msvae_evolution.campaign import Evolve
from msvae_evolution.series import Series
from msvae_evolution.summary import bands

__all__ = ["FIGURES", "errors", "films", "lengths", "solved"]

STRIPS = 2  # test simulations that are drawn


def films(run: Run) -> Drawing | None:
    """Predicted frames below those of the simulation, from the given one on."""
    found = _found(run)
    if found is None:
        return None
    table, test, starts, times, settings = found
    series, structures = Series.of(run.structures), run.structures
    order = sorted(range(len(settings.factors)), key=lambda k: settings.factors[k])
    first = [k for k in np.flatnonzero(test) if starts[k][1] == settings.given[0]][:STRIPS]
    figure = Figure(figsize=(1.3 * (len(order) + 1), 2.9 * len(first)))
    axes = np.reshape(figure.subplots(2 * len(first), len(order) + 1, squeeze=False), (len(first), 2, -1))
    for strip, row in zip(axes, first, strict=True):
        simulation, number = starts[row]
        given = structures.values[series.rows[simulation][number], 0]
        _image(strip[0, 0], given, f"given, t = {times[row]:.3g}")
        strip[1, 0].set_axis_off()
        for column, k in enumerate(order, start=1):
            factor = settings.factors[k]
            truth = series.row_at(simulation, factor * times[row])
            _image(strip[0, column], None if truth is None else structures.values[truth, 0], f"{factor:g} t")
            _image(strip[1, column], table.properties["frame"][row, k], "")
        strip[0, 0].set_ylabel("simulated")
        strip[1, 0].text(1.0, 0.5, "predicted", rotation=90, ha="right", va="center", transform=strip[1, 0].transAxes)
    return Drawing("evolve_films", "Frames of test simulations (above) and their predictions (below).", figure)


def errors(run: Run) -> Drawing | None:
    """The pixel error against the horizon, beside persistence and the control."""
    found = _found(run)
    if found is None:
        return None
    table, test, _, _, settings = found
    factors = np.array(sorted(settings.factors))
    order = [settings.factors.index(f) for f in factors]
    figure = Figure(figsize=(4.2, 3.2))
    axis = figure.subplots()
    shown = {"error": ("latent dynamics", "o-"), "control": ("network on pixels", "s--"),
             "persistence": ("persistence", "k:")}  # fmt: skip
    for name, (label, style) in shown.items():
        values = table.properties[name][test][:, order]
        there = np.isfinite(values).any(axis=0)
        if there.any():
            axis.plot(factors[there], np.sqrt(np.nanmean(values[:, there] ** 2, axis=0)), style, label=label)
    axis.set(xscale="log", xlabel="time / time of the given frame (1)", ylabel="pixel error, root mean square (1)")
    axis.set_xticks(factors, [f"{f:g}" for f in factors])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.legend()
    return Drawing("evolve_errors", "Errors of predicted frames of test simulations against the horizon.", figure)


def lengths(run: Run) -> Drawing | None:
    """Predicted characteristic lengths with 90 % bands against simulated ones."""
    found = _found(run)
    if found is None:
        return None
    table, test, _, _, settings = found
    factors = [f for f in sorted(settings.factors) if f > 1]
    figure = Figure(figsize=(4.2, 3.6))
    axis = figure.subplots()
    for k, factor in enumerate(factors):
        truth = table.properties["true_length"][:, settings.factors.index(factor)]
        seen = test & np.isfinite(truth)
        if not seen.any():
            continue
        own = bands(table, test, settings, factor)
        below, above = (own.middle - own.low)[seen], (own.high - own.middle)[seen]
        axis.errorbar(truth[seen], own.middle[seen], [below, above], fmt=".", color=f"C{k}", lw=0.7, alpha=0.8,
                      label=f"{factor:g} t: bands hold {100 * own.held:.0f} %")  # fmt: skip
    axis.axline((0.3, 0.3), slope=1, color="k", lw=0.8, ls="--")
    axis.set(xlabel="simulated characteristic length (m)", ylabel="predicted, with 90 % bands (m)")
    axis.legend()
    return Drawing("evolve_lengths", "Characteristic lengths of test simulations and their predictions.", figure)


def solved(run: Run) -> Drawing | None:
    """What the solver computes of predicted frames against time, beside that of simulated ones."""
    rows = run.read_json("solved.json")
    if not rows or "solved" not in run.stages:
        return None
    table = run.store("solved").load().latest()
    name, values = next(iter(table.properties.items()))
    leading = values.reshape(len(values), -1)[:, 0]
    figure = Figure(figsize=(4.6, 3.4))
    axis = figure.subplots()
    chosen = [rows[k] for k in table["index"]]
    for colour, simulation in enumerate(dict.fromkeys(row[0] for row in chosen)):
        _curve(axis, [(row[1], row[2], v) for row, v in zip(chosen, leading, strict=True) if row[0] == simulation],
               f"C{colour}")  # fmt: skip
    index = "[" + ", ".join("0" * (values.ndim - 1)) + "]" if values.ndim > 1 else ""
    axis.set(xscale="log", xlabel="time / time of the given frame (1)",
             ylabel=f"{name}{index} ({table.units.get(name, '1')})")  # fmt: skip
    factors = sorted({row[1] for row in chosen})
    axis.set_xticks(factors, [f"{f:g}" for f in factors])
    axis.minorticks_off()
    caption = "The solver's property of predicted frames (line: median; band: 5 to 95 % of samples) and simulated ones."
    return Drawing("evolve_solved", caption, figure)


FIGURES: tuple[Callable[[Run], Drawing | None], ...] = (films, errors, lengths, solved)


def _curve(axis: Any, rows: list[tuple[float, str, float]], colour: str) -> None:
    """Draw what the solver computed of one simulation: rows of factor, origin and value."""
    start = [v for _, origin, v in rows if origin == "given"]
    factors = sorted({f for f, origin, _ in rows if origin == "sample"})
    samples = [[v for f, origin, v in rows if f == factor and origin == "sample"] for factor in factors]
    low, middle, high = (np.array([start[0], *(np.quantile(s, q) for s in samples)]) for q in (0.05, 0.5, 0.95))
    axis.plot([1.0, *factors], middle, color=colour)
    axis.fill_between([1.0, *factors], low, high, color=colour, alpha=0.2, lw=0)
    truth = [(f, v) for f, origin, v in rows if origin != "sample"]
    axis.plot([f for f, _ in truth], [v for _, v in truth], "o", color=colour, ms=4)


def _image(axis: Any, values: Array | None, title: str) -> None:
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=8)
    axis.grid(visible=False)
    if values is None:
        axis.set_axis_off()
        return
    flat = values[values.shape[0] // 2] if values.ndim == 3 else values
    axis.imshow(flat, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")


def _found(run: Run) -> tuple[Evaluations, Array, list[tuple[int, int]], list[float], Evolve] | None:
    """Return the evaluations in order, which are of test simulations, what they start from, and the settings."""
    starts = run.read_json("starts.json")
    if not starts or "evolve" not in run.stages:
        return None
    table = run.store("evolve").load().latest()
    index = table["index"].tolist()
    pick = {name: [starts[name][k] for k in index] for name in ("starts", "test", "times")}
    return table, np.array(pick["test"]), [tuple(s) for s in pick["starts"]], pick["times"], run.study.need(Evolve)
