"""Properties of the elements, and the descriptors of alloys that follow from them.

The published features of 1,445 alloys (after Yan, Lu and Wang 2021, the table of
github.com/cengc13/ml-hea-corrosion-code-data, MIT) determine the properties of the elements and the enthalpies of pairs
here, which reproduce them. Enthalpies of pairs that no such alloy has are Miedema's (Takeuchi and Inoue 2005, Mater.
Trans. 46, 2817, from matminer). Radii (Slater), electronegativities (Pauling; of Eu, Tb and Yb those of the features),
masses, densities and prices are those of the package mendeleev 1.3.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np

from msvae import Array, DataError

__all__ = ["FEATURES", "ElementTable", "element_table"]

GAS = 8.314  # J/(mol K)
FEATURES = {  # and their units
    "bulk modulus": "GPa", "molar volume": "cm^3/mol", "melting point": "K", "valence electrons": "1",
    "size mismatch": "1", "electronegativity mismatch": "1", "mixing entropy": "J/(mol K)", "mixing enthalpy": "kJ/mol",
}  # fmt: skip
TABLES = Path(__file__).with_name("tables")
MEANS = ("bulk_modulus", "molar_volume", "melting_point", "valence_electrons")


class ElementTable:
    """Properties of some elements, as arrays (elements,), and their pairs' mixing enthalpies (elements, elements)."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        rows, pairs = _rows(), _enthalpies()
        unknown = [symbol for symbol in symbols if symbol not in rows]
        if unknown:
            raise DataError(
                f"there are no data of element '{unknown[0]}': leave out the alloys with it (known: {', '.join(rows)})"
            )
        self.symbols = symbols
        self.values = {name: np.array([float(rows[s][name]) for s in symbols]) for name in next(iter(rows.values()))}
        self.enthalpies = np.array([[pairs.get(frozenset((a, b)), 0.0) for b in symbols] for a in symbols])  # kJ/mol

    def features(self, fractions: Array) -> Array:
        """Return FEATURES (n, 8) of compositions (n, elements).

        Means of bulk modulus (GPa), molar volume (cm^3/mol), melting point (K) and valence electrons; mismatch of the
        radii (%) and of the electronegativities; entropy (J/(mol K)) and enthalpy (kJ/mol) of mixing.
        """
        x = np.asarray(fractions, dtype=np.float64)
        means = [x @ self.values[name] for name in MEANS]
        radius, chi = self.values["radius"], self.values["electronegativity"]
        relative = 1 - radius / (x @ radius)[:, None]
        size = 100 * np.sqrt((x * relative**2).sum(axis=1))
        mismatch = np.sqrt((x * (chi - (x @ chi)[:, None]) ** 2).sum(axis=1))
        entropy = -GAS * np.where(x > 0, x * np.log(np.where(x > 0, x, 1.0)), 0.0).sum(axis=1)
        enthalpy = 2 * np.einsum("ni,ij,nj->n", x, self.enthalpies, x, optimize=True)  # 4 times each pair once
        return np.stack([*means, size, mismatch, entropy, enthalpy], axis=1)

    def price(self, fractions: Array) -> Array:
        """Return the price (n,) of the elements in compositions (n, elements), in US dollars per kg."""
        mass = np.asarray(fractions) * self.values["atomic_mass"]
        return np.asarray(mass @ self.values["price"] / mass.sum(axis=1))

    def density(self, fractions: Array) -> Array:
        """Return the density (n,) of compositions (n, elements) by the rule of mixtures, in kg/m^3."""
        mass = np.asarray(fractions) * self.values["atomic_mass"]
        return np.asarray(mass.sum(axis=1) / (mass / self.values["density"]).sum(axis=1))


def element_table(symbols: tuple[str, ...]) -> ElementTable:
    """Return the properties of elements; DataError for one without data."""
    return _table(tuple(symbols))


@lru_cache(maxsize=8)
def _table(symbols: tuple[str, ...]) -> ElementTable:
    return ElementTable(symbols)


@lru_cache(maxsize=1)
def _rows() -> dict[str, dict[str, str]]:
    with open(TABLES / "elements.csv", newline="") as file:
        return {row.pop("symbol"): row for row in csv.DictReader(file)}


@lru_cache(maxsize=1)
def _enthalpies() -> dict[frozenset[str], float]:
    with open(TABLES / "enthalpies.csv", newline="") as file:
        return {frozenset((r["first"], r["second"])): float(r["enthalpy"]) for r in csv.DictReader(file)}
