"""Crystals whose sites are occupied: data sets of occupations."""

from msvae import Dataset, hook
from msvae_crystals.atomic_files import AtomicFiles
from msvae_crystals.derivatives import DerivativeStructures
from msvae_crystals.quasirandom import SpecialQuasirandom


@hook
def msvae_datasets() -> list[type[Dataset]]:
    return [SpecialQuasirandom, DerivativeStructures, AtomicFiles]
