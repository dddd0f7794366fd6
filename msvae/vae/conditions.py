"""Conditions as network inputs (numbers standardised, classes one-hot), and the network that infers unknown ones.

A semi-supervised VAE (M2: Kingma et al. 2014, arXiv:1406.5298) has q(c|x) beside its encoder. For an unknown class the
objective is the exact expectation over all classes. An unknown number is sampled, with gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from msvae.errors import DataError
from msvae.structures import Array
from msvae.study.settings import Condition
from msvae.vae.fitting.parallel import Share
from msvae.vae.scaling import Standardiser

__all__ = ["Completed", "Conditions", "Guess", "Guessed"]


TEMPERATURES = tuple(np.geomspace(0.5, 5.0, 41).tolist())
FEWEST = 20  # structures of known class that a temperature is fitted to


class Conditions(nn.Module):
    """Maps conditions (n, k) in their own units to network inputs (n, width)."""

    def __init__(self, conditions: tuple[Condition, ...]) -> None:
        super().__init__()
        self.conditions = conditions
        self.given_numbers = [j for j, c in enumerate(conditions) if not c.classes]
        ends = np.cumsum([0, *(c.width for c in conditions)])
        self.width = int(ends[-1])
        self.numbers = [int(ends[j]) for j in self.given_numbers]
        self.classes = {j: slice(int(ends[j]), int(ends[j + 1])) for j, c in enumerate(conditions) if c.classes}
        self.scale = Standardiser(len(self.numbers))

    def fit(self, values: Array) -> None:
        """Fit the scaling to conditions (n, k) of training structures."""
        self.scale.fit(values[:, self.given_numbers])

    def forward(self, values: Tensor) -> Tensor:
        """Return the network inputs for conditions (n, k): float32 (n, width), NaN where unknown."""
        result = torch.full((len(values), self.width), torch.nan, device=values.device)
        result[:, self.numbers] = self.scale(values[:, self.given_numbers])
        for j, columns in self.classes.items():
            asked, count = values[:, j], columns.stop - columns.start
            known = torch.isfinite(asked)
            label = torch.where(known, asked, 0.0).long()
            wrong = known & ((label != asked) | (label < 0) | (label >= count))
            if wrong.any():
                raise DataError(
                    f"condition '{self.conditions[j]}' has the classes 0 to {count - 1}, found {asked[wrong][0]:g}"
                )
            indicators = nn.functional.one_hot(label, count).float()
            result[:, columns] = torch.where(known[:, None], indicators, torch.nan)
        return result


@dataclass(frozen=True)
class Guessed:
    """q(c|x): normal distributions of the numbers (n, m), and log-probabilities of each condition's classes."""

    mean: Tensor
    deviation: Tensor
    classes: dict[int, Tensor]


@dataclass(frozen=True)
class Completed:
    """Conditions with every unknown filled in.

    rows: (m,) the index of each row's structure; None if there is exactly one row per structure.
    conditions: (m, width). weights: (m,), which sum to one for every structure.
    """

    rows: Tensor | None
    conditions: Tensor
    weights: Tensor

    def of(self, values: Tensor) -> Tensor:
        """Return the values (m, ...) of the rows, given those of the structures."""
        return values if self.rows is None else values[self.rows]


class Guess(nn.Module):
    """q(c|x), for structures whose conditions are unknown."""

    def __init__(self, encoder: nn.Module, features: int, conditions: Conditions) -> None:
        super().__init__()
        self.encoder = encoder
        self.numbers, self.classes = conditions.numbers, conditions.classes
        self.moments = nn.Linear(features, 2 * len(self.numbers)) if self.numbers else None
        self.logits = nn.ModuleDict({str(j): nn.Linear(features, c.stop - c.start) for j, c in self.classes.items()})

    def forward(self, features: Tensor) -> Guessed:
        return self.read(self.encoder(features))

    def read(self, encoded: Tensor) -> Guessed:
        """Return q(c|x) of what the encoder makes of structures."""
        hidden = nn.functional.silu(encoded).float()
        moments = hidden[:, :0] if self.moments is None else self.moments(hidden)
        mean, log_scale = moments.chunk(2, dim=1) if self.numbers else (moments, moments)
        classes = {j: torch.log_softmax(self.logits[str(j)](hidden), dim=1) for j in self.classes}
        return Guessed(mean, log_scale.clamp(-5, 2).exp(), classes)

    def likeliest(self, features: Tensor, conditions: Tensor) -> Tensor:
        """Fill conditions (n, width): unknown numbers with their means, unknown classes with the likeliest one."""
        guess, result = self(features), conditions.clone()
        result[:, self.numbers] = torch.where(
            torch.isnan(conditions[:, self.numbers]), guess.mean, conditions[:, self.numbers]
        )
        for j, columns in self.classes.items():
            best = nn.functional.one_hot(guess.classes[j].argmax(dim=1), columns.stop - columns.start).float()
            result[:, columns] = torch.where(torch.isnan(conditions[:, columns]), best, conditions[:, columns])
        return result

    def costs(self, guess: Guessed, conditions: Tensor) -> Tensor:
        """Return the cost (n,) of conditions (n, width) in nats: -log q(c|x) of known ones.

        An unknown one costs its divergence from N(0, 1), or from a uniform distribution over the classes.
        """
        given = conditions[:, self.numbers]
        known = torch.isfinite(given)
        likelihood = Normal(guess.mean, guess.deviation).log_prob(torch.where(known, given, guess.mean.detach()))
        standard = Normal(torch.zeros_like(guess.mean), torch.ones_like(guess.mean))
        cost = torch.where(known, -likelihood, kl_divergence(Normal(guess.mean, guess.deviation), standard)).sum(dim=1)
        for j, columns in self.classes.items():
            log_q, asked = guess.classes[j], conditions[:, columns]
            against_equal = (log_q.exp() * (log_q + math.log(log_q.shape[1]))).sum(dim=1)
            known_class = -(log_q * torch.nan_to_num(asked)).sum(dim=1)
            cost = cost + torch.where(torch.isnan(asked[:, 0]), against_equal, known_class)
        return cost

    @torch.no_grad()
    def calibrate(self, features: Tensor, conditions: Tensor) -> None:
        """Give the logits of every class condition the temperature and offsets likeliest for conditions (n, width).

        With two classes that is the logistic regression of Platt (1999, Advances in Large Margin Classifiers, 61); with
        more, vector scaling with one temperature (Guo et al. 2017, arXiv:1706.04599).
        """
        for j, log_q in self(features).classes.items():
            labels = conditions[:, self.classes[j]]
            known = torch.isfinite(labels[:, 0])
            if int(known.sum()) < FEWEST:
                continue
            temperature, offsets = _scaling(log_q[known].double(), labels[known].double())
            layer = cast(nn.Linear, self.logits[str(j)])
            layer.weight.div_(temperature)
            layer.bias.div_(temperature).add_(offsets)

    def complete(self, features: Tensor, conditions: Tensor, share: Share) -> tuple[Completed, Tensor]:
        """Return conditions (n, width) with unknowns filled in, and the cost of that in nats per structure."""
        guess: Guessed = self(features)
        given = conditions[:, self.numbers]
        drawn = guess.mean + guess.deviation * share.normal(len(given), given.shape[1], given.device)
        filled = conditions.clone()
        filled[:, self.numbers] = torch.where(torch.isfinite(given), given, drawn)
        rows = torch.arange(len(filled), device=filled.device)
        completed = Completed(rows, filled, torch.ones(len(filled), device=filled.device))
        for j, columns in self.classes.items():
            completed = _enumerated(completed, columns, guess.classes[j])
        cost = self.costs(guess, conditions).mean()
        return (completed if self.classes else Completed(None, filled, completed.weights)), cost


def _scaling(log_q: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Return temperature and (small) offsets (c,) of logits (n, c) that are likeliest for labels (n, c).

    The temperature is looked for on a grid, so that it cannot run away where all labels are foreseen.
    """

    def fitted(temperature: float) -> tuple[float, Tensor]:
        offsets = torch.zeros(log_q.shape[1], dtype=log_q.dtype, requires_grad=True)
        optimiser = torch.optim.LBFGS([offsets], max_iter=50, line_search_fn="strong_wolfe")

        def cost() -> Tensor:
            chances = torch.log_softmax(log_q / temperature + offsets, dim=1)
            return -(chances * labels).sum() + 0.5 * offsets.square().sum()

        def step() -> Tensor:
            optimiser.zero_grad()
            found = cost()
            found.backward()
            return found

        with torch.enable_grad():
            optimiser.step(step)
        return float(cost()), offsets.detach()

    costs = {temperature: fitted(temperature) for temperature in TEMPERATURES}
    best = min(costs, key=lambda temperature: costs[temperature][0])
    return best, costs[best][1].float()


def _enumerated(completed: Completed, columns: slice, log_q: Tensor) -> Completed:
    """Repeat every row with an unknown class once per class, weighted by the probability of the class."""
    assert completed.rows is not None
    count = log_q.shape[1]
    unknown = torch.isnan(completed.conditions[:, columns.start])
    repeats = torch.where(unknown, count, 1)
    index = torch.repeat_interleave(torch.arange(len(repeats), device=repeats.device), repeats)
    label = torch.arange(len(index), device=index.device) - (repeats.cumsum(0) - repeats)[index]
    rows, conditions, split = completed.rows[index], completed.conditions[index], unknown[index]
    indicators = nn.functional.one_hot(label, count).float()
    conditions[:, columns] = torch.where(split[:, None], indicators, conditions[:, columns])
    chances = torch.where(split, log_q[rows, label].exp(), 1.0)
    return Completed(rows, conditions, completed.weights[index] * chances)
