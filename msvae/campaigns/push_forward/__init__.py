"""Push-forward: microstructural uncertainty propagated to a quantity of interest."""

from __future__ import annotations

from msvae.campaigns.push_forward.campaign import PushForward
from msvae.plugins import hook
from msvae.plugins.interfaces import Campaign


@hook
def msvae_campaigns() -> list[type[Campaign]]:
    """Announce the campaign."""
    return [PushForward]
