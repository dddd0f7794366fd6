"""The structure-space head: p(y|x), a predictor that sees the structure itself.

It can assess generated structures where a head on latents cannot, and with few labels it agrees better with the solver.
Symmetries that the study declares (flips that leave the properties unchanged) augment the training data, and
predictions are averaged over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, combinations
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from msvae.errors import StudyError
from msvae.metrics.calibration import widening
from msvae.plugins.interfaces import Architecture
from msvae.seeds import seed_of
from msvae.structures import Array, Quantity, Specification, Structures
from msvae.study.settings import StructureHeadSettings
from msvae.vae.likelihoods.choice import likelihood_for
from msvae.vae.likelihoods.hurdle import Form, TwoPart, chance_of_zero, hurdled
from msvae.vae.scaling import Standardiser

__all__ = ["StructureHead", "fit_structure_head"]

FEATURES = 128


class StructureHead(nn.Module):
    """p(y|x) for scaled properties, per entry as `form` specifies. widening: see `Head`."""

    widening: Tensor

    def __init__(
        self,
        specification: Specification,
        quantities: tuple[Quantity, ...],
        settings: StructureHeadSettings,
        architecture: Architecture,
    ) -> None:
        super().__init__()
        if settings.contrast is not None and specification.kind != "field":
            raise StudyError(
                f"structure_head.contrast: only grey values (kind 'field') have one, found structures of "
                f"kind '{specification.kind}': leave it out"
            )
        if any(axis >= specification.grid.dimensions for axis in settings.flips):
            raise StudyError(
                f"structure_head.flips: found {list(settings.flips)}, expected axes from 0 to "
                f"{specification.grid.dimensions - 1}"
            )
        self.specification, self.quantities, self.settings = specification, quantities, settings
        self.likelihood = likelihood_for(specification)
        channels = self.likelihood.inputs * (1 if settings.contrast is None else 2)
        self.encoder = architecture.encoder(specification, channels, FEATURES)
        size = sum(q.size for q in quantities)
        self.moments = nn.Sequential(nn.SiLU(), nn.Linear(FEATURES, 3 * size))
        self.scale, self.form = Standardiser(size), Form(size)
        self.register_buffer("widening", torch.ones(size, dtype=torch.float64))

    def features(self, values: Tensor) -> Tensor:
        """Return the network's input: the values and the logarithm of the modulus that they represent."""
        contrast = self.settings.contrast
        if contrast is None:
            return self.likelihood.features(values)
        modulus = torch.log1p((contrast - 1) * values.clamp(0, 1)) / float(np.log(contrast))
        return torch.cat([self.likelihood.features(values), 2 * modulus - 1], dim=1)

    def forward(self, features: Tensor) -> Distribution:
        return cast(Distribution, self.form(self.moments(self.encoder(features).float()).float()))

    @property
    def flips(self) -> list[tuple[int, ...]]:
        """All combinations of the declared flips, as tensor axes."""
        axes = [axis + 2 for axis in self.settings.flips]
        return list(chain.from_iterable(combinations(axes, r) for r in range(len(axes) + 1)))

    def predict(self, structures: Structures) -> dict[str, Array]:
        """Return predicted properties (n, *shape) in their units, averaged over the declared flips."""
        return {name: mean for name, (mean, _) in self.predict_with_spread(structures).items()}

    @torch.no_grad()
    def predict_with_spread(self, structures: Structures) -> dict[str, tuple[Array, Array]]:
        """Return means and standard deviations (n, *shape) of the properties, averaged over the declared flips."""
        values = torch.as_tensor(structures.values.copy())
        nothing = torch.zeros(0, self.scale.mean.numel())
        blocks = [(nothing, nothing), *(self._moments(values[i : i + 128]) for i in range(0, len(values), 128))]
        mean = self.scale.inverse(torch.cat([m for m, _ in blocks])).numpy()
        spread = (torch.cat([s for _, s in blocks]).double() * self.scale.scale * self.widening).numpy()
        ends = np.cumsum([q.size for q in self.quantities])[:-1]
        parts = zip(self.quantities, np.split(mean, ends, axis=1), np.split(spread, ends, axis=1), strict=True)
        return {q.name: (m.reshape(-1, *q.sizes), s.reshape(-1, *q.sizes)) for q, m, s in parts}

    @torch.no_grad()
    def chances_of_zero(self, structures: Structures) -> dict[str, Array]:
        """Return the probability (n, *shape) that each property is exactly zero, averaged over the declared flips."""
        values, found = torch.as_tensor(structures.values.copy()), [torch.zeros(0, self.scale.mean.numel())]
        for start in range(0, len(values), 128):
            features = self.features(values[start : start + 128])
            each = [chance_of_zero(self(features.flip(axes) if axes else features)) for axes in self.flips]
            found.append(torch.stack(each).mean(dim=0))
        parts = np.split(torch.cat(found).double().numpy(), np.cumsum([q.size for q in self.quantities])[:-1], axis=1)
        return {q.name: part.reshape(-1, *q.sizes) for q, part in zip(self.quantities, parts, strict=True)}

    def calibrate(self, structures: Structures) -> None:
        """Widen the spreads until their 90 % intervals cover 90 % of the held-out structures."""
        self.widening.fill_(1.0)
        predicted, n = self.predict_with_spread(structures), len(structures)
        residuals = [(structures.properties[name] - m).reshape(n, -1) for name, (m, _) in predicted.items()]
        spreads = [s.reshape(n, -1) for _, s in predicted.values()]
        self.widening.copy_(torch.as_tensor(widening(np.concatenate(residuals, 1), np.concatenate(spreads, 1))))

    def _moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(values)
        found = [self(features.flip(axes) if axes else features) for axes in self.flips]
        return torch.stack([d.mean for d in found]).mean(dim=0), torch.stack([d.stddev for d in found]).mean(dim=0)


def fit_structure_head(
    head: StructureHead, structures: Structures, *, seed: int, report: Callable[[int, int, str], None] | None = None
) -> None:
    """Fit a structure-space head to structures with known properties by one cycle of AdamW.

    One cycle: Smith and Topin 2019, arXiv:1708.07120.
    """
    targets = _targets(head, structures)
    settings = head.settings
    features = head.features(torch.as_tensor(structures.values.copy()))
    steps = settings.epochs * -(-len(structures) // settings.batch_size)
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=steps, pct_start=0.15)
    head.train()
    for epoch in range(settings.epochs):
        generator = torch.Generator().manual_seed(seed_of(seed, "structure head", epoch))
        for chosen, flip in _batches(head, len(structures), generator):
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
                inputs = features[chosen].flip(flip) if flip else features[chosen]
                distribution = cast("Independent[Any]", head(inputs))
            loss = _loss(distribution, targets[chosen])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        if report is not None:
            report(epoch + 1, settings.epochs, f"loss {loss.item():.3f}")
    head.eval()


def _targets(head: StructureHead, structures: Structures) -> Tensor:
    flat = np.concatenate([structures.properties[q.name].reshape(len(structures), -1) for q in head.quantities], axis=1)
    zero, log = hurdled(flat)
    head.scale.fit(flat, about_zero=zero | log)
    head.likelihood.fit(structures)
    targets = cast(Tensor, head.scale(torch.as_tensor(flat)))
    head.form.fit(targets, zero, log)
    return targets


def _batches(head: StructureHead, n: int, generator: torch.Generator) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Yield the indices of each batch of an epoch and the flip applied to it."""
    order = torch.randperm(n, generator=generator)
    for start in range(0, n, head.settings.batch_size):
        flip = head.flips[int(torch.randint(len(head.flips), (1,), generator=generator))]
        yield order[start : start + head.settings.batch_size], flip


def _loss(distribution: Independent[Any], target: Tensor) -> Tensor:
    """Return the Huber loss of the mean, plus the spread's likelihood at fixed mean, plus the likelihood of a zero.

    The mean is not fitted by likelihood, which would let the network give up on difficult rows (Seitzer et al. 2022,
    arXiv:2203.09168).
    """
    parts, known = distribution.base_dist, torch.isfinite(target)
    sized, chance = known, torch.zeros(())
    if isinstance(parts, TwoPart):
        location, scale = parts.location, parts.scale
        place, zero = parts.coordinates(torch.where(known, target, parts.mean.detach()))
        sized = known & ~zero
        doubt = nn.functional.binary_cross_entropy_with_logits(parts.logits, zero.float(), reduction="none")
        chance = torch.where(known & parts.form.zero, doubt, 0.0)
    else:
        location, scale, place = parts.mean, parts.stddev, target
    place = torch.where(sized, place, location.detach())
    distance = nn.functional.smooth_l1_loss(location, place, beta=0.1, reduction="none")
    spread = -Normal(location.detach(), scale).log_prob(place)
    return (torch.where(sized, distance + 0.1 * spread, 0.0) + chance).sum(dim=1).mean()
