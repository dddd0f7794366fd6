"""The figure of a gradation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from msvae.files.structures import read_structures
from msvae.report.drawing import Drawing, axes_of, picture
from msvae.run.directory import Run

__all__ = ["gradation"]


def gradation(run: Run) -> Drawing | None:
    """The graded part, and the target profile against the measured one."""
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
