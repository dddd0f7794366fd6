"""Conduction from face to face, against exact solutions and a directly assembled system."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import msvae
from msvae import Structures
from msvae_voxelfe.element import conduction_element, corners


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


def test_straight_channels_have_a_tortuosity_factor_of_one() -> None:
    labels = np.ones((1, 6, 8), dtype=int)
    labels[0, :, 2:5] = 0
    solver = msvae.load_solver("through-conductivity", phases=[{"conductivity": 2.0}, {"conductivity": 0.5}])
    found = solver.evaluate(Structures.from_labels(labels))
    assert found["conductivity"][0, 0] == pytest.approx((3 * 2.0 + 5 * 0.5) / 8)
    assert found["tortuosity"][0, 0] == pytest.approx(1.0)
    assert found["conductivity"][0, 1] == pytest.approx(8 / (3 / 2.0 + 5 / 0.5))


def test_a_direction_that_nothing_conducts_along_is_named_instead_of_a_number() -> None:
    labels = np.ones((2, 6, 8), dtype=int)
    labels[0, :, 2:5] = 0
    labels[1, 3:, :] = labels[1, :, 3:] = 0
    result = through(labels, 1.0, 0.0)
    assert list(result.failures) == [0]
    assert "along axis 1" in result.failures[0]
    assert np.isnan(result["conductivity"][0]).all()
    assert (result["tortuosity"][1] > 1).all()
