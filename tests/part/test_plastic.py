"""Elastoplastic and conducting parts against closed forms; problems as a study declares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msvae import DataError, load_solver
from msvae.part.conduction import Conductive, HeldTemperature
from msvae.part.elastic import Support, side
from msvae.part.meshes import bar, centres
from msvae.part.plastic import Hardening, Plastic
from msvae.part.problem import Problem, von_mises
from msvae.part.settings import PartSettings
from msvae.part.voxels import phase_stiffnesses, resolve
from msvae.structures import Structures

pytest.importorskip("skfem")
E, NU, YIELD, SLOPE = 70e9, 0.33, 150e6, 1e9


def metal(elements: int) -> Hardening:
    one = np.ones(elements)
    stresses = np.tile([YIELD, YIELD + SLOPE], (elements, 1))
    return Hardening(one * E / 3 / (1 - 2 * NU), one * E / 2 / (1 + NU), np.tile([0.0, 1.0], (elements, 1)), stresses)


def pulled(length: float, strain: float, d: int) -> dict[str, Support]:
    held = {"held": Support(side(0, 0.0), (0.0, *(None,) * (d - 1))),
            "moved": Support(side(0, length), (strain * length, *(None,) * (d - 1)))}  # fmt: skip
    for axis in range(1, d):
        held[f"below {axis}"] = Support(side(axis, 0.0), tuple(0.0 if a == axis else None for a in range(d)))
    return held


def test_a_bar_yields_and_hardens_as_its_material_does() -> None:
    mesh = bar((4.0, 1.0, 1.0), (4, 2, 2))
    steps = Plastic(mesh, metal(mesh.nelements), pulled(4.0, 0.03, 3)).solve([0.05, 0.1, 0.5, 1.0])
    for step in steps:
        strain = 0.03 * step.load
        stress = min(E * strain, (YIELD + SLOPE * strain) / (1 + SLOPE / E))
        np.testing.assert_allclose(step.stress[:, 0], stress, rtol=1e-9)
        assert step.reactions["moved"][0] == pytest.approx(stress)
        np.testing.assert_allclose(step.plastic_strain, strain - stress / E, atol=1e-12)
    assert steps[-1].work == pytest.approx(np.trapezoid([0, *(s.reactions["moved"][0] for s in steps)],
                                                        [0, *(0.12 * s.load for s in steps)]))  # fmt: skip


def test_unloading_is_elastic() -> None:
    mesh = bar((1.0, 1.0, 1.0), (1, 1, 1))
    first, second = Plastic(mesh, metal(1), pulled(1.0, 0.01, 3)).solve([1.0, 0.99])
    drop = first.reactions["moved"][0] - second.reactions["moved"][0]
    assert drop == pytest.approx(E * 0.01 * 0.01)


def test_a_material_is_found_from_its_tensile_test() -> None:
    phases = [{"youngs_modulus": E, "poissons_ratio": NU, "yield_stress": YIELD, "hardening": SLOPE}] * 2
    solver = load_solver("plasticity", phases=phases, strains=[0.0015, 0.003, 0.015, 0.03])
    found = solver.evaluate(Structures.from_labels(np.zeros((1, 4, 4, 4), dtype=int), 1e-6, phases=2))
    mesh = bar((1.0, 1.0, 1.0), (1, 1, 1))
    material = Hardening.of_curves(found["strain"], found["stress"])
    np.testing.assert_allclose([material.bulk[0], material.shear[0]], [E / 3 / (1 - 2 * NU), E / 2 / (1 + NU)])
    steps = Plastic(mesh, material, pulled(1.0, 0.03, 3)).solve([0.05, 0.1, 0.5, 1.0])
    np.testing.assert_allclose([s.stress[0, 0] for s in steps], found["stress"][0, :, 0], rtol=1e-5)
    with pytest.raises(DataError, match="elastic first step"):
        Hardening.of_curves(np.zeros((1, 2, 6)), np.zeros((1, 2, 6)))


def test_conductors_in_a_row_add_up_their_resistances(tmp_path: Path) -> None:
    mesh = bar((1.0, 0.1), (10, 2))
    k = np.where(centres(mesh)[:, 0] < 0.3, 5.0, 1.0)[:, None, None] * np.eye(2)
    held = {"cold": HeldTemperature(side(0, 0.0), 0.0), "hot": HeldTemperature(side(0, 1.0), 2.0)}
    found = Conductive(mesh, k, held).solve()
    flux = 2.0 / (0.3 / 5 + 0.7)
    assert found.heat["hot"] == pytest.approx(flux * 0.1)
    np.testing.assert_allclose(found.flux[:, 0], -flux)
    found.save(tmp_path / "part.vtu")
    meshio = pytest.importorskip("meshio")
    again = meshio.read(tmp_path / "part.vtu")
    np.testing.assert_allclose(again.cell_data["flux"][0][:, 0], -flux)
    with pytest.raises(DataError, match="no steady temperature"):
        Conductive(mesh, k, {}).solve()
    with pytest.raises(DataError, match="held at no node"):
        Conductive(mesh, k, {"hot": HeldTemperature(side(0, 9.0), 1.0)}).solve()


def isotropic(d: int) -> Any:
    v = d * (d + 1) // 2
    matrix = np.zeros((v, v))
    matrix[:d, :d] = 0.3 / 1.3 / 0.4
    return matrix + np.diag([1 / 1.3] * d + [0.5 / 1.3] * (v - d))


@pytest.mark.parametrize(("load", "exact"), [("tension", 0.25), ("bending", 3 / 12 / 64)])
def test_a_bar_of_a_study_has_the_stiffness_of_the_textbook(load: str, exact: float) -> None:
    settings = PartSettings(lengths=(4.0, 1.0, 1.0), cells=(16, 4, 4), load=load, displacement=0.01,  # type: ignore[arg-type]
                            quantities=("stiffness", "compliance", "stress-concentration"))  # fmt: skip
    problem = Problem(settings)
    found = problem.respond({"stiffness": np.tile(isotropic(3), (problem.mesh.nelements, 1, 1))}).quantities
    assert found["stiffness"] == pytest.approx(exact, rel=1e-9 if load == "tension" else 0.03)
    assert found["compliance"] * found["stiffness"] == pytest.approx(1)
    assert found["stress-concentration"] >= 1 - 1e-9


@pytest.mark.parametrize("size", [1e-8, 1e-3, 1e2])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_part_of_any_size_is_pulled_along_any_axis(size: float, axis: int) -> None:
    lengths = tuple(np.roll((4 * size, size, size), axis).tolist())
    settings = PartSettings(
        lengths=lengths, cells=(3, 3, 3), axis=axis, displacement=0.01 * size, quantities=("stiffness",)
    )
    problem = Problem(settings)
    found = problem.respond({"stiffness": np.tile(isotropic(3), (27, 1, 1))}).quantities["stiffness"]
    assert found == pytest.approx(size / 4)
    with pytest.raises(DataError, match=r"part\.axis"):
        _ = Problem(PartSettings(lengths=(1.0, 1.0), cells=(2, 2), axis=2)).mesh


def test_plasticity_of_a_plate_with_a_hole_begins_beside_it(tmp_path: Path) -> None:
    settings = PartSettings(shape="plate-with-hole", lengths=(1.0,), cells=(2,), radius=0.1, physics="plasticity",
                            displacement=0.01, quantities=("peak-load", "first-yield-load", "energy"))  # fmt: skip
    problem = Problem(settings)
    curve = np.linspace(0.001, 0.03, 6)
    stress = np.zeros((problem.mesh.nelements, 6, 3))
    strain = np.zeros_like(stress)
    strain[..., 0], stress[..., 0] = curve, np.minimum(70e9 * curve, 150e6 + 1e9 * curve)
    strain[..., 1] = -0.3 * curve
    response = problem.respond({"strain": strain, "stress": stress})
    assert response.quantities["first-yield-load"] < response.quantities["peak-load"]
    hottest = problem.centres[np.argmax(response.solution[1].plastic_strain)]  # type: ignore[index]
    assert np.linalg.norm(hottest) < 0.2
    response.last.save(tmp_path / "part.vtu")
    again = pytest.importorskip("meshio").read(tmp_path / "part.vtu")
    np.testing.assert_allclose(again.cell_data["plastic strain"][0], response.last.plastic_strain)  # type: ignore[union-attr]


def test_settings_of_a_part_that_cannot_be_are_refused() -> None:
    box: dict[str, Any] = {"lengths": (1.0, 1.0), "cells": (2, 2)}
    for wrong, says in (
        ({"quantities": ("speed",)}, "quantities of physics 'elasticity'"),
        ({"radius": 1.0}, "belongs to shape 'plate-with-hole'"),
        ({"quantities": ("first-yield-load",)}, "needs yield_stress"),
        ({"load": "bending", "sides": "fixed"}, "free sides"),
    ):
        with pytest.raises(ValueError, match=says):
            PartSettings(**{**box, **wrong})


def test_a_part_of_voxels_bends_like_a_beam_and_loose_islands_carry_nothing() -> None:
    solver = load_solver("elasticity", phases=[{"youngs_modulus": 1.0, "poissons_ratio": 0.3}, {"youngs_modulus": 0.0}])
    labels = np.ones((1, 40, 14), dtype=int)
    labels[:, :, 2:12] = 0
    labels[0, 5, 0] = 0  # an island
    part = Structures.from_labels(labels, 1.0, phases=2, periodic=False)
    stiffness = phase_stiffnesses(solver, part)
    assert stiffness[1] is None
    problem = Problem(PartSettings(lengths=(40.0, 14.0), cells=(4, 2), load="bending", displacement=0.1,
                                   quantities=("stiffness",)))  # fmt: skip
    found = resolve(part, solver, problem).quantities["stiffness"]
    modulus = 1 / (1 - 0.3**2)
    bending, shear = 40**3 / (3 * modulus * 10**3 / 12), 40 / (5 / 6 * 10 / 2.6)
    assert found == pytest.approx(1 / (bending + shear), rel=0.05)
    labels[0, 20] = 1
    with pytest.raises(DataError, match="are not connected"):
        resolve(Structures.from_labels(labels, 1.0, phases=2, periodic=False), solver, problem)


def test_von_mises_of_simple_states() -> None:
    states = np.array([[2.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1.0], [3.0, 3.0, 3.0, 0, 0, 0]])
    np.testing.assert_allclose(von_mises(states), [2.0, np.sqrt(3), 0.0], atol=1e-12)
