"""Normalizing flows, from zuko (Rozet et al.): the two kinds in use."""

from __future__ import annotations

from torch import nn

__all__ = ["coupling_flow", "spline_flow"]

HIDDEN, TRANSFORMS, BINS = (64, 64), 3, 5


def spline_flow(dimensions: int, conditions: int) -> nn.Module:
    """Return an autoregressive neural spline flow (Durkan et al. 2019, arXiv:1906.04032): for densities."""
    import zuko

    flow: nn.Module = zuko.flows.NSF(dimensions, conditions, bins=BINS, transforms=TRANSFORMS, hidden_features=HIDDEN)
    return flow


def coupling_flow(dimensions: int, conditions: int) -> nn.Module:
    """Return a flow of affine couplings (Dinh et al. 2017, arXiv:1605.08803): equally fast in both directions."""
    import zuko

    flow: nn.Module = zuko.flows.NICE(dimensions, conditions, transforms=TRANSFORMS, hidden_features=HIDDEN)
    return flow
