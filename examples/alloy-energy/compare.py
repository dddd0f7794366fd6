"""Errors of what predicts the energies of solid solutions: cluster expansions, the VAE's head, and their composition.

    python examples/alloy-energy/compare.py runs/known runs/other runs/head

All are fitted to the first run and judged on the second, whose structures none has seen. The table is in README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np

import msvae
from msvae import Quantity, Run, Structures

EV = 1.602176634e-19  # J
CUTOFFS = {"pairs": [6e-10], "and triplets": [6e-10, 4.4e-10], "and quadruplets": [6e-10, 4.4e-10, 2.6e-10]}


def labelled(path: Path) -> Structures:
    return Run.open(path).with_labels([Quantity("energy", "J")])


def by_composition(known: Structures, other: Structures, degree: int) -> np.ndarray:
    """Return energies (n,) from a polynomial of the fractions."""

    def terms(structures: Structures) -> np.ndarray:
        x = structures.fractions[:, :-1]
        powers = [c for d in range(degree + 1) for c in combinations_with_replacement(range(x.shape[1]), d)]
        return np.stack([x[:, list(c)].prod(axis=1) for c in powers], axis=1)

    factors, *_ = np.linalg.lstsq(terms(known), known.properties["energy"], rcond=None)
    return np.asarray(terms(other) @ factors)


def predictions(
    known: Structures, other: Structures, runs: argparse.Namespace
) -> Iterator[tuple[str, np.ndarray, str]]:
    """Yield what predicts, the energies (n,) in J, and the error of cross-validation in meV that it states."""
    for degree in (1, 3):
        yield f"polynomial of the composition, degree {degree}", by_composition(known, other, degree), ""
    for method in ("ridge", "lasso"):
        for what, cutoffs in CUTOFFS.items():
            solver = msvae.load_solver("cluster-expansion", data=str(runs.known), cutoffs=cutoffs, method=method)
            score = float(solver.conditions(other.specification)["cross-validation"].split()[0]) / EV * 1e3
            yield f"cluster expansion, {what}, {method}", solver.evaluate(other)["energy"], f"{score:.3f}"
    vae = Run.open(runs.head).model
    yield "the VAE's head", vae.predict(vae.encode(other))["energy"].reshape(-1), ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("known", "other", "head"):
        parser.add_argument(name, type=Path)
    runs = parser.parse_args()
    known, other = labelled(runs.known), labelled(runs.other)
    true = other.properties["energy"]
    spread = true.std() / EV * 1e3
    lines = [
        f"{len(known)} structures to fit to, {len(other)} to judge by, whose energies spread by {spread:.1f} meV", "",
        "| | cross-validation (meV per atom) | error (meV per atom) |", "| --- | --- | --- |",
    ]  # fmt: skip
    for what, found, score in predictions(known, other, runs):
        lines.append(f"| {what} | {score} | {np.sqrt(np.mean((found - true) ** 2)) / EV * 1e3:.3f} |")
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
