"""The training history: the loss of each epoch, early stopping, and the epoch whose weights are kept."""

from __future__ import annotations

import numpy as np

from msvae.study.settings import ModelSettings, TrainingSettings

__all__ = ["TERMS", "History", "held_back_losses", "is_over", "kept_epoch"]

History = list[dict[str, float]]
TERMS = ("reconstruction", "divergence", "held back reconstruction", "held back divergence")  # of every epoch
LEAST, SHARE = 10, 5  # epochs without a gain after which training ends: so many, or a fifth of all if that is more


def held_back_losses(history: History, model: ModelSettings) -> list[float]:
    """Return the loss on the held-out structures by epoch, in nats per structure.

    The divergence always has its full weight here, even for warm-up epochs that were trained with less: losses at
    different weights are not comparable. The loss is infinite where a term is NaN.
    """

    def loss(row: dict[str, float]) -> float:
        heads = sum(value for name, value in row.items() if name.startswith("held back head "))
        elbo = row["held back reconstruction"] + model.beta * row["held back divergence"]
        return elbo + row.get("held back guess", 0.0) + model.head_weight * heads

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
