"""Elastic parts: exact solutions, a published stress concentration, and what cannot be held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import DataError
from msvae.part.elastic import Elastic, Support, side
from msvae.part.meshes import bar, centres, notched_beam, plate_with_hole, read_mesh

meshio = pytest.importorskip("meshio")
pytest.importorskip("skfem")
E, NU = 70e9, 0.3


def isotropic(dimensions: int, modulus: Any = E) -> Any:
    """Return the stiffness (..., v, v) of plane strain or three dimensions."""
    v = dimensions * (dimensions + 1) // 2
    first, shear = NU / (1 + NU) / (1 - 2 * NU), 0.5 / (1 + NU)
    unit = np.zeros((v, v))
    unit[:dimensions, :dimensions] = first
    unit += np.diag([2 * shear] * dimensions + [shear] * (v - dimensions))
    return np.asarray(modulus)[..., None, None] * unit


def uniform(mesh: Any) -> Any:
    return np.broadcast_to(isotropic(mesh.dim()), (mesh.nelements, *isotropic(mesh.dim()).shape))


def tension(mesh: Any, length: float, stretch: float) -> dict[str, Support]:
    """Return supports that stretch a part along its first axis and let it contract."""
    d = mesh.dim()
    held = {"left": Support(side(0, 0.0), (0.0, *(None,) * (d - 1))),
            "right": Support(side(0, length), (stretch, *(None,) * (d - 1)))}  # fmt: skip
    for axis in range(1, d):
        held[f"below {axis}"] = Support(side(axis, 0.0), tuple(0.0 if a == axis else None for a in range(d)))
    return held


@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_bar_in_tension_is_exact(dimensions: int, quadratic: bool) -> None:
    mesh = bar((0.3, 0.1, 0.2)[:dimensions], (4, 3, 2)[:dimensions])
    found = Elastic(mesh, uniform(mesh), tension(mesh, 0.3, 3e-4), quadratic).solve()
    modulus = E / (1 - NU**2) if dimensions == 2 else E
    area = 0.1 if dimensions == 2 else 0.02
    np.testing.assert_allclose(found.stress[:, 0], modulus * 1e-3, rtol=1e-9)
    np.testing.assert_allclose(found.stress[:, 1:], 0, atol=1e-4 * modulus * 1e-6)
    np.testing.assert_allclose(found.reactions["right"][0], modulus * 1e-3 * area, rtol=1e-9)
    np.testing.assert_allclose(found.reactions["left"][0], -found.reactions["right"][0], rtol=1e-9)
    assert found.energy == pytest.approx(0.5 * found.reactions["right"][0] * 3e-4)


def test_elements_one_behind_the_other_add_up_their_compliances() -> None:
    mesh = bar((1.0, 0.1, 0.1), (10, 1, 1))
    moduli = np.where(centres(mesh)[:, 0] < 0.5, 10e9, 30e9)
    stiffness = isotropic(3, moduli)
    stiffness[:, :3, :3] = np.eye(3) * moduli[:, None, None]  # no lateral contraction: springs in series
    found = Elastic(mesh, stiffness, tension(mesh, 1.0, 1e-3)).solve()
    assert found.reactions["right"][0] == pytest.approx(0.01 * 1e-3 / (0.5 / 10e9 + 0.5 / 30e9))


def test_any_linear_displacement_of_the_boundary_is_that_of_the_inside() -> None:
    """The patch test, on a distorted mesh."""
    mesh = bar((1.0, 1.0), (4, 4))
    inside = mesh.interior_nodes()
    points = mesh.p.copy()
    points[:, inside] += np.random.default_rng(0).uniform(-0.07, 0.07, (2, len(inside)))
    mesh = type(mesh)(points, mesh.t)
    gradient = np.array([[1e-3, 4e-4], [-2e-4, 5e-4]])
    supports = {
        f"{n} {k}": Support(lambda x, q=point: np.isclose(x, q[:, None]).all(axis=0), tuple(gradient @ point))  # type: ignore[misc]
        for k, n in enumerate(mesh.boundary_nodes())
        for point in [mesh.p[:, n]]
    }
    found = Elastic(mesh, uniform(mesh), supports).solve()
    np.testing.assert_allclose(found.nodal, (gradient @ mesh.p).T, atol=1e-12)
    np.testing.assert_allclose(found.strain, np.tile([1e-3, 5e-4, 2e-4], (mesh.nelements, 1)), atol=1e-11)


def test_the_stress_at_a_hole_is_three_times_that_far_away() -> None:
    """Kirsch 1898; Howland 1930: 3.04 of the gross stress for a hole of a fifteenth of the width."""
    mesh = plate_with_hole(0.3, 0.01, 8)
    supports = {
        "left": Support(side(0, -0.15), (-1e-4, None)),
        "right": Support(side(0, 0.15), (1e-4, None)),
        "below": Support(side(1, -0.15), (None, 0.0)),
    }
    found = Elastic(mesh, uniform(mesh), supports, quadratic=True).solve()
    gross = found.reactions["right"][0] / 0.3
    ring = np.linalg.norm(centres(mesh), axis=1)
    first = ring < np.sort(ring)[8 * 8 - 1] * 1.001
    top = found.stress[first, 0].max()
    assert 2.75 < top / gross < 3.1
    assert found.nodal[np.argmax(mesh.p[1]), 1] < 0


def test_a_softer_inclusion_makes_a_part_softer_and_a_notch_too(tmp_path: Path) -> None:
    whole = bar((0.2, 0.05, 0.05), (16, 4, 4))
    stiff = Elastic(whole, uniform(whole), tension(whole, 0.2, 1e-4)).solve()
    moduli = np.where(np.abs(centres(whole)[:, 0] - 0.1) < 0.02, E / 2, E)
    soft = Elastic(whole, isotropic(3, moduli), tension(whole, 0.2, 1e-4)).solve()
    cut = notched_beam((0.2, 0.05, 0.05), (16, 4, 4), (0.03, 0.02))
    notched = Elastic(cut, uniform(cut), tension(cut, 0.2, 1e-4)).solve()
    assert soft.energy < stiff.energy
    assert notched.energy < stiff.energy
    for name in ("part.vtu", "part.xdmf"):
        notched.save(tmp_path / name)
        again = meshio.read(tmp_path / name)
        np.testing.assert_allclose(again.cell_data["stress"][0], notched.stress)
        np.testing.assert_allclose(again.point_data["displacement"], notched.nodal)
    assert read_mesh(tmp_path / "part.vtu").nelements == cut.nelements
    assert plate_with_hole(0.1, 0.01, 2, thickness=0.02, layers=2).dim() == 3


def test_what_cannot_be_is_said_in_a_sentence(tmp_path: Path) -> None:
    mesh = bar((1.0, 1.0), (2, 2))
    (tmp_path / "m.vtu").write_text("nonsense")
    everywhere = {"all": Support(lambda x: x[0] < 9, (0.0, 0.0))}
    void = np.zeros((4, 3, 3))
    loose = {"left": Support(side(0, 0.0), (0.0, None)), "right": Support(side(0, 1.0), (1e-3, None))}
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: bar((1.0,), (2,)), "2 or 3 positive lengths"),
        (lambda: plate_with_hole(1.0, 0.6, 2), "does not fit"),
        (lambda: notched_beam((1.0, 1.0), (4, 4), (0.001, 0.5)), "cuts 0 of 16 cells"),
        (lambda: read_mesh(tmp_path / "absent.vtu"), "does not exist"),
        (lambda: read_mesh(tmp_path / "m.vtu"), "cannot be read as a mesh"),
        (lambda: Elastic(mesh, np.zeros((3, 3, 3)), everywhere), "stiffness has the shape"),
        (lambda: Elastic(mesh, uniform(mesh), {"a": Support(side(0, 0.0), (0.0,))}), "support 'a'"),
        (lambda: Elastic(mesh, uniform(mesh), {"a": Support(side(0, 7.0), (0.0, 0.0))}).solve(), "holds no node"),
        (lambda: Elastic(mesh, void, everywhere).solve(), "no equilibrium"),
        (lambda: Elastic(mesh, uniform(mesh), loose).solve(), "no equilibrium"),
    ]
    for call, says in cases:
        with pytest.raises(DataError, match=says):
            call()
