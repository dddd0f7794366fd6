"""Evolution of microstructures in time, learnt in the latent space from frames of simulations."""

from msvae import Campaign, Dataset, hook
from msvae_evolution.campaign import Evolve
from msvae_evolution.tiff_series import TiffSeries


@hook
def msvae_datasets() -> list[type[Dataset]]:
    return [TiffSeries]


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    return [Evolve]
