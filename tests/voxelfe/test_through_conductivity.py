"""Conduction from face to face, against exact solutions and a directly assembled system."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import msvae
from msvae import Structures
from msvae_voxelfe.elements.trilinear import conduction_element, corners
from msvae_voxelfe.linear import homogenization
from msvae_voxelfe.voxels.mirror import mirrored


def through(labels: np.ndarray, *values: float) -> msvae.Properties:
    solver = msvae.load_solver("through-conductivity", phases=[{"conductivity": v} for v in values], tolerance=1e-7)
    result = solver.evaluate(Structures.from_labels(labels, phases=2, periodic=False))
    assert isinstance(result, msvae.Properties)
    return result


def assembled(conductivity: np.ndarray) -> float:
    """Return the conductivity along axis 0 by the assembled finite elements with fixed faces and insulated sides."""
    shape = tuple(n + 1 for n in conductivity.shape)
    nodes = np.arange(np.prod(shape)).reshape(shape)
    element = conduction_element((1.0,) * conductivity.ndim).stiffness[0]
    index = [nodes[tuple(slice(o, o + n) for o, n in zip(c, conductivity.shape, strict=True))].ravel()
             for c in corners(conductivity.ndim)]  # fmt: skip
    entries = [
        (conductivity.ravel() * element[a, b], (index[a], index[b]))
        for a in range(len(index))
        for b in range(len(index))
    ]
    matrix = sum(sparse.coo_array(e, shape=(nodes.size, nodes.size)) for e in entries).tocsr()
    potential = np.zeros(nodes.size)
    potential[nodes[-1].ravel()] = 1.0
    free = nodes[1:-1].ravel()
    fixed = np.concatenate([nodes[0].ravel(), nodes[-1].ravel()])
    potential[free] = sparse.linalg.spsolve(matrix[free][:, free].tocsc(), -(matrix[free][:, fixed] @ potential[fixed]))
    area = np.prod(conductivity.shape[1:])
    return float(potential @ (matrix @ potential)) * conductivity.shape[0] / area


@pytest.mark.parametrize("shape", [(7, 5), (5, 4, 3)])
def test_it_is_the_solution_of_the_assembled_system(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 2, shape)
    found = through(labels[None], 1.0, 9.0)["conductivity"][0]
    for axis in range(len(shape)):
        k = np.where(np.moveaxis(labels, axis, 0) == 1, 9.0, 1.0)
        assert found[axis] == pytest.approx(assembled(k), rel=1e-6)


@pytest.mark.parametrize("shape", [(9, 14), (5, 1, 6), (11, 4, 8)])
def test_it_is_the_solution_of_the_image_among_its_mirror_images(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(1).integers(0, 2, (2, *shape))
    periodic = msvae.load_solver(
        "conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 50.0}], tolerance=1e-7
    ).evaluate(Structures.from_labels(mirrored(labels[:, None])[:, 0], phases=2))
    found = through(labels, 1.0, 50.0)
    for k in range(2):
        np.testing.assert_allclose(found["conductivity"][k], np.diag(periodic["conductivity"][k]), rtol=1e-9)


def test_without_a_compiler_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(2).integers(0, 2, (1, 6, 5, 4))
    compiled = through(labels, 0.0, 3.0)
    monkeypatch.setattr(homogenization, "kernels", lambda precision: None)
    np.testing.assert_allclose(through(labels, 0.0, 3.0)["tortuosity"], compiled["tortuosity"], rtol=1e-8)


def test_threads_do_not_change_a_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(3).integers(0, 2, (1, 66, 40, 39))
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(through(labels, 1.0, 9.0)["conductivity"])
    np.testing.assert_array_equal(*found)


def test_the_flux_of_every_voxel_adds_up_to_the_conductivity() -> None:
    structures = Structures.from_labels(np.random.default_rng(4).integers(0, 2, (1, 6, 7)), (1.0, 2.0), phases=2)
    solver = msvae.load_solver("through-conductivity", phases=[{"conductivity": v} for v in (1.0, 9.0)], tolerance=1e-8)
    found, fields = solver.evaluate(structures)["conductivity"][0], solver.fields(structures)
    for axis in range(2):
        assert fields[f"flux {axis}"][..., axis].mean() == pytest.approx(found[axis], rel=1e-8)
        through_planes = fields[f"flux {axis}"][..., axis].mean(axis=1 - axis)
        np.testing.assert_allclose(through_planes, found[axis], rtol=0.2)  # of nodes exactly, of voxels' means nearly


def test_an_image_in_which_nothing_conducts_has_conductivity_zero() -> None:
    labels = np.zeros((2, 4, 4), dtype=np.uint8)
    labels[1, :, 1] = 1
    solver = msvae.load_solver("through-conductivity", phases=[{"conductivity": 0.0}, {"conductivity": 1.0}])
    found = solver.evaluate(Structures.from_labels(labels, 1.0, phases=2))
    assert isinstance(found, msvae.Properties)
    assert not found.failures
    np.testing.assert_array_equal(found["conductivity"][0], 0.0)
    np.testing.assert_array_equal(found["tortuosity"][0], np.inf)


def test_straight_channels_have_a_tortuosity_factor_of_one() -> None:
    labels = np.ones((1, 6, 8), dtype=int)
    labels[0, :, 2:5] = 0
    solver = msvae.load_solver("through-conductivity", phases=[{"conductivity": 2.0}, {"conductivity": 0.5}])
    found = solver.evaluate(Structures.from_labels(labels))
    assert found["conductivity"][0, 0] == pytest.approx((3 * 2.0 + 5 * 0.5) / 8)
    assert found["tortuosity"][0, 0] == pytest.approx(1.0)
    assert found["conductivity"][0, 1] == pytest.approx(8 / (3 / 2.0 + 5 / 0.5))


def test_a_direction_that_nothing_conducts_along_has_its_zero_and_the_other_its_value() -> None:
    labels = np.ones((2, 6, 8), dtype=int)
    labels[0, :, 2:5] = 0
    labels[1, 3:, :] = labels[1, :, 3:] = 0
    result = through(labels, 1.0, 0.0)
    assert not result.failures
    np.testing.assert_allclose(result["conductivity"][0], [3 / 8, 0.0], rtol=1e-6)
    np.testing.assert_allclose(result["tortuosity"][0], [1.0, np.inf], rtol=1e-6)
    assert (result["tortuosity"][1] > 1).all()
