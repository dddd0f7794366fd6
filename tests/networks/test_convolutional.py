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


@pytest.mark.parametrize("channels", [8, 40, 128])
def test_normalisation_in_half_precision_is_the_rounded_one_whatever_the_threads(channels: int) -> None:
    own = layers.GroupNorm(channels)
    x = (1 + torch.randn(64, channels, 9, 7)).bfloat16().requires_grad_()
    peer = nn.functional.group_norm(x.float(), own.num_groups, own.weight, own.bias, own.eps)
    weighed = torch.randn_like(peer).bfloat16()
    (right,) = torch.autograd.grad(peer, x, weighed.float())
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            y = own(x)
            found.append((y, *torch.autograd.grad(y, x, weighed)))
    finally:
        torch.set_num_threads(before)
    for k, other in enumerate((peer, right)):
        torch.testing.assert_close(found[0][k].float(), other.float(), rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(found[0][k], found[1][k], rtol=0, atol=0)


def test_numbers_that_are_none_stay_so() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(2, 8, 3, 3, dtype=dtype)
        x[0, 3, 1, 1] = float("nan")
        y = layers.GroupNorm(8)(x)
        assert y[0, 3].isnan().all()
        assert y[1].isfinite().all()


def test_without_a_compiler_networks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    block = layers.Residual(8, 16, (True, False), stride=2)
    x = torch.randn(3, 8, 8, 6)
    compiled = block(x)
    monkeypatch.setattr(layers, "kernel", lambda half: None)
    assert block(x).is_contiguous()
    torch.testing.assert_close(block(x), compiled, rtol=1e-4, atol=1e-4)


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
