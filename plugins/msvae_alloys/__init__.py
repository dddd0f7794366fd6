"""Alloys: tables of compositions by formula, descriptors of them, and networks that see these."""

from msvae import Architecture, Campaign, Dataset, hook
from msvae_alloys.compositions import Compositions
from msvae_alloys.network import AlloyPerceptron
from msvae_alloys.screen import Screen


@hook
def msvae_datasets() -> list[type[Dataset]]:
    return [Compositions]


@hook
def msvae_architectures() -> list[type[Architecture]]:
    return [AlloyPerceptron]


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    return [Screen]
