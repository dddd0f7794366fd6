"""What a search aims at: targets, objectives, and constraints on the structures themselves."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from msvae.plugins.annotations import Finite, Fraction, Length, Natural, Positive
from msvae.plugins.interfaces import Settings
from msvae.study.numbers import Component

__all__ = ["Constraint", "FractionRange", "Objective", "Target", "in_words"]


def in_words(values: Sequence[float]) -> str:
    """Return a number, or a curve by its ends, as text."""
    if len(values) == 1:
        return f"{values[0]:.5g}"
    return f"{values[0]:.4g} ... {values[-1]:.4g} ({len(values)})"


@dataclass(frozen=True)
class Target(Settings):
    """A number of a property that a design has to reach.

    property: its name. component: its indices, from 0; none for a scalar. unit: compared with the property's unit.
    value: that is aimed at; or values: a curve, the numbers along the property's last axis; or low, high: the ends of
        the range that will do, or one of them.
    tolerance: largest accepted distance, relative to the value, to the curve's largest, or to the end of the range.
    """

    property: str
    value: Finite | None = None
    values: tuple[Finite, ...] = ()
    low: Finite | None = None
    high: Finite | None = None
    component: tuple[Natural, ...] = ()
    unit: str | None = None
    tolerance: Positive = 0.02

    def __post_init__(self) -> None:
        if sum((self.value is not None, bool(self.values), not (self.low is None and self.high is None))) != 1:
            raise ValueError("a target is a value, or values (a curve), or a range with low, high or both")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low is below high, found {self.low:g} and {self.high:g}")

    @builtins.property
    def of(self) -> Component:
        """The targeted number; for a curve, the part of the name that its numbers share."""
        return Component(self.property, self.component, self.unit)

    @builtins.property
    def numbers(self) -> tuple[Component, ...]:
        """The target values: one, or those of the curve."""
        if not self.values:
            return (self.of,)
        return tuple(Component(self.property, (*self.component, k), self.unit) for k in range(len(self.values)))

    @builtins.property
    def ends(self) -> tuple[tuple[float, float], ...]:
        """The lower and upper end of the accepted range, before tolerance, of every number."""
        if self.value is not None:
            return ((self.value, self.value),)
        if self.values:
            return tuple((v, v) for v in self.values)
        return ((self._low, self._high),)

    @builtins.property
    def _low(self) -> float:
        return -math.inf if self.low is None else self.low

    @builtins.property
    def _high(self) -> float:
        return math.inf if self.high is None else self.high

    @builtins.property
    def scale(self) -> float:
        """The scale to which a tolerance is relative."""
        sizes = [abs(end) for ends in self.ends for end in ends if math.isfinite(end) and end]
        return (max if self.values else min)(sizes, default=1.0)

    @builtins.property
    def accepted(self) -> tuple[tuple[Component, float, float], ...]:
        """Every number, with the smallest and the largest value that meet the target within its tolerance."""
        slack = self.tolerance * self.scale
        return tuple((n, low - slack, high + slack) for n, (low, high) in zip(self.numbers, self.ends, strict=True))

    @builtins.property
    def text(self) -> str:
        """The target in a table."""
        if self.value is not None:
            return f"{self.value:.5g}"
        if self.values:
            return in_words(self.values)
        if self.low is None or self.high is None:
            return f"at most {self.high:.5g}" if self.low is None else f"at least {self.low:.5g}"
        return f"{self.low:.5g} to {self.high:.5g}"


@dataclass(frozen=True)
class Objective(Settings):
    """A number of a property that is to be as large, or as small, as possible.

    property: its name. component: its indices, from 0; none for a scalar. unit: compared with the property's unit.
    goal: "maximum" or "minimum".
    """

    property: str
    goal: Literal["maximum", "minimum"]
    component: tuple[Natural, ...] = ()
    unit: str | None = None

    @builtins.property
    def of(self) -> Component:
        """The number that is optimised."""
        return Component(self.property, self.component, self.unit)


@dataclass(frozen=True)
class FractionRange(Settings):
    """A constraint on a design: the fraction of a phase, which its decode has exactly.

    phase: its number, from 0. low, high: the range.
    """

    phase: Natural
    low: Fraction = 0.0
    high: Fraction = 1.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low is at most high, found {self.low:g} and {self.high:g}")


@dataclass(frozen=True)
class Constraint(Settings):
    """A constraint on the decoded structure of a design.

    kind: "connected": the phase joins the two faces across `axis`, or across every axis if none is given.
        "one-piece": at least `share` of the phase is in its largest cluster, as solid that is printed, or pores that
        powder has to leave, should be. "feature-size": balls of the diameter `size` inside of the phase cover at
        least `share` of it. "symmetric": at least `share` of the voxels equal their mirror images across `axis`.
    phase: its number, from 0. axis, size, share: see kind.
    """

    kind: Literal["connected", "one-piece", "feature-size", "symmetric"]
    phase: Natural = 1
    axis: Annotated[int, Field(ge=0, le=2)] | None = None
    size: Length | None = None
    share: Annotated[float, Field(gt=0, le=1)] = 0.95

    def __post_init__(self) -> None:
        if (self.size is not None) != (self.kind == "feature-size"):
            raise ValueError(f"size belongs to kind 'feature-size' and to no other, found kind '{self.kind}'")
        if self.kind == "symmetric" and self.axis is None:
            raise ValueError("kind 'symmetric' needs the axis across which a structure is its mirror image")
