"""Prediction scores of the model card: accuracy, coverage of the intervals, detection of zeros."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from msvae.errors import DataError
from msvae.metrics.calibration import FEWEST, cross_coverage
from msvae.metrics.prediction import determination, index_of, most_varying
from msvae.seeds import seed_of
from msvae.stages.context import Context
from msvae.structures import Array, Structures
from msvae.structures.splits import split_of
from msvae.vae.model import VAE
from msvae.vae.structure_head import StructureHead

__all__ = ["Line", "halves", "predictions"]


@dataclass(frozen=True)
class Line:
    """One figure of the card: of the model, of PCA, and of training against held-out structures; None where none."""

    what: str
    model: float | str
    pca: float | None = None
    floor: float | None = None

    @property
    def ratio(self) -> float | None:
        """The model's figure over its floor."""
        if self.floor is None or isinstance(self.model, str) or self.floor <= 0:
            return None
        return self.model / self.floor


def halves(context: Context, test: Structures) -> tuple[Array, Array] | None:
    """Return indices of two halves of held-out structures without leakage between them; None if there are none."""
    try:
        sides = split_of(test, 0.5, seed_of(context.study.seed, "halves"), gap=context.study.training.gap)
    except DataError:
        return None
    return sides.train, sides.held_out


def predictions(
    vae: VAE, test: Structures, means: Array, head: StructureHead | None, parts: tuple[Array, Array] | None
) -> Iterator[Line]:
    """Yield scores of the component of each property that varies most, and the coverage of its 90 % intervals."""
    found: dict[str, Mapping[str, Any]] = {"head on latents": vae.predict_with_spread(means)}
    chances = {"head on latents": vae.chances_of_zero(means)}
    if head is not None:
        found["structure-space head"] = head.predict_with_spread(test)
        chances["structure-space head"] = head.chances_of_zero(test)
    for who, predicted in found.items():
        for name, (mean, spread) in predicted.items():
            true = test.properties[name].reshape(len(test), -1)
            k = most_varying(true)
            known = np.isfinite(true[:, k])
            y, m = true[known, k], mean.reshape(len(test), -1)[known, k]
            label = f"{who}: {name}{index_of(k, test.quantity(name).sizes)}"
            yield Line(f"{label}: R2", determination(m, y))
            yield Line(f"{label}: mean absolute error", float(np.abs(y - m).mean()))
            yield from _zeros(label, y, m, chances[who][name].reshape(len(test), -1)[known, k])
            number = np.cumsum(known) - 1  # of a known one among those that are known
            both = tuple(number[half[known[half]]] for half in parts or ())
            if min(map(len, both), default=0) >= FEWEST:
                held = cross_coverage(y - m, spread.reshape(len(test), -1)[known, k], halves=(both[0], both[1]))
                yield Line(f"{label}: part within 90 % intervals", held)


def _zeros(label: str, true: Array, predicted: Array, chance: Array) -> Iterator[Line]:
    """Yield how well a head detects zeros, beside the majority class, and the error of non-zero values."""
    zero = true == 0
    if not chance.any() or not 0 < zero.mean() < 1:
        return
    often = max(float(zero.mean()), float(1 - zero.mean()))
    yield Line(f"{label}: zero or not, share correct", float(((chance > 0.5) == zero).mean()), floor=often)
    sized = (true > 0) & (predicted > 0)
    if sized.sum() > 2:
        told = (predicted / np.maximum(1 - chance, 1e-9))[sized]
        score = determination(np.log(told), np.log(true[sized]))
        yield Line(f"{label}: R2 of the logarithm, where it is over zero", score)
