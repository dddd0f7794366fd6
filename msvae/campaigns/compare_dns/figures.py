"""The figures of a comparison with DNS: of the part, and of its field of latents."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from msvae.part.settings import PartSettings
from msvae.report.drawing import Drawing, axes_of
from msvae.run.directory import Run

__all__ = ["dns", "field"]


def dns(run: Run) -> Drawing | None:
    """Global error over the size of structures, and the local quantity of every structure against DNS."""
    found, part = run.read_json("dns.json", dict[str, Any], ["dns", "rows"]), run.study.find(PartSettings)
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
