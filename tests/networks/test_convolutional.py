"""Layers of the convolutional networks against torch's own: what is here for speed only changes no number."""

import pytest
import torch
from torch import nn

import msvae_networks.layers as layers

GRIDS = [(5, 4), (1, 4), (3, 2, 6)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("last", [False, True])
def test_periodic_convolutions_are_torchs_own_forth_and_back(grid: tuple[int, ...], last: bool) -> None:
    own = layers.Conv(3, 4, (True,) * len(grid)).double()
    peer = type(own.layer)(3, 4, 3, padding=1, padding_mode="circular").double()
    peer.load_state_dict(own.layer.state_dict())
    x = torch.randn(2, 3, *grid, dtype=torch.float64)
    x = (layers.channels_last(x) if last else x).requires_grad_()
    weighed = torch.randn(2, 4, *grid, dtype=torch.float64)
    torch.testing.assert_close(own(x), peer(x))
    (right,) = torch.autograd.grad((peer(x) * weighed).sum(), x)
    torch.testing.assert_close(torch.autograd.grad((own(x) * weighed).sum(), x)[0], right)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("channels", [1, 12, 16])
def test_group_normalisation_is_torchs_own_forth_and_back(grid: tuple[int, ...], channels: int) -> None:
    own = layers.GroupNorm(channels)
    nn.init.normal_(own.weight)
    nn.init.normal_(own.bias)
    x = (3 + torch.randn(4, channels, *grid)).requires_grad_()
    peer = nn.functional.group_norm(x, own.num_groups, own.weight, own.bias, own.eps)
    weighed, known = torch.randn_like(peer), (x, own.weight, own.bias)
    torch.testing.assert_close(own(x), peer, rtol=1e-4, atol=1e-4)
    right = torch.autograd.grad(peer, known, weighed)
    torch.testing.assert_close(torch.autograd.grad(own(x), known, weighed), right, rtol=1e-4, atol=1e-3)


def test_the_curvature_of_a_normalisation_is_refused() -> None:
    """Its derivative's derivative is not here: an error says so, no wrong number."""
    x = torch.randn(2, 8, 3, 3, requires_grad=True)
    (slope,) = torch.autograd.grad((layers.GroupNorm(8)(x) ** 3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_images_stay_channels_last_through_a_block() -> None:
    """Otherwise every convolution would put them in order again."""
    y = layers.Residual(8, 16, (True, False), stride=2)(torch.randn(2, 8, 8, 8))
    assert y.is_contiguous(memory_format=torch.channels_last)
