"""The torch modules of the encoder of alloys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msvae_alloys.elements import MEANS, ElementTable

LEAST = 1e-3  # fraction of an element whose logarithm is taken for that of smaller ones


class Descriptors(nn.Module):
    """From centred logarithms of fractions (n, elements), as the likelihood gives them, to an alloy's descriptors.

    These are the features of elements.py over their usual spread, the fractions, and their logarithms.
    """

    means: Tensor
    radius: Tensor
    electronegativity: Tensor
    enthalpies: Tensor

    def __init__(self, table: ElementTable) -> None:
        super().__init__()
        self.size = 9 + 2 * len(table.symbols)
        means = torch.tensor([table.values[name].tolist() for name in MEANS])
        centre, spread = means.mean(dim=1, keepdim=True), means.std(dim=1, keepdim=True).clamp_min(1e-6)
        self.register_buffer("means", ((means - centre) / spread).T.contiguous())
        for name in ("radius", "electronegativity", "enthalpies"):
            values = table.enthalpies if name == "enthalpies" else table.values[name]
            self.register_buffer(name, torch.tensor(values.tolist()))

    def forward(self, logarithms: Tensor) -> Tensor:
        """Return descriptors (n, size)."""
        x = torch.softmax(logarithms.float(), dim=1)
        size = 10 * (x * (1 - self.radius / (x @ self.radius)[:, None]) ** 2).sum(dim=1).clamp_min(1e-10).sqrt()
        mean = (x @ self.electronegativity)[:, None]
        mismatch = 5 * (x * (self.electronegativity - mean) ** 2).sum(dim=1).clamp_min(1e-10).sqrt()
        entropy = -(x * x.clamp_min(1e-10).log()).sum(dim=1)
        enthalpy = 2 * ((x @ self.enthalpies) * x).sum(dim=1) / 10
        number = (x > LEAST).float().sum(dim=1) / 3
        some = torch.stack([size, mismatch, entropy, enthalpy, number], dim=1)
        logarithm = (x + LEAST).log() / 3 + 2  # 0 at about 1 %
        return torch.cat(
            [3 * (x @ self.means), some - some.new_tensor([0.5, 0.5, 1.0, -0.5, 1.0]), 3 * x, logarithm], 1
        )


class Members(nn.Module):
    """Networks side by side, whose outputs are concatenated."""

    def __init__(self, networks: list[nn.Sequential]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, values: Tensor) -> Tensor:
        """Return the outputs (n, features) of all networks."""
        return torch.cat([network(values) for network in self.networks], dim=1)
