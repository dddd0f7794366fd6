"""Classes of alloys that have none, from a forest of those that have one, so that a network learns from all alloys.

Pseudo-labels (Lee 2013, ICML Workshop on Challenges in Representation Learning) from another model, which learns more
from few labels than a network does. The network's probabilities are then those of the forest's classes: too sure.
"""

from __future__ import annotations

import numpy as np

from msvae import Array, DataError, Structures, seed_of
from msvae_alloys.elements import element_table

__all__ = ["completed"]

TREES, LEAST = 500, 2  # of the forest; alloys in a leaf


def completed(alloys: Structures, target: str, seed: int) -> Structures:
    """Return alloys whose unknown classes are the forest's likeliest ones; DataError if none is known."""
    from sklearn.ensemble import RandomForestClassifier

    classes = np.array(alloys.properties[target], dtype=np.float64)
    known = np.isfinite(classes)
    if known.all():
        return alloys
    if not known.any():
        raise DataError(f"screen.unknown = 'forest' needs alloys whose '{target}' is known: the table has none")
    described = _described(alloys)
    forest = RandomForestClassifier(TREES, min_samples_leaf=LEAST, random_state=seed_of(seed, "forest") % (1 << 32))
    classes[~known] = forest.fit(described[known], classes[known]).predict(described[~known])
    return alloys.with_properties({target: classes}, alloys.quantities)


def _described(alloys: Structures) -> Array:
    """Return the features of elements.py beside the fractions (n, 8 + elements)."""
    table = element_table(alloys.specification.constituents)
    return np.hstack([table.features(alloys.values), alloys.values])
