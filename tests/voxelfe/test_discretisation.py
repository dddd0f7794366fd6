"""The estimate of the discretisation's error, against solutions on voxels that are cut in two and in four."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import msvae
from msvae import Structures
from msvae_voxelfe.elements.discretisation import slabs
from msvae_voxelfe.linear import homogenization

NAMES = ["conductivity", "elasticity", "through-conductivity"]


def phases(name: str, contrast: float) -> list[dict[str, Any]]:
    if name == "elasticity":
        return [{"youngs_modulus": e, "poissons_ratio": 0.3} for e in (1.0, contrast)]
    return [{"conductivity": k} for k in (1.0, contrast)]


def blobs(shape: tuple[int, ...], seed: int, length: float = 2.0) -> np.ndarray:
    """Return labels (*shape), three tenths of which are 1, of a periodic Gaussian field."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    waves = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    smooth = np.exp(-2 * (np.pi * length) ** 2 * sum(k**2 for k in waves))
    field = np.fft.ifftn(np.fft.fftn(noise) * smooth).real
    return (field > np.quantile(field, 0.7)).astype(int)


def solved(name: str, labels: np.ndarray, cut: int, contrast: float, **settings: Any) -> msvae.Properties:
    for axis in range(labels.ndim):
        labels = np.repeat(labels, cut, axis)
    found = msvae.load_solver(name, phases=phases(name, contrast), **settings).evaluate(
        Structures.from_labels(labels[None], 1e-6 / cut, phases=2)
    )
    assert isinstance(found, msvae.Properties)
    return found


def diagonal(values: np.ndarray) -> np.ndarray:
    return np.diag(values[0]) if values.ndim == 3 else values[0]


def effectivity(name: str, labels: np.ndarray, contrast: float) -> np.ndarray:
    """Return estimated over true error of the diagonal; truth is extrapolated from voxels cut in 2 and in 4."""
    coarse = solved(name, labels, 1, contrast)
    key = next(iter(coarse))
    first, second, third = (diagonal(solved(name, labels, cut, contrast)[key]) for cut in (1, 2, 4))
    limit = third - (second - third) * 0.4 / (1 - 0.4)  # what is left falls to .3 to .5 with every cut
    return diagonal(coarse.errors[key])[first > 1e-3] / (first - limit)[first > 1e-3]


@pytest.mark.parametrize("contrast", [2.0, 1000.0, 0.0])
@pytest.mark.parametrize("name", NAMES)
def test_the_estimate_is_within_a_factor_of_two_of_the_truth_in_2d(name: str, contrast: float) -> None:
    found = effectivity(name, blobs((24, 24), 1, 3.0), contrast)
    assert ((found > 0.5) & (found < 2)).all(), found


@pytest.mark.slow
@pytest.mark.parametrize("contrast", [2.0, 10.0, 100.0, 1000.0, 0.0])
@pytest.mark.parametrize("name", NAMES)
def test_the_estimate_is_within_a_factor_of_two_of_the_truth_in_many_structures(name: str, contrast: float) -> None:
    """Thirty structures a solver, in 2D and 3D."""
    for seed in range(3):
        for shape, length in (((32, 32), 2.5 + seed), ((12, 12, 12), 2.0)):
            found = effectivity(name, blobs(shape, seed, length), contrast)
            assert ((found > 0.5) & (found < 2)).all(), (shape, seed, found)


def test_it_is_the_same_with_and_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = blobs((8, 7, 9), 2)
    compiled = {name: solved(name, labels, 1, 20.0, tolerance=1e-7) for name in NAMES}
    monkeypatch.setattr(homogenization, "kernels", lambda precision: None)
    for name in NAMES[:2]:
        other = solved(name, labels, 1, 20.0, tolerance=1e-7)
        key = next(iter(other))
        np.testing.assert_allclose(other.errors[key], compiled[name].errors[key], rtol=1e-4, atol=1e-8)


def test_a_part_of_a_large_grid_says_what_the_whole_says(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = blobs((40, 20, 20), 3)
    assert len(slabs(labels.shape)) > 1
    part = solved("conductivity", labels, 1, 10.0).errors["conductivity"][0]
    monkeypatch.setattr("msvae_voxelfe.elements.discretisation.ENOUGH", labels.size)
    whole = solved("conductivity", labels, 1, 10.0).errors["conductivity"][0]
    np.testing.assert_allclose(np.diag(part), np.diag(whole), rtol=0.4)


def test_what_a_homogeneous_structure_or_a_laminate_has_is_exact() -> None:
    laminate = np.zeros((6, 4, 5), dtype=int)
    laminate[:2] = 1
    for labels in (np.zeros((4, 5, 3), dtype=int), laminate):
        found = solved("conductivity", labels, 1, 10.0)
        assert np.abs(found.errors["conductivity"]).max() < 1e-6


def test_errors_of_voxels_that_are_no_cubes_fall_when_these_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = blobs((16, 16), 4)
    solver = msvae.load_solver("conductivity", phases=phases("conductivity", 10.0))
    wide = solver.evaluate(Structures.from_labels(labels[None], (2e-6, 1e-6)))
    cut = solver.evaluate(Structures.from_labels(np.repeat(labels, 2, axis=0)[None], (1e-6, 1e-6)))
    assert isinstance(wide, msvae.Properties)
    assert isinstance(cut, msvae.Properties)
    change = wide["conductivity"][0] - cut["conductivity"][0]
    assert 0 < change[0, 0] < wide.errors["conductivity"][0, 0, 0]
    assert cut.errors["conductivity"][0, 0, 0] < wide.errors["conductivity"][0, 0, 0]


@pytest.mark.parametrize("contrast", [2.0, 10.0, 1000.0, 0.01])
@pytest.mark.parametrize("shape", [(20, 20), (8, 8, 8)])
def test_bounds_bracket_the_truth_and_extrapolation_is_near_it(shape: tuple[int, ...], contrast: float) -> None:
    labels = blobs(shape, 1)
    fine = [np.diag(solved("conductivity", labels, cut, contrast)["conductivity"][0]) for cut in (2, 4)]
    truth = fine[1] - (fine[0] - fine[1]) * 0.4 / (1 - 0.4)
    between, beyond = (
        solved("conductivity", labels, 1, contrast, accuracy=accuracy) for accuracy in ("bounds", "extrapolated")
    )
    middle, half = (np.diag(values["conductivity"][0]) for values in (between, between.errors))
    assert (middle - half <= truth).all()
    assert (truth <= middle + half).all()
    assert (fine[1] <= middle + half + 1e-9).all()
    value, error = (np.diag(values["conductivity"][0]) for values in (beyond, beyond.errors))
    assert (np.abs(value - truth) <= error).all()


def test_bounds_of_a_laminate_are_its_conductivity_and_pores_have_none() -> None:
    laminate = np.zeros((6, 4, 5), dtype=int)
    laminate[:2] = 1
    found = solved("conductivity", laminate, 1, 10.0, accuracy="bounds", tolerance=1e-7)
    np.testing.assert_allclose(np.diag(found["conductivity"][0]), [1 / (4 / 6 + 2 / 60), 4, 4], rtol=1e-6)
    assert np.abs(found.errors["conductivity"]).max() < 1e-6
    with pytest.raises(msvae.DataError, match="need voxels that all conduct"):
        solved("conductivity", laminate, 1, 0.0, accuracy="bounds")
    with pytest.raises(msvae.DataError, match="bounds are for conductivities"):
        solved("elasticity", laminate, 1, 2.0, accuracy="bounds")


def nonlinear(name: str, settings: dict[str, Any], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return estimated and true relative errors at each step, of the energy or of the driven stress."""
    solver, values, found = msvae.load_solver(name, **settings), [], []
    for cut in (1, 2, 4):
        image = np.repeat(np.repeat(labels, cut, 0), cut, 1)
        found.append(solver.evaluate(Structures.from_labels(image[None], 1e-6 / cut, phases=2)))
        values.append(found[-1]["energy"][0] if "energy" in found[-1] else found[-1]["stress"][0, :, 0])
    assert isinstance(found[0], msvae.Properties)
    errors = found[0].errors["energy"][0] if "energy" in found[0] else found[0].errors["stress"][0, :, 0]
    limit = values[2] - (values[1] - values[2]) * 0.4 / (1 - 0.4)
    return errors / values[0], (values[0] - limit) / values[0]


@pytest.mark.parametrize("contrast", [0.0, 0.1, 10.0])
def test_the_estimate_of_finite_strain_is_within_a_factor_of_two_of_the_truth(contrast: float) -> None:
    phases = [{"youngs_modulus": e, "poissons_ratio": 0.3} for e in (1e6, 1e6 * contrast)]
    settings = {"phases": phases, "deformation": [[1.2, 0.1], [0.0, 1.0]], "steps": [0.5, 1.0]}
    estimated, true = nonlinear("periodic-hyperelasticity", settings, blobs((12, 12), 1))
    assert ((estimated / true > 0.5) & (estimated / true < 2)).all(), estimated / true


@pytest.mark.parametrize("modulus", [0.0, 700e9])
def test_the_estimate_of_plastic_stress_is_within_a_factor_of_two_of_the_truth(modulus: float) -> None:
    metal = {"youngs_modulus": 70e9, "poissons_ratio": 0.3, "yield_stress": 2e8, "hardening": 1e9}
    settings = {"phases": [metal, {"youngs_modulus": modulus, "poissons_ratio": 0.3}], "strains": [0.002, 0.005, 0.01]}
    estimated, true = nonlinear("plasticity", settings, blobs((12, 12), 2))
    assert ((estimated / true > 0.5) & (estimated / true < 2)).all(), estimated / true


def test_plastic_stress_of_a_metal_with_soft_inclusions_has_no_estimate() -> None:
    """Slip bands pass between them on finer voxels, and the stress may rise or fall."""
    metal = {"youngs_modulus": 70e9, "poissons_ratio": 0.3, "yield_stress": 2e8, "hardening": 1e9}
    phases = [metal, {"youngs_modulus": 7e9, "poissons_ratio": 0.3}]
    found = msvae.load_solver("plasticity", phases=phases, strains=[0.002]).evaluate(
        Structures.from_labels(blobs((8, 8), 2)[None], 1e-6, phases=2)
    )
    assert isinstance(found, msvae.Properties)
    assert not found.errors
    assert np.isfinite(found.iteration_errors["stress"]).all()


CASES = ["uniaxial-extension", "equibiaxial-extension", "shear", "confined-compression"]


@pytest.mark.parametrize("contrast", [2.0, 100.0])
@pytest.mark.parametrize("case", CASES)
def test_the_estimate_between_fixed_edges_is_within_a_factor_of_two_of_the_truth(case: str, contrast: float) -> None:
    phases = [{"youngs_modulus": e, "poissons_ratio": 0.3} for e in (1e6, 1e6 * contrast)]
    settings = {"phases": phases, "case": case, "displacements": [0.05, 0.2]}
    estimated, true = nonlinear("hyperelasticity", settings, blobs((8, 8), 1, 1.5))
    assert ((estimated / true > 0.5) & (estimated / true < 2)).all(), estimated / true


def test_a_reactions_error_is_that_of_finer_pixels() -> None:
    phases = [{"youngs_modulus": e, "poissons_ratio": 0.3} for e in (1e6, 1e8)]
    solver = msvae.load_solver("hyperelasticity", phases=phases, displacements=[0.1])
    labels, found = blobs((8, 8), 2, 1.5), []
    for cut in (1, 2, 4):
        image = np.repeat(np.repeat(labels, cut, 0), cut, 1)
        found.append(solver.evaluate(Structures.from_labels(image[None], 1e-6 / cut, phases=2)))
    assert isinstance(found[0], msvae.Properties)
    along = [f["reaction"][0, 0, 1] for f in found]
    limit = along[2] - (along[1] - along[2]) * 0.4 / (1 - 0.4)
    assert 0.5 < found[0].errors["reaction"][0, 0, 1] / (along[0] - limit) < 2


def flow(labels: np.ndarray, cut: int, periodic: bool, **settings: Any) -> msvae.Properties:
    for axis in range(labels.ndim):
        labels = np.repeat(labels, cut, axis)
    structures = Structures.from_labels(labels[None], 1.0 / cut, periodic=periodic, phases=2)
    found = msvae.load_solver("permeability", **settings).evaluate(structures)
    assert isinstance(found, msvae.Properties)
    return found


def effectivity_of_flow(labels: np.ndarray, periodic: bool) -> np.ndarray:
    """Return estimated over true error of the diagonal; truth is extrapolated from voxels cut in 2 and in 4."""
    coarse = flow(labels, 1, periodic)
    first, second, third = (np.diag(flow(labels, cut, periodic)["permeability"][0]) for cut in (1, 2, 4))
    limit = third - (second - third) * 0.4 / (1 - 0.4)
    return np.diag(coarse.errors["permeability"][0])[first > 0] / (first - limit)[first > 0]


@pytest.mark.parametrize("periodic", [True, False])
def test_the_estimate_of_a_permeability_is_within_a_factor_of_two_of_the_truth(periodic: bool) -> None:
    for shape, length in (((24, 24), 1.0), ((24, 24), 2.5), ((10, 10, 10), 1.2)):
        found = effectivity_of_flow(blobs(shape, 1, length), periodic)
        assert len(found)
        assert ((found > 0.5) & (found < 2)).all(), (shape, length, found)


@pytest.mark.slow
@pytest.mark.parametrize("periodic", [True, False])
def test_the_estimate_of_a_permeability_is_within_a_factor_of_two_of_the_truth_in_many_structures(
    periodic: bool,
) -> None:
    """Thirty structures, in 2D and 3D, with most of them pores and with half."""
    for seed in range(5):
        for shape, length in (((32, 32), 1.0), ((32, 32), 2.5), ((12, 12, 12), 1.5)):
            labels = blobs(shape, 10 + seed, length)
            found = effectivity_of_flow(labels if seed % 2 else np.roll(labels, 3, 0) | labels, periodic)
            assert ((found > 0.5) & (found < 2)).all(), (shape, length, seed, found)


def test_an_extrapolated_permeability_is_near_that_of_finer_voxels() -> None:
    labels = blobs((20, 20), 3, 1.5)
    fine = [np.diag(flow(labels, cut, True)["permeability"][0]) for cut in (2, 4)]
    truth = fine[1] - (fine[0] - fine[1]) * 0.4 / (1 - 0.4)
    found = flow(labels, 1, True, accuracy="extrapolated")
    value, error = (np.diag(values["permeability"][0]) for values in (found, found.errors))
    assert (np.abs(value - truth) <= error).all()
    assert (error < np.diag(flow(labels, 1, True).errors["permeability"][0])).all()
    with pytest.raises(msvae.StudyError, match="is for walls = 'stairs'"):
        msvae.load_solver("permeability", accuracy="extrapolated", walls="smooth")
