"""Conditions on the sides of an image: they fit it by default, and the uniform ones bracket the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

import msvae
from msvae import Structures
from msvae_voxelfe.elements.trilinear import corners, elastic_element

CONDUCTIVE: list[dict[str, Any]] = [{"conductivity": 1.0}, {"conductivity": 10.0}]
ELASTIC = [{"youngs_modulus": 1.0, "poissons_ratio": 0.2}, {"youngs_modulus": 10.0, "poissons_ratio": 0.3}]
CASES = [
    ("conductivity", CONDUCTIVE, ("uniform-flux", "mirrored", "uniform-gradient")),
    ("elasticity", ELASTIC, ("uniform-traction", "mirrored", "uniform-displacement")),
]
SHAPES = [(8, 9), (6, 7, 5)]


def image(shape: tuple[int, ...], *, periodic: bool = False) -> Structures:
    labels = (np.random.default_rng(0).random((1, *shape)) < 0.4).astype(int)
    return Structures.from_labels(labels, 1.0, periodic=periodic)


def tensor(name: str, phases: list[dict[str, Any]], structures: Structures, **settings: Any) -> np.ndarray:
    found = msvae.load_solver(name, phases=phases, tolerance=1e-7, **settings).evaluate(structures)
    return np.asarray(next(iter(found.values()))[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "phases", "names"), CASES)
def test_uniform_conditions_bracket_the_mirrored_and_the_default_is_what_fits(
    name: str, phases: list[dict[str, Any]], names: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    lower, middle, upper = (tensor(name, phases, image(shape), boundary=b) for b in names)
    assert np.linalg.eigvalsh(middle - lower).min() > 0
    assert np.linalg.eigvalsh(upper - middle).min() > 0
    np.testing.assert_array_equal(tensor(name, phases, image(shape)), middle)
    periodic = tensor(name, phases, image(shape), boundary="periodic")
    np.testing.assert_array_equal(tensor(name, phases, image(shape, periodic=True)), periodic)
    solver = msvae.load_solver(name, phases=phases)
    assert solver.conditions(image(shape).specification) == {"boundary": "mirrored"}
    assert solver.conditions(image(shape, periodic=True).specification) == {"boundary": "periodic"}


@pytest.mark.parametrize(("name", "phases", "names"), CASES)
def test_uniform_conditions_give_a_homogeneous_image_its_own_property(
    name: str, phases: list[dict[str, Any]], names: tuple[str, ...]
) -> None:
    plain = Structures.from_labels(np.zeros((1, 4, 5, 3), dtype=int), phases=2, periodic=False)
    periodic = tensor(name, phases, plain, boundary="periodic")
    for boundary in names:
        np.testing.assert_allclose(tensor(name, phases, plain, boundary=boundary), periodic, rtol=1e-6, atol=1e-9)


def test_uniform_displacement_is_the_solution_of_the_assembled_system() -> None:
    structures = image((4, 5))
    labels, element = structures.labels[0], elastic_element((1.0, 1.0))
    lame = np.array([phase.lame for phase in msvae.load_solver("elasticity", phases=ELASTIC).phases])  # type: ignore[attr-defined]
    nodes = np.arange(6 * 5).reshape(5, 6)
    index = np.stack([nodes[o[0] : o[0] + 4, o[1] : o[1] + 5].ravel() for o in corners(2)], axis=1)
    dofs = (2 * index[:, :, None] + np.arange(2)).reshape(20, 8)
    local = np.einsum("ej,jab->eab", lame[labels.ravel()], element.stiffness)
    rows, columns = np.repeat(dofs, 8, axis=1).ravel(), np.tile(dofs, (1, 8)).ravel()
    matrix = sparse.csr_array((local.ravel(), (rows, columns)), shape=(60, 60)).toarray()
    places = np.stack(np.meshgrid(np.arange(5.0), np.arange(6.0), indexing="ij"), axis=-1).reshape(-1, 2)
    sides = ((places == 0) | (places == [4, 5])).any(axis=1)
    fixed = np.repeat(sides, 2)
    u = np.zeros(60)
    u[0::2] = places[:, 0]  # strain 11
    u[~fixed] = np.linalg.solve(matrix[~fixed][:, ~fixed], -matrix[~fixed][:, fixed] @ u[fixed])
    found = tensor("elasticity", ELASTIC, structures, boundary="uniform-displacement")
    assert found[0, 0] == pytest.approx(u @ matrix @ u / 20, rel=1e-6)


@pytest.mark.parametrize(("name", "phases", "names"), CASES)
@pytest.mark.parametrize("which", range(3))
def test_gradients_under_each_condition_agree_with_differences(
    name: str, phases: list[dict[str, Any]], names: tuple[str, ...], which: int
) -> None:
    rng = np.random.default_rng(1)
    grey, direction = rng.random((1, 5, 4)), rng.standard_normal((1, 5, 4))
    solver = msvae.load_solver(name, phases=phases, boundary=names[which], tolerance=1e-9)

    def at(values: np.ndarray) -> Structures:
        return Structures.from_values(values, 1.0, periodic=False)

    key = solver.computes[0].name
    cotangent = rng.standard_normal(solver.evaluate(at(grey))[key].shape)
    cotangent = cotangent + cotangent.swapaxes(1, 2)
    gradient = solver.pullback(at(grey), {key: cotangent})
    assert gradient is not None
    low, high = (float((cotangent * solver.evaluate(at(grey + s * direction))[key]).sum()) for s in (-1e-3, 1e-3))
    assert float((gradient[:, 0] * direction).sum()) == pytest.approx((high - low) / 2e-3, rel=1e-3)


def test_mirrored_anisotropic_phases_are_mirrored_too() -> None:
    """A laminate of a turned crystal and its mirror image: no coupling of shear and extension is left."""
    turned = [[2.0, 0.5, 0.4], [0.5, 1.5, -0.1], [0.4, -0.1, 0.6]]
    phases = [{"stiffness": turned}, {"stiffness": [[1.0, 0.2, 0.0], [0.2, 1.0, 0.0], [0.0, 0.0, 0.4]]}]
    found = tensor("elasticity", phases, image((5, 6)))
    assert not found[2, :2].any()
    assert np.linalg.eigvalsh(found).min() > 0


def test_pores_at_the_sides_bear_no_uniform_traction() -> None:
    labels = np.zeros((2, 5, 5), dtype=int)
    labels[0, 0, 2] = labels[1, 2, 2] = 1
    phases = [ELASTIC[0], {"youngs_modulus": 0.0}]
    found = msvae.load_solver("elasticity", phases=phases, boundary="uniform-traction").evaluate(
        Structures.from_labels(labels, periodic=False)
    )
    assert isinstance(found, msvae.Properties)
    assert list(found.failures) == [0]
    assert "the lower bound is 0" in found.failures[0]
    assert np.isfinite(found["stiffness"][1]).all()


@pytest.mark.parametrize(("name", "phases", "names"), CASES)
@pytest.mark.parametrize("which", [0, 2])
def test_uniform_conditions_estimate_their_discretisation_error(
    name: str, phases: list[dict[str, Any]], names: tuple[str, ...], which: int
) -> None:
    """Against the same image with every pixel cut in 2 and in 4; signs are those of the energies: too stiff."""
    labels = np.kron((np.random.default_rng(2).random((4, 4)) < 0.4).astype(int), np.ones((3, 3), dtype=int))
    solver = msvae.load_solver(name, phases=phases, boundary=names[which])
    found = []
    for cut in (1, 2, 4):
        fine = np.kron(labels, np.ones((cut, cut), dtype=int))
        properties = solver.evaluate(Structures.from_labels(fine[None], 1 / cut, periodic=False))
        assert isinstance(properties, msvae.Properties)
        found.append((np.diag(next(iter(properties.values()))[0]), np.diag(next(iter(properties.errors.values()))[0])))
    (coarse, error), (middle, _), (fine, _) = found
    true = coarse - (fine - (middle - fine) * 0.4 / 0.6)
    assert (true > 0).all()
    np.testing.assert_array_less(0.5, error / true)
    np.testing.assert_array_less(error / true, 2.0)
