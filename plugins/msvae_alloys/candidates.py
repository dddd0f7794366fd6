"""The compositions that a screening admits: random ones, projection onto bounds, and the constraints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from msvae import Array, StudyError
from msvae_alloys.elements import ElementTable, element_table
from msvae_alloys.screen import Screen

SHARE = 0.5  # of known alloys, which have another one within reach
SOME = 1000  # compositions whose distances are computed at a time


@dataclass(frozen=True)
class Known:
    """Known alloys (m, elements), and how far from the nearest of them a composition may be."""

    fractions: Array
    reach: float

    @classmethod
    def of(cls, settings: Screen, fractions: Array) -> Known:
        """Return the known alloys of a data set, and the reach that the settings give or that the alloys have."""
        distinct = np.unique(np.asarray(fractions, dtype=np.float64), axis=0)
        if settings.distance is not None or len(distinct) < 2:
            return cls(distinct, 1.0 if settings.distance is None else settings.distance)
        between = cdist(distinct, distinct, "cityblock") / 2
        np.fill_diagonal(between, np.inf)
        return cls(distinct, float(np.quantile(between.min(axis=1), SHARE)))

    def nearest(self, x: Array) -> tuple[Array, Array]:
        """Return the distance (n,) of compositions to the nearest known alloy, and that alloy (n, elements)."""
        between = cdist(x, self.fractions, "cityblock") / 2
        return between.min(axis=1), self.fractions[between.argmin(axis=1)]

    def near(self, x: Array) -> Array:
        """Return which compositions (n, elements) are within reach."""
        return self.nearest(x)[0] <= self.reach

    def first(self, x: Array, count: int) -> Array:
        """Return the indices of the first `count` compositions (n, elements) within reach."""
        found: list[int] = []
        for start in range(0, len(x), SOME):
            if len(found) >= count:
                break
            found += (start + np.flatnonzero(self.near(x[start : start + SOME]))).tolist()
        return np.array(found[:count], dtype=np.int64)


@dataclass(frozen=True)
class Space:
    """Constraints on compositions. allowed (elements,); low, high (elements,): bounds of the fractions."""

    settings: Screen
    symbols: tuple[str, ...]
    allowed: Array
    low: Array
    high: Array
    table: ElementTable

    @classmethod
    def of(cls, settings: Screen, symbols: tuple[str, ...]) -> Space:
        """Return the constraints on compositions of these elements; StudyError if none can meet them."""
        named = [*settings.elements, *(bound.element for bound in settings.bounds)]
        unknown = [symbol for symbol in named if symbol not in symbols]
        if unknown:
            raise StudyError(
                f"screen: element '{unknown[0]}' is in no alloy of the data set (it has: {', '.join(symbols)})"
            )
        allowed = np.isin(symbols, settings.elements or symbols)
        low, high = np.zeros(len(symbols)), np.where(allowed, settings.largest, 0.0)
        for bound in settings.bounds:
            k = symbols.index(bound.element)
            low[k], high[k] = bound.low, min(bound.high, settings.largest)
        required = int((low > 0).sum())
        if low.sum() > 1 or np.sort(high)[::-1][: settings.number[1]].sum() < 1 or required > settings.number[1]:
            raise StudyError("screen: no composition meets bounds and number of elements: loosen them")
        return cls(settings, symbols, allowed, low, high, element_table(symbols))

    def candidates(self, count: int, rng: np.random.Generator) -> Array:
        """Return random compositions (count, elements): uniform on the simplex of a random choice of elements."""
        least, most = self.settings.number
        required = self.low > 0
        numbers = rng.integers(max(least, int(required.sum())), min(most, int(self.allowed.sum())) + 1, count)
        order = rng.random((count, len(self.symbols)))
        order[:, required], order[:, ~self.allowed | (self.high <= 0)] = -1.0, 2.0
        rank = order.argsort(axis=1).argsort(axis=1)
        x = rng.standard_exponential((count, len(self.symbols))) * (rank < numbers[:, None])
        x /= x.sum(axis=1, keepdims=True)
        return self.projected(np.where(x >= self.settings.least_fraction, x, 0.0))

    def projected(self, x: Array) -> Array:
        """Return compositions (n, elements) moved into the bounds of their elements' fractions, summing to one."""
        inside = (x > 0) | (self.low > 0)
        low, high = np.where(inside, self.low, 0.0), np.where(inside, self.high, 0.0)
        x = np.clip(x, low, high)
        for _ in range(30):
            missing = 1 - x.sum(axis=1, keepdims=True)
            room = np.where(missing > 0, high - x, x - low)
            total = room.sum(axis=1, keepdims=True)
            x = x + np.where(total > 0, room * np.clip(missing / np.where(total > 0, total, 1.0), -1, 1), 0.0)
            if np.abs(missing).max(initial=0.0) < 1e-12:
                break
        return np.asarray(x)

    def cleared(self, x: Array) -> Array:
        """Return compositions without fractions that count as none, and without elements that are not allowed."""
        x = np.where((x >= self.settings.least_fraction) & self.allowed, x, 0.0)
        total = x.sum(axis=1, keepdims=True)
        return np.asarray(x / np.where(total > 0, total, 1.0))

    def admitted(self, x: Array) -> Array:
        """Return which compositions (n, elements) meet all constraints."""
        s, number = self.settings, (x > 0).sum(axis=1)
        found = (np.abs(x.sum(axis=1) - 1) < 1e-6) & (number >= s.number[0]) & (number <= s.number[1])
        found &= (x >= self.low - 1e-9).all(axis=1) & (x <= self.high + 1e-9).all(axis=1)
        some = np.flatnonzero(found)
        if s.price is not None:
            found[some] &= self.table.price(x[some]) <= s.price
        if s.density is not None:
            density = self.table.density(x[some])
            found[some] &= (density >= s.density[0]) & (density <= s.density[1])
        return np.asarray(found)
