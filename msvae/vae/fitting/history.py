"""The training history: the loss of each epoch, early stopping, and the epoch whose weights are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from msvae.study.settings import ModelSettings, TrainingSettings

__all__ = ["HELD_OUT", "TERMS", "History", "held_back_losses", "is_over", "kept_epoch", "loss_of"]

History = list[dict[str, float]]
HELD_OUT = "held back "  # before the name of a term on the held-out structures
TERMS = ("reconstruction", "divergence", f"{HELD_OUT}reconstruction", f"{HELD_OUT}divergence")  # of every epoch
LEAST, SHARE = 10, 5  # epochs without a gain after which training ends: so many, or a fifth of all if that is more


def loss_of(terms: Mapping[str, Any], model: ModelSettings, beta: float | None = None) -> Any:
    """Return the loss, of which the terms of the objective (numbers or tensors) are parts; others do not count.

    beta: of a warm-up epoch; by default that of the model.
    """
    weights = {
        "reconstruction": 1.0, "divergence": model.beta if beta is None else beta, "guess": 1.0,
        "head": model.head_weight, "dependence": model.independence, "disagreement": model.agreement,
    }  # fmt: skip
    parts = ((name.split(" ")[0], value) for name, value in terms.items())
    return sum(weights[word] * value for word, value in parts if word in weights)


def held_back_losses(history: History, model: ModelSettings) -> list[float]:
    """Return the loss on the held-out structures by epoch, in nats per structure.

    The divergence always has its full weight here, even for warm-up epochs that were trained with less: losses at
    different weights are not comparable. The loss is infinite where a term is NaN.
    """

    def loss(row: dict[str, float]) -> float:
        held_out = {name.removeprefix(HELD_OUT): value for name, value in row.items() if name.startswith(HELD_OUT)}
        return float(loss_of(held_out, model))

    return [value if np.isfinite(value) else np.inf for value in map(loss, history)]


def kept_epoch(history: History, model: ModelSettings, training: TrainingSettings) -> int:
    """Return the index of the epoch whose weights are kept: the last one, or the first with the lowest loss."""
    last = len(history) - 1
    return last if training.weights == "last" else int(np.argmin(held_back_losses(history, model)))


def is_over(history: History, model: ModelSettings, training: TrainingSettings) -> bool:
    """Return whether all epochs are done, or early stopping applies: no gain for `patience` epochs after warm-up."""
    if len(history) >= training.epochs:
        return True
    patience = max(LEAST, training.epochs // SHARE) if training.patience == "auto" else training.patience
    if patience == 0 or not history:
        return False
    best = int(np.argmin(held_back_losses(history, model)))
    return len(history) - 1 - max(best, training.warm_up) >= patience
