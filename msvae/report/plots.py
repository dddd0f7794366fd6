"""Plots of a run, for notebooks: `run.plot.losses()`, each a drawing that a notebook shows and that can be saved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from msvae.errors import RunError
from msvae.metrics.prediction import determination, index_of, most_varying
from msvae.report import figures
from msvae.report.drawing import Drawing, axes_of, picture
from msvae.run.directory import Run
from msvae.structures import Structures

__all__ = ["Plots"]


@dataclass(frozen=True)
class Plots:
    """The plots of a run."""

    run: Run

    def losses(self) -> Drawing:
        """Return the terms of the objective over the epochs; RunError before training."""
        return _found(figures.training_curves(self.run), f"'{self.run.path}' has trained no model")

    def latents(self) -> Drawing:
        """Return the structures on their two leading principal axes of latents, coloured by a property."""
        return _found(figures.latent_map(self.run), f"'{self.run.path}' has no model, or no property")

    def structures(self, structures: Structures | None = None, n: int = 8) -> Drawing:
        """Return pictures of the first n structures: the data set's, or others."""
        shown = (self.run.structures if structures is None else structures)[:n]
        figure = Figure(figsize=(1.3 * max(len(shown), 1), 1.5))
        for k, axis in enumerate(axes_of(figure, 1, max(len(shown), 1))[: len(shown)]):
            picture(axis, shown, k)
            axis.set_title(shown.ids[k][:8], fontsize=6)
        return Drawing("structures", f"The first {len(shown)} structures, by their ids.", figure)

    def parity(self, name: str | None = None) -> Drawing:
        """Plot a head's predictions of a property against the solver's values, for held-out structures.

        name: of the property; by default the first head's. RunError if there is no such head.
        """
        heads = self.run.study.model.heads
        if not heads or (name or heads[0]) not in heads:
            asked = f"no head for '{name}'" if name else "no heads on latents"
            raise RunError(f"'{self.run.path}' has {asked} (model.heads: {', '.join(heads) or 'none'})")
        name, held_back, model = name or heads[0], figures.held_back(self.run), self.run.model
        true = held_back.properties[name].reshape(len(held_back), -1)
        k = most_varying(true)
        predicted = model.predict(model.encode(held_back))[name].reshape(len(held_back), -1)[:, k]
        known = np.isfinite(true[:, k])
        figure = Figure(figsize=(4.2, 3.8))
        axis = figure.subplots()
        axis.scatter(true[known, k], predicted[known], s=12, alpha=0.6)
        ends = [float(np.min(true[known, k], initial=np.inf)), float(np.max(true[known, k], initial=-np.inf))]
        axis.plot(ends, ends, "k--", lw=0.8)
        unit = next(q.unit for q in held_back.quantities if q.name == name)
        score = determination(predicted[known], true[known, k])
        place = index_of(k, held_back.quantity(name).sizes)
        axis.set(xlabel=f"{name}{place} ({unit})", ylabel=f"predicted from latents ({unit})",
                 title=f"R2 = {score:.3f}, {int(known.sum())} held-out structures")  # fmt: skip
        return Drawing("parity", "The head on latents, on structures that training never saw.", figure)


def _found(drawing: Drawing | None, why: str) -> Drawing:
    if drawing is None:
        raise RunError(f"the run {why}: where its campaign trains one, let it go on (--resume)")
    return drawing
