"""Two-part distributions p(y) for properties that are zero for part of the data or span decades.

A pore space that does not percolate has a permeability of exactly zero; the others' permeabilities differ by orders of
magnitude. A normal distribution fits neither. The first part is the probability of zero. The second is the distribution
of the other values: normal in the value or in its logarithm (a hurdle model: Cragg 1971, Econometrica 39, 829).
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints

from msvae.structures import Array

__all__ = ["Form", "TwoPart", "chance_of_zero", "hurdled"]

FEWEST = 5  # values of each part that it takes to tell them apart
DECADES = 1.5  # that positive values have to span before their logarithm is what varies
NOISE = 1e-6  # of the largest entry of a property: smaller ones are rounding
FARTHEST = 4.0  # standard deviations of the training values by which a predicted logarithm may leave their mean
WIDEST = 2.0  # standard deviations of the training values that a predicted logarithm may spread
LEAST = 1e-12  # variance of a scaled value
EMPTY = torch.Size()


def hurdled(values: Array) -> tuple[Array, Array]:
    """Return which entries (k,) of values (n, k) are zero for part of the structures, and which need a logarithm.

    Unknown values (NaN) are ignored. An entry with a negative value is never given a logarithm.

    >>> parts = hurdled(np.array([[0.0, 1.0]] * 6 + [[1.0, 1.1], [10.0, 1.2], [30.0, 1.3], [50.0, 1.1], [99.0, 1.2]]))
    >>> [part.tolist() for part in parts]
    [[True, False], [True, False]]
    """
    zero, other = values == 0, np.isfinite(values) & (values != 0)
    size = np.sqrt((np.where(other, values, 0) ** 2).sum(axis=0) / np.maximum(other.sum(axis=0), 1))
    enough = (other.sum(axis=0) >= FEWEST) & (size > NOISE * size.max(initial=0.0))
    spans = [
        np.log10(np.divide(*np.percentile(column[here], (99, 1)))) if good and (column[here] > 0).all() else 0.0
        for column, here, good in zip(values.T, other.T, enough, strict=True)
    ]
    wide = np.array(spans) > DECADES
    return (enough & (zero.sum(axis=0) >= FEWEST)) | (wide & zero.any(axis=0)), wide


def chance_of_zero(distribution: Distribution) -> Tensor:
    """Return the probability (n, k) of exactly zero under a `Form`'s distribution; zero for normal entries."""
    parts = cast("Independent[Any]", distribution).base_dist
    return parts.chance_of_zero if isinstance(parts, TwoPart) else torch.zeros_like(parts.mean)


class Form(nn.Module):
    """Turns three network outputs for each entry of a scaled property into its distribution p(y).

    zero, log: (k,) which entries have a probability of being zero, and which are modelled by their logarithm.
    centre, width: (k,) mean and standard deviation of the nonzero training values or of their logarithms.
    least: (k,) the smallest value whose logarithm is taken.
    """

    zero: Tensor
    log: Tensor
    centre: Tensor
    width: Tensor
    least: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        for name in ("zero", "log"):
            self.register_buffer(name, torch.zeros(size, dtype=torch.bool))
        for name, value in (("centre", 0.0), ("width", 1.0), ("least", 1e-30)):
            self.register_buffer(name, torch.full((size,), value))

    def fit(self, values: Tensor, zero: Array, log: Array) -> None:
        """Fit mean and spread of the parts to scaled training values (n, k), NaN where unknown."""
        for buffer, value in ((self.zero, zero), (self.log, log)):
            buffer.copy_(torch.as_tensor(value))
        nan = torch.full_like(values, torch.nan)
        known = torch.where((values != 0) & torch.isfinite(values), values, nan)
        least = torch.where(known > 0, known, torch.inf).amin(dim=0) / 10
        self.least.copy_(torch.where(self.log, least, 1e-30))
        sized = torch.where(self.log, known.clamp_min(self.least).log(), known)
        centre = sized.nanmean(dim=0)
        width = (sized - centre).square().nanmean(dim=0).sqrt().clamp_min(1e-3)
        self.centre.copy_(torch.where(self.special, centre, 0.0))
        self.width.copy_(torch.where(self.special, width, 1.0))

    @property
    def special(self) -> Tensor:
        """Which entries (k,) are not simply normal."""
        return self.zero | self.log

    def forward(self, output: Tensor) -> Distribution:
        """Return p(y) with one event per structure for the network's output (n, 3 k)."""
        mean, log_scale, logits = output.chunk(3, dim=1)
        scale = log_scale.clamp(-5, 2).exp()
        if not self.special.any():
            return Independent(Normal(mean, scale), 1)
        return Independent(TwoPart(self, mean.float(), scale.float(), logits.float()), 1)


class TwoPart(Distribution):
    """Values that are zero with some probability and otherwise normal or log-normal, per entry as a `Form` specifies.

    log_prob is the logarithm of a probability where such an entry is zero, and of a density elsewhere.
    location, scale: (n, k) of the nonzero part, in standard deviations of the training values.
    logits: (n, k) of the probability of zero.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, form: Form, location: Tensor, scale: Tensor, logits: Tensor) -> None:
        self.form, self.logits = form, logits
        self.location = torch.where(form.log, location.clamp(-FARTHEST, FARTHEST), location)
        self.scale = torch.where(form.log, scale.clamp_max(WIDEST), scale)
        super().__init__(location.shape, validate_args=False)

    @property
    def chance_of_zero(self) -> Tensor:
        """The probability (n, k) of exactly zero."""
        return torch.where(self.form.zero, self.logits.sigmoid(), 0.0)

    def coordinates(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return values (n, k) in standard deviations of the training values, and which of them are zero."""
        form = self.form
        zero = form.zero & torch.where(form.log, value <= 0, value == 0)
        sized = torch.where(form.log, value.clamp_min(form.least).log(), value)
        return (sized - form.centre) / form.width, zero

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value) of every entry."""
        form = self.form
        place, zero = self.coordinates(value)
        density: Tensor = Normal(self.location, self.scale).log_prob(place) - form.width.log()
        density = density - torch.where(form.log, place * form.width + form.centre, 0.0)
        passed = torch.where(form.zero, nn.functional.logsigmoid(-self.logits), 0.0)
        return torch.where(zero, nn.functional.logsigmoid(self.logits), density + passed)

    @property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of the nonzero part."""
        form = self.form
        middle, spread = form.centre + form.width * self.location, form.width * self.scale
        logarithm = torch.where(form.log, middle, 0.0), torch.where(form.log, spread.square(), 0.0)
        mean = torch.where(form.log, (logarithm[0] + logarithm[1] / 2).exp(), middle)
        return mean, torch.where(form.log, mean.square() * torch.expm1(logarithm[1]), spread.square())

    @property
    def mean(self) -> Tensor:
        """The expected value (n, k), zeros included."""
        return (1 - self.chance_of_zero) * self._moments[0]

    @property
    def variance(self) -> Tensor:
        """The variance (n, k), zeros included."""
        mean, variance = self._moments
        chance = self.chance_of_zero
        return ((1 - chance) * (variance + chance * mean.square())).clamp_min(LEAST)

    @torch.no_grad()
    def sample(self, sample_shape: Any = EMPTY) -> Tensor:
        """Return samples (*sample_shape, n, k)."""
        form, shape = self.form, self._extended_shape(sample_shape)
        noise = torch.randn(shape, device=self.location.device)
        drawn = form.centre + form.width * (self.location + self.scale * noise)
        sized = torch.where(form.log, torch.where(form.log, drawn, 0.0).exp(), drawn)
        zero = torch.rand(shape, device=self.location.device) < self.chance_of_zero
        return torch.where(zero, 0.0, sized)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TwoPart:
        """Return the distribution with another batch shape."""
        return TwoPart(self.form, *(a.expand(batch_shape) for a in (self.location, self.scale, self.logits)))
