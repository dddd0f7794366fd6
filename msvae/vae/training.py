"""Training: the one loop that fits every composition, with checkpoints that resume bit for bit.

Order and noise of an epoch come from a generator seeded by (seed, epoch), so that a training that is killed and
resumed gives the weights of one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from msvae.errors import DataError, MsvaeError
from msvae.seeds import seed_of
from msvae.settings import TrainingSettings
from msvae.structures import Array, Structures
from msvae.vae.files import load_tensors, restore, save_tensors
from msvae.vae.model import VAE
from msvae.vae.objective import Batch, batch_of, terms, total

__all__ = ["History", "fit", "refit_heads", "split"]

History = list[dict[str, float]]
Report = Callable[[int, int, str], None]


def split(structures: Structures, held_back: float, seed: int) -> tuple[Array, Array]:
    """Return the indices of training and held-back structures; a group is never on both sides.

    held_back: fraction of the structures if below 1, else how many.
    """
    n = len(structures)
    wanted = round(held_back * n) if held_back < 1 else round(held_back)
    groups = np.arange(n) if structures.groups is None else np.asarray(structures.groups)
    names = np.random.default_rng(seed_of(seed, "split")).permutation(np.unique(groups))
    sizes = np.array([(groups == g).sum() for g in names])
    chosen = names[: int(np.searchsorted(np.cumsum(sizes), max(wanted, 1))) + 1]
    aside = np.isin(groups, chosen)
    if aside.all() or n < 2:
        raise DataError(
            f"training.held_back: {held_back:g} of {n} structures in {len(names)} groups leaves nothing to "
            "train on: give more structures, or hold back fewer"
        )
    return np.flatnonzero(~aside), np.flatnonzero(aside)


@dataclass
class Trainer:
    """The state of one training: the model, the optimiser, and the history of its epochs."""

    vae: VAE
    settings: TrainingSettings
    seed: int
    history: History = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.optimiser = torch.optim.AdamW(
            self.vae.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )

    def beta(self, epoch: int) -> float:
        """Weight of the divergence in an epoch."""
        ramp = 1.0 if self.settings.warm_up == 0 else min(1.0, (epoch + 1) / self.settings.warm_up)
        return ramp * self.vae.blueprint.settings.beta

    def rate(self, progress: float) -> float:
        """Learning rate at a fraction of the training: a short ramp, then half a cosine down to a hundredth."""
        ramp = min(1.0, (progress + 1e-3) / 0.03)
        return self.settings.learning_rate * ramp * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def epoch(self, batch: Batch) -> dict[str, float]:
        """Pass once over the training structures; return the mean of each term."""
        number, size = len(self.history), self.settings.batch_size
        generator = torch.Generator().manual_seed(seed_of(self.seed, "epoch", number))
        order = torch.randperm(len(batch), generator=generator)
        sums: dict[str, float] = {}
        starts = range(0, len(batch), size)
        for k, start in enumerate(starts):
            chosen = order[start : start + size]
            self._set_rate((number + k / len(starts)) / self.settings.epochs)
            for name, value in self._step(batch[chosen], generator, self.beta(number)).items():
                sums[name] = sums.get(name, 0.0) + value * len(chosen)
        return {name: value / len(batch) for name, value in sums.items()}

    def _set_rate(self, progress: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(progress)

    def _step(self, batch: Batch, generator: torch.Generator, beta: float) -> dict[str, float]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            parts = terms(self.vae, batch, generator)
        loss = total(parts, beta=beta, head_weight=self.vae.blueprint.settings.head_weight)
        if not torch.isfinite(loss):
            raise MsvaeError(
                f"training diverged in epoch {len(self.history)} (the loss is {loss.item()}): "
                "lower training.learning_rate or training.gradient_norm"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), self.settings.gradient_norm)
        self.optimiser.step()
        return {name: float(value.detach()) for name, value in parts.items()}

    def record(self, row: dict[str, float]) -> None:
        """Add an epoch to the history; with patience, keep the weights if they are the best so far."""
        self.history.append(row)
        losses = self.held_back_losses()
        if self.settings.patience and losses[-1] <= min(losses):
            self.best = {name: value.detach().clone() for name, value in self.vae.state_dict().items()}

    def held_back_losses(self) -> list[float]:
        """Return what training minimises, at its full weight of the divergence, of the held-back structures."""
        settings = self.vae.blueprint.settings

        def loss(row: dict[str, float]) -> float:
            heads = sum(value for name, value in row.items() if name.startswith("held back head "))
            elbo = row["held back reconstruction"] + settings.beta * row["held back divergence"]
            return elbo + settings.head_weight * heads

        return [loss(row) for row in self.history]

    @property
    def finished(self) -> bool:
        """Whether the epochs are over, or patience is."""
        if self.settings.patience and self.history:
            losses = self.held_back_losses()
            start = min(self.settings.warm_up, len(losses) - 1)
            if len(losses) - 1 - (start + int(np.argmin(losses[start:]))) >= self.settings.patience:
                return True
        return len(self.history) >= self.settings.epochs

    def save(self, path: Path) -> None:
        """Write model, optimiser and history, atomically."""
        tensors = {f"model.{name}": t for name, t in self.vae.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self.best.items()}
        for name, state in self._states():
            tensors |= {f"optimiser.{key}.{name}": torch.as_tensor(value) for key, value in state.items()}
        save_tensors(path, tensors, {"history": self.history})

    def load(self, path: Path) -> None:
        """Continue from a checkpoint."""
        tensors, metadata = load_tensors(path)
        restore(self.vae, {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}, path)
        self.best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
        self.history = metadata["history"]
        for name, parameter in self.vae.named_parameters():
            state = {
                key: tensors[f"optimiser.{key}.{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimiser.{key}.{name}" in tensors
            }
            if state:
                self.optimiser.state[parameter] = state

    def _states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, parameter in self.vae.named_parameters():
            if parameter in self.optimiser.state:
                yield name, self.optimiser.state[parameter]


def fit(
    vae: VAE,
    structures: Structures,
    settings: TrainingSettings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> History:
    """Fit a VAE to structures and return the mean terms of every epoch, in nats per structure.

    Terms of the held-back structures have the prefix "held back ". An existing checkpoint is continued.
    """
    train, aside = split(structures, settings.held_back, seed)
    trainer = Trainer(vae, settings, seed)
    if checkpoint is not None and checkpoint.exists():
        trainer.load(checkpoint)
    else:
        vae.fit_scales(structures[train])
    inside, outside = batch_of(vae, structures[train]), batch_of(vae, structures[aside])
    while not trainer.finished:
        vae.train()
        row = trainer.epoch(inside) | held_back_terms(vae.eval(), outside, seed)
        trainer.record(row)
        done = len(trainer.history)
        if checkpoint is not None and (done % settings.checkpoint_every == 0 or trainer.finished):
            trainer.save(checkpoint)
        if report is not None:
            report(done, settings.epochs, f"ELBO {-row['reconstruction'] - row['divergence']:.1f} nats")
    if trainer.best:
        vae.load_state_dict(trainer.best)
    vae.eval()
    return trainer.history


@torch.no_grad()
def held_back_terms(vae: VAE, batch: Batch, seed: int) -> dict[str, float]:
    """Return the mean terms over held-back structures, with noise that is the same in every epoch."""
    generator = torch.Generator().manual_seed(seed_of(seed, "held back"))
    sums: dict[str, float] = {}
    for start in range(0, len(batch), 64):
        chosen = torch.arange(start, min(start + 64, len(batch)))
        for name, value in terms(vae, batch[chosen], generator).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(chosen)
    return {f"held back {name}": value / len(batch) for name, value in sums.items()}


def refit_heads(
    vae: VAE, latents: Array, properties: dict[str, Array], *, seed: int, steps: int = 300, weights: Array | None = None
) -> None:
    """Train the heads alone on latents (n, d) and their properties (n, *shape), encoder and decoder held fixed.

    weights: (n,) how often each row is drawn, relative to the others.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, "heads"))
    z = torch.as_tensor(latents, dtype=torch.float32)
    chances = torch.ones(len(z)) if weights is None else torch.as_tensor(weights, dtype=torch.float32)
    targets = {name: vae.scale_of(name)(torch.as_tensor(properties[name].reshape(len(z), -1))) for name in vae.heads}
    optimiser = torch.optim.AdamW(vae.heads.parameters(), lr=2e-3, weight_decay=1e-3)
    for _ in range(steps):
        chosen = torch.multinomial(chances, min(64, len(z)), replacement=True, generator=generator)
        loss = torch.stack(
            [-(vae.heads[name](z[chosen]).log_prob(targets[name][chosen])).mean() for name in vae.heads]
        ).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.heads.parameters(), 5.0)
        optimiser.step()
