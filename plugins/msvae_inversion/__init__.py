"""Inverse problems on a learnt manifold: charts of images, forward models with gradients, and a campaign over them."""

from msvae import Campaign, Dataset, hook
from msvae_inversion.invert import Invert
from msvae_inversion.phantoms import Phantoms


@hook
def msvae_datasets() -> list[type[Dataset]]:
    return [Phantoms]


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    return [Invert]
