"""The figure of a screening."""

from __future__ import annotations

import csv

import numpy as np
from matplotlib.figure import Figure

from msvae import Drawing, Run
from msvae_alloys.formulas import amounts

MOST = 16  # elements that are shown


def pool(run: Run) -> Drawing | None:
    """Probability and distance from known alloys of the pool, and how often its elements occur."""
    path = run.path / "pool.csv"
    if not path.is_file():
        return None
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(8, 3.2))
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys(row["workflow"] for row in rows))
    elements: dict[str, np.ndarray] = {}
    for k, name in enumerate(names):
        own = [row for row in rows if row["workflow"] == name]
        left.plot(
            [float(r["distance to known (at.%)"]) for r in own], [float(r["probability"]) for r in own], ".", label=name
        )
        for row in own:
            for symbol in amounts(row["composition (at.%)"]):
                elements.setdefault(symbol, np.zeros(len(names)))[k] += 1 / len(own)
    left.set(xlabel="distance to the nearest known alloy (at.%)", ylabel="probability")
    often = sorted(elements, key=lambda symbol: -elements[symbol].sum())[:MOST]
    for k, name in enumerate(names):
        right.bar(
            np.arange(len(often)) + (k - len(names) / 2 + 0.5) * 0.25, [elements[e][k] for e in often], 0.25, label=name
        )
    right.set_xticks(range(len(often)), often)
    right.set(ylabel="share of the pool with it")
    right.legend()
    return Drawing("screen", "The best compositions of each workflow.", figure)


def attributions(run: Run) -> Drawing | None:
    """What the prediction depends on, by permutation and by Shapley values."""
    if not (run.path / "attribution.json").is_file():
        return None
    told = run.read_json("attribution.json", dict, ("features", "permutation", "shapley"))
    order = np.argsort(told["shapley"])
    figure = Figure(figsize=(6.4, 3.2))
    axis = figure.subplots()
    for k, (name, label) in enumerate((("shapley", "Shapley value"), ("permutation", "permutation"))):
        axis.barh(np.arange(len(order)) + 0.2 - 0.4 * k, np.array(told[name], float)[order], 0.4, label=label)
    axis.set_yticks(range(len(order)), [told["features"][j] for j in order])
    axis.set(xlabel="mean absolute effect on the prediction")
    axis.legend(loc="lower right")
    return Drawing("attribution", "What the prediction depends on; it describes the model, not the alloys.", figure)
