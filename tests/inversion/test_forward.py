"""Forward models: against sums and integrals that are known, and their gradients against differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from msvae import Structures, load_solver
from msvae_inversion.invert import Forward
from msvae_inversion.models.forward import ForwardModel, forward_model

GRID = Structures.from_values(np.zeros((1, 12, 12)), 1 / 12, periodic=False).specification.grid


def model(name: str, **settings: object) -> ForwardModel:
    solver = load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 2.0}], tolerance=1e-10)
    return forward_model(Forward(name=name, **settings), GRID, seed=0, solver=solver)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mask", "convolution", "radon", "solver"])
def test_gradients_are_those_of_differences(name: str) -> None:
    forward = model(name)
    torch.manual_seed(0)
    x, direction = torch.rand(1, 12, 12).double().requires_grad_(), torch.randn(1, 12, 12).double()
    data = forward(x)
    weights = torch.randn(data.shape).double()
    (slope,) = torch.autograd.grad((weights * data).sum(), x)
    with torch.no_grad():
        step = 1e-2
        change = (weights * (forward(x + step * direction) - forward(x - step * direction))).sum() / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(
        float(change), rel=5e-3 if name == "solver" else 1e-6
    )  # the solver iterates


def test_a_mask_sees_its_share_and_the_same_pixels_for_every_image() -> None:
    images = torch.arange(288, dtype=torch.float64).reshape(2, 12, 12)
    seen = model("mask", seen=0.25)(images)
    assert seen.shape == (2, 36)
    assert (seen[1] - seen[0] == 144).all()


def test_a_blurred_point_is_a_gaussian() -> None:
    image = torch.zeros(1, 12, 12).double()
    image[0, 5, 6] = 1.0
    found = model("convolution", width=1.5)(image).reshape(12, 12)
    assert float(found[5, 6]) == pytest.approx(1 / (2 * math.pi * 1.5**2))
    assert float(found[7, 6] / found[5, 6]) == pytest.approx(math.exp(-0.5 * 4 / 1.5**2))


def test_line_integrals_keep_the_mass_and_see_a_disc_the_same_from_all_sides() -> None:
    y, x = np.indices((12, 12)) - 5.5
    image = torch.as_tensor(np.exp(-(x**2 + y**2) / 8.0))[None]
    found = model("radon", angles=6)(image).reshape(6, 12)
    np.testing.assert_allclose(found[0], image[0].sum(dim=0), rtol=1e-6)
    np.testing.assert_allclose(found, found[:1].expand(6, -1), rtol=0.03, atol=0.05)


def test_of_a_homogeneous_structure_the_solver_gives_its_conductivity() -> None:
    data = model("solver")(torch.full((1, 12, 12), 0.5).double())
    np.testing.assert_allclose(data.reshape(2, 2), 1.5 * np.eye(2), atol=1e-8)


@pytest.mark.parametrize("electrodes", ["continuum", "points", "complete"])
def test_gradients_of_tomography_are_those_of_differences(electrodes: str) -> None:
    forward = model("tomography", electrodes=electrodes, sensors=16, cells=(8, 12))
    torch.manual_seed(0)
    x, direction = torch.rand(1, 12, 12).double().requires_grad_(), torch.randn(1, 12, 12).double()
    data = forward(x)
    assert data.shape == (1, 15 * 16)
    weights = torch.randn(data.shape).double()
    (slope,) = torch.autograd.grad((weights * data).sum(), x)
    with torch.no_grad():
        change = (weights * (forward(x + 1e-4 * direction) - forward(x - 1e-4 * direction))).sum() / 2e-4
    assert float((slope * direction).sum()) == pytest.approx(float(change), rel=1e-5)


def test_potentials_of_a_homogeneous_square_scale_converge_and_have_its_symmetry() -> None:
    fine = model("tomography", electrodes="continuum", sensors=32, cells=(8, 16))
    image = torch.zeros(1, 12, 12).double()
    coarse, finer = fine(image), fine.for_data()(image)
    assert float((coarse - finer).abs().max()) < 5e-3 * float(finer.abs().max())
    doubled = fine(torch.ones(1, 12, 12).double())  # conductivity 2 instead of 1
    torch.testing.assert_close(doubled, coarse / 2)
    found = finer.reshape(15, 32)
    turned = torch.roll(found[1], 16)  # sin(pi s / 2) is odd under half a turn, as is its potential
    torch.testing.assert_close(turned, -found[1], atol=2e-4, rtol=0)


def test_contacts_add_their_impedance() -> None:
    image = torch.zeros(1, 12, 12).double()
    found = [
        model("tomography", electrodes="complete", sensors=8, cells=(16, 16), impedance=z)(image).reshape(15, 8)[0]
        for z in (0.1, 0.2)
    ]
    width = 0.25  # of an electrode: each carries the unit current through z / width
    difference = (found[1] - found[0])[:2]
    torch.testing.assert_close(
        difference[0] - difference[1], torch.tensor(2 * 0.1 / width, dtype=torch.float64), atol=0.03, rtol=0
    )


@pytest.mark.parametrize("name", ["convolution", "tomography"])
def test_derivatives_along_directions_are_those_of_differences(name: str) -> None:
    forward = model(name, **({"sensors": 16, "cells": (8, 12)} if name == "tomography" else {}))
    torch.manual_seed(0)
    image, directions = torch.rand(12, 12).double(), torch.randn(3, 12, 12).double()
    found = forward.derivatives(image, directions)
    for column, direction in zip(found.T, directions, strict=True):
        change = (forward((image + 1e-4 * direction)[None]) - forward((image - 1e-4 * direction)[None]))[0] / 2e-4
        torch.testing.assert_close(column, change, rtol=1e-5, atol=1e-6 * float(change.abs().max()))
