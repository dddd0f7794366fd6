"""Evolution of microstructures in time, learnt in the latent space from frames of simulations."""

from msvae import Campaign, hook
from msvae_evolution.campaign import Evolve


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    return [Evolve]
