"""Structures that have no property: each fails alone, with a sentence, and the rest of the batch is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Specification, Structures
from msvae.dispatch.evaluation import evaluate
from msvae.errors import StudyError

ELASTIC = [{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": 3.0, "poissons_ratio": 0.2}]
SOLVERS: dict[str, dict[str, Any]] = {
    "conductivity": {"phases": [{"conductivity": 1.0}, {"conductivity": 3.0}]},
    "through-conductivity": {"phases": [{"conductivity": 1.0}, {"conductivity": 3.0}]},
    "elasticity": {"phases": ELASTIC},
    "hyperelasticity": {"phases": ELASTIC, "displacements": [0.1]},
    "periodic-hyperelasticity": {"phases": ELASTIC, "deformation": [[1.1, 0.0], [0.0, 1.0]], "steps": [1.0]},
    "plasticity": {"phases": ELASTIC, "strains": [0.01]},
    "permeability": {},
}
GREY = [name for name in SOLVERS if name not in ("plasticity", "permeability")]


def solver(name: str, **changes: Any) -> msvae.Solver:
    return msvae.load_solver(name, **{**SOLVERS[name], **changes})


def sound(n: int = 3) -> np.ndarray:
    labels = np.zeros((n, 4, 5), dtype=int)
    labels[:, 1:3, 2] = 1
    return labels


def check_only(found: Any, expected: Any, failed: int, says: str) -> None:
    """Check that one structure failed with a sentence, and that the others are what they are without it."""
    assert list(found.failures) == [failed]
    assert says in found.failures[failed]
    for name in found:
        assert np.isnan(found[name][failed]).all()
        others = [k for k in range(len(found[name])) if k != failed]
        np.testing.assert_allclose(found[name][others], expected[name][others], rtol=1e-9)
        assert np.isfinite(found[name][others]).all()


@pytest.mark.parametrize("name", GREY)
def test_a_nan_voxel_fails_that_structure_alone(name: str) -> None:
    grey = sound().astype(float)
    expected = solver(name).evaluate(Structures.from_values(grey))
    grey[1, 0, 0] = np.nan
    found = solver(name).evaluate(Structures.from_values(grey))
    check_only(found, expected, 1, "NaN or infinity in 1 of 20 voxels")


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "permeability"])
def test_a_phase_missing_from_the_table_fails_the_structures_that_have_it(name: str) -> None:
    labels = sound()
    expected = solver(name).evaluate(Structures.from_labels(labels, phases=3))
    labels[2, 3, 3] = 2
    found = solver(name).evaluate(Structures.from_labels(labels, phases=3))
    check_only(found, expected, 2, "it has phase 2, but solver.phases ends at phase 1")


@pytest.mark.parametrize(
    ("name", "value"), [("elasticity", 0.5), ("hyperelasticity", 0.5), ("plasticity", 0.5), ("elasticity", -1.0)]
)
def test_poissons_ratio_of_an_incompressible_phase_is_refused(name: str, value: float) -> None:
    phases = [ELASTIC[0], {"youngs_modulus": 1.0, "poissons_ratio": value}]
    with pytest.raises(StudyError, match=r"poissons_ratio.*below 0.5"):
        solver(name, phases=phases)


@pytest.mark.parametrize(
    ("name", "phases"),
    [
        ("conductivity", [{"conductivity": 0.0}, {"conductivity": 1.0}]),
        ("elasticity", [{"youngs_modulus": 0.0}, ELASTIC[0]]),
        ("periodic-hyperelasticity", [{"youngs_modulus": 0.0}, ELASTIC[0]]),
        ("plasticity", [{"youngs_modulus": 0.0}, ELASTIC[0]]),
    ],
)
def test_a_structure_that_is_empty_everywhere_fails_alone(name: str, phases: list[dict[str, float]]) -> None:
    labels = 1 - sound()
    expected = solver(name, phases=phases).evaluate(Structures.from_labels(labels, phases=2))
    labels[0] = 0
    found = solver(name, phases=phases).evaluate(Structures.from_labels(labels, phases=2))
    check_only(found, expected, 0, "every voxel is empty: nothing carries the load")


@pytest.mark.parametrize("name", list(SOLVERS))
@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1), (3, 1, 6), (1, 1, 1)])
def test_axes_of_one_voxel_are_axes_like_any_other(name: str, shape: tuple[int, ...]) -> None:
    """What is constant along an axis has the same properties however many voxels there are along it."""
    row = np.array([0, 0, 1, 0, 1, 0])[: shape[int(np.argmax(shape))]].astype(int)
    axis = int(np.argmax(shape))
    thin = np.broadcast_to(row.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)
    thick = np.repeat(np.repeat(thin, 2, axis=(axis + 1) % len(shape)), 1, axis=0)
    structures = Structures.from_labels(thin[None], phases=2)
    if solver(name).misfit(structures.specification):
        pytest.skip("this solver takes 2D only")
    found = solver(name).evaluate(structures)
    other = solver(name).evaluate(Structures.from_labels(thick[None], phases=2))
    assert found.failures == other.failures  # type: ignore[attr-defined]
    for key in ("conductivity", "tortuosity", "stiffness", "stress", "permeability"):
        if key in found:
            np.testing.assert_allclose(found[key], other[key], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(
    ("name", "phases"),
    [
        ("conductivity", [{"conductivity": 0.0}, {"conductivity": 2.0}]),
        ("elasticity", [{"youngs_modulus": 0.0}, ELASTIC[0]]),
    ],
)
def test_what_leads_nowhere_bears_exactly_nothing(
    name: str, phases: list[dict[str, float]], dimensions: int, *, periodic: bool
) -> None:
    """A slab, and a block in a void: rounding errors would span decades that heads then learn."""
    labels = np.zeros((2, *(6,) * dimensions), dtype=int)
    labels[0, :, 3] = 1
    labels[1][(slice(1, 4),) * dimensions] = 1
    found = solver(name, phases=phases).evaluate(Structures.from_labels(labels, phases=2, periodic=periodic))
    (tensors,) = found.values()
    assert tensors[0, 0, 0] > 0
    assert tensors[0, 1, 1] == 0
    assert not tensors[0, 1].any()
    assert not tensors[0, :, 1].any()
    assert not tensors[1].any()


def test_a_phase_that_does_not_percolate_is_named_or_has_its_zero() -> None:
    labels = np.zeros((2, 6, 6), dtype=int)
    labels[0, :, 2:4] = 1  # a wall along axis 0
    labels[1, 2:4, 2:4] = 1
    structures = Structures.from_labels(labels)
    flow = solver("permeability").evaluate(structures)
    assert not flow.failures  # type: ignore[attr-defined]
    np.testing.assert_array_equal(flow["permeability"][0] > 0, [[True, False], [False, False]])
    phases = [{"conductivity": 1.0}, {"conductivity": 0.0}]
    through = solver("through-conductivity", phases=phases).evaluate(structures)
    assert not through.failures  # type: ignore[attr-defined]
    np.testing.assert_allclose(through["conductivity"][0], [4 / 6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(through["tortuosity"][0], [1.0, np.inf], rtol=1e-6)
    one = evaluate(solver("through-conductivity", phases=phases), structures[0], index=0)
    assert (one.status, one.errors["tortuosity"][1]) == ("done", 0.0)
    tensor = solver("conductivity", phases=phases).evaluate(structures)["conductivity"][0]
    np.testing.assert_allclose(tensor, np.diag([4 / 6, 0.0]), atol=1e-9)
    elastic = solver("elasticity", phases=[ELASTIC[0], {"youngs_modulus": 0.0}]).evaluate(structures)["stiffness"][0]
    assert elastic[0, 0] > 0.1
    np.testing.assert_allclose(elastic[1], 0, atol=1e-9)


def test_a_damaged_structure_is_not_given_to_a_strangers_solver() -> None:
    from msvae.dispatch.evaluation import evaluate

    class Careless(msvae.Solver):
        name = "careless"
        kinds = ("field",)
        computes = (msvae.Quantity("mean", "1"),)

        def evaluate(self, structures: Structures) -> dict[str, np.ndarray]:
            return {"mean": np.nan_to_num(structures.values).mean(axis=(1, 2, 3))}

    outcome = evaluate(Careless(), Structures.from_values([[[0.0, np.nan]]]), index=0)
    assert outcome.status == "failed"
    assert "NaN or infinity in 1 of 2 voxels" in outcome.message
    assert evaluate(Careless(), Structures.from_values([[[0.0, 1.0]]]), index=0).status == "done"


def test_a_deformation_out_of_the_plane_does_not_fit_2d_structures() -> None:
    three = solver("periodic-hyperelasticity", deformation=np.diag([1.0, 1.0, 1.1]).tolist())
    plane: Specification = Structures.from_labels(sound()).specification
    assert "out of the plane" in str(three.misfit(plane))
    assert three.misfit(Structures.from_labels(np.zeros((1, 2, 2, 2), dtype=int), phases=2).specification) is None
