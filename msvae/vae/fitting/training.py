"""Training: the one loop that fits every composition, with checkpoints that resume bit for bit.

A generator seeded by (seed, epoch) gives the order and the noise of an epoch, and a checkpoint stores its state.
Training that is killed at any point and resumed therefore ends with the same weights as uninterrupted training. Ranks
that train together each compute a share of the rows of every batch (`msvae.vae.fitting.parallel`) and take the same
steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msvae.errors import MsvaeError
from msvae.seeds import seed_of
from msvae.structures import Array, Structures
from msvae.structures.splits import Split, split_of
from msvae.study.settings import TrainingSettings
from msvae.vae.files import load_tensors, restore, save_tensors
from msvae.vae.fitting.devices import device_of, reduced_precision
from msvae.vae.fitting.history import HELD_OUT, History, is_over, kept_epoch, loss_of
from msvae.vae.fitting.objective import Batch, batch_of, terms
from msvae.vae.fitting.parallel import ALONE, Ranks, Share
from msvae.vae.model import VAE

__all__ = ["History", "fit", "split"]

Report = Callable[[int, int, str], None]
Save = Callable[[], None]


def split(structures: Structures, held_back: float, seed: int, gap: float = 1.0) -> tuple[Array, Array]:
    """Return the indices of training and held-out structures; see `msvae.structures.splits.split_of`."""
    found = split_of(structures, held_back, seed, gap=gap)
    return found.train, found.held_out


@dataclass
class Trainer:
    """The state of a training run: the model, the optimiser, the history, and the position in the current epoch.

    step: batches of this epoch already done. sums: sums of the terms over the structures of those batches. noise: the
    state of the generator after them. best: the weights of the best epoch so far, if they are kept.
    """

    vae: VAE
    settings: TrainingSettings
    seed: int
    ranks: Ranks = ALONE
    history: History = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    noise: Tensor | None = None

    def __post_init__(self) -> None:
        self.device = next(self.vae.parameters()).device
        sites = math.prod(self.vae.blueprint.specification.shape)
        self.half = reduced_precision(self.settings.precision, self.device, sites)
        self.optimiser = torch.optim.AdamW(
            self.vae.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay, fused=True
        )

    def beta(self, epoch: int) -> float:
        """The weight of the divergence in an epoch."""
        ramp = 1.0 if self.settings.warm_up == 0 else min(1.0, (epoch + 1) / self.settings.warm_up)
        return ramp * self.vae.blueprint.settings.beta

    def rate(self, progress: float) -> float:
        """The learning rate at a fraction of the training: a short ramp, then cosine decay to a hundredth."""
        ramp = min(1.0, (progress + 1e-3) / 0.03)
        return self.settings.learning_rate * ramp * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def epoch(self, batch: Batch, save: Save | None = None) -> dict[str, float]:
        """Train on all structures once, or on those left in an interrupted epoch; return the mean of each term.

        A batch has batch_size structures per rank. save: called after every step, when the state is consistent.
        """
        number, size = len(self.history), self.settings.batch_size * self.ranks.size
        generator = torch.Generator().manual_seed(seed_of(self.seed, "epoch", number))
        order = torch.randperm(len(batch), generator=generator)
        if self.noise is not None:
            generator.set_state(self.noise)
        starts = range(0, len(batch), size)
        for k in range(self.step, len(starts)):
            chosen = order[starts[k] : starts[k] + size]
            self._set_rate((number + k / len(starts)) / self.settings.epochs)
            share = Share(generator, self.ranks, len(chosen))
            mine = batch[chosen[self.ranks.rows(len(chosen))]].to(self.device)
            for name, value in self._step(mine, share, self.beta(number)).items():
                self.sums[name] = self.sums.get(name, 0.0) + value * self.ranks.weight(len(chosen)) * len(chosen)
            self.step, self.noise = k + 1, generator.get_state()
            if save is not None:
                save()
        means = torch.tensor(list(self.sums.values()), dtype=torch.float64) / len(batch)
        row = dict(zip(self.sums, self.ranks.add(means).tolist(), strict=True))
        self.step, self.sums, self.noise = 0, {}, None
        return row

    def _set_rate(self, progress: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(progress)

    def _step(self, batch: Batch, share: Share, beta: float) -> dict[str, float]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            parts = terms(self.vae, batch, share)
        weight = self.ranks.weight(share.whole or len(batch))
        loss = weight * loss_of(parts, self.vae.blueprint.settings, beta)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        whole = self.ranks.add_gradients(self.vae.parameters(), loss)
        if not torch.isfinite(whole):
            raise MsvaeError(
                f"training diverged in epoch {len(self.history)} (the loss is {whole.item()}): "
                "lower training.learning_rate or training.gradient_norm"
            )
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), self.settings.gradient_norm)
        self.optimiser.step()
        values = torch.stack([value.detach().double() for value in parts.values()]).tolist()
        return dict(zip(parts, values, strict=True))

    def record(self, row: dict[str, float]) -> None:
        """Add an epoch to the history, and keep its weights if they are the best so far."""
        self.history.append(row)
        if self.settings.weights == "best" and self.kept == len(self.history) - 1:
            self.best = {name: value.detach().clone() for name, value in self.vae.state_dict().items()}

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or early stopping applies."""
        return is_over(self.history, self.vae.blueprint.settings, self.settings)

    @property
    def kept(self) -> int:
        """The index of the epoch whose weights would be kept now."""
        return kept_epoch(self.history, self.vae.blueprint.settings, self.settings)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything needed to resume, as tensors and plain values."""
        tensors = {f"model.{name}": t for name, t in self.vae.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self.best.items()}
        tensors |= {} if self.noise is None else {"noise": self.noise}
        for name, state in self._states():
            tensors |= {f"optimiser.{key}.{name}": torch.as_tensor(value) for key, value in state.items()}
        plain = {"history": self.history, "step": self.step, "sums": self.sums}
        return {name: t.detach().cpu() for name, t in tensors.items()}, plain

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, Any], source: Path) -> None:
        """Resume from a state. source: where the state comes from."""
        restore(self.vae, {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}, source)
        self.best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
        self.history, self.step, self.sums = plain["history"], plain["step"], plain["sums"]
        self.noise = tensors.get("noise")
        for name, parameter in self.vae.named_parameters():
            state = {
                key: tensors[f"optimiser.{key}.{name}"].to(self.device)
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
    ranks: Ranks = ALONE,
    limit: Save = lambda: None,
    sides: Split | None = None,
) -> History:
    """Fit a VAE to structures and return the mean terms of every epoch, in nats per structure.

    The weights are those of the epoch with the lowest held-out loss (`kept_epoch`), unless the last ones are requested.
    Terms on the held-out structures have the prefix "held back ". An existing checkpoint is resumed. Every rank calls
    this with the same arguments; the first one writes and reports. limit: called after every step; an exception that it
    raises ends the training after a checkpoint. sides: indices of the training and the held-out structures, if the
    split is given.
    """
    first = ranks.rank == 0
    both = split_of(structures, settings.held_back, seed, gap=settings.gap) if sides is None else sides
    train, held_out = both.train, both.held_out
    resumed = first and checkpoint is not None and checkpoint.exists()
    if first and not resumed:
        vae.fit_scales(structures[train])
    trainer = Trainer(vae.to(device_of(settings.device, ranks)), settings, seed, ranks)
    if resumed:
        assert checkpoint is not None
        trainer.restore(*load_tensors(checkpoint), checkpoint)
    if ranks.size > 1:
        trainer.restore(*ranks.broadcast(trainer.state() if first else ({}, {})), Path("the first rank"))
    save = Checkpoints(trainer, checkpoint if first else None, 60 * settings.checkpoint_minutes, limit)
    inside, outside = batch_of(vae, structures[train]), batch_of(vae, structures[held_out])
    while not trainer.finished:
        vae.train()
        row = trainer.epoch(inside, save.due)
        trainer.record(row | ranks.broadcast(held_back_terms(vae.eval(), outside, seed) if first else {}))
        if report is not None:
            elbo = -row["reconstruction"] - row["divergence"]
            report(len(trainer.history), settings.epochs, f"ELBO {elbo:.1f} nats, best epoch {trainer.kept + 1}")
    save.now()
    if trainer.best:
        vae.load_state_dict(trainer.best)
    vae.cpu().eval()
    return trainer.history


@dataclass
class Checkpoints:
    """Writes a trainer's state to a file at intervals and when the limit is reached; writes nothing without a path.

    every: seconds. limit: raises the exception that ends the training.
    """

    trainer: Trainer
    path: Path | None
    every: float
    limit: Save

    def __post_init__(self) -> None:
        self.last = time.monotonic()

    def due(self) -> None:
        """Write if the interval has passed or the training has to end."""
        try:
            self.limit()
        except MsvaeError:
            self.now()
            raise
        if time.monotonic() - self.last >= self.every:
            self.now()

    def now(self) -> None:
        """Write, atomically."""
        if self.path is not None:
            save_tensors(self.path, *self.trainer.state())
        self.last = time.monotonic()


@torch.no_grad()
def held_back_terms(vae: VAE, batch: Batch, seed: int) -> dict[str, float]:
    """Return the mean terms over the held-out structures, with the same noise in every epoch."""
    share = Share(torch.Generator().manual_seed(seed_of(seed, "held back")))
    device = next(vae.parameters()).device
    sums: dict[str, float] = {}
    for start in range(0, len(batch), 64):
        chosen = torch.arange(start, min(start + 64, len(batch)))
        for name, value in terms(vae, batch[chosen].to(device), share).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(chosen)
    return {f"{HELD_OUT}{name}": value / len(batch) for name, value in sums.items()}
