"""Effective properties against exact solutions, bounds, and the two implementations against each other."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import msvae
from msvae import DataError, Structures

K = (2.0, 30.0)
E = ((70e9, 0.33), (5e9, 0.2))


def conductivity(*values: float, **settings: Any) -> msvae.Solver:
    return msvae.load_solver("conductivity", phases=[{"conductivity": v} for v in values], **settings)


def elasticity(*values: tuple[float, float], **settings: Any) -> msvae.Solver:
    phases = [{"youngs_modulus": e, "poissons_ratio": nu} for e, nu in values]
    return msvae.load_solver("elasticity", phases=phases, **settings)


def laminate(shape: tuple[int, ...], axis: int, fraction: float) -> Structures:
    labels = np.zeros(shape, dtype=int)
    index: list[Any] = [slice(None)] * len(shape)
    index[axis] = slice(0, round(fraction * shape[axis]))
    labels[tuple(index)] = 1
    return Structures.from_labels(labels[None], 1e-6)


def random_structures(n: int, shape: tuple[int, ...], seed: int, smooth: float = 1.5) -> Structures:
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.random(shape), smooth, mode="wrap") for _ in range(n)]
    labels = [f > np.quantile(f, rng.uniform(0.2, 0.8)) for f in fields]
    return Structures.from_labels(np.stack(labels), 1e-6, phases=2)


def hooke(e: float, nu: float) -> np.ndarray:
    lam, mu = e * nu / ((1 + nu) * (1 - 2 * nu)), e / (2 * (1 + nu))
    c = np.zeros((6, 6))
    c[:3, :3] = lam
    c[range(6), range(6)] += [2 * mu] * 3 + [mu] * 3
    return c


def laminate_stiffness(c0: np.ndarray, c1: np.ndarray, fraction: float, axis: int) -> np.ndarray:
    """Return the exact stiffness of a laminate: tractions across and strains along the layers are uniform.

    Milton 2002, The Theory of Composites, section 9.2, in mixed form.
    """
    normal = {0: [0, 5, 4], 1: [1, 5, 3], 2: [2, 4, 3]}[axis]
    plane = [k for k in range(6) if k not in normal]
    f = np.array([1 - fraction, fraction])
    cs = np.stack([c0, c1])
    nn, nt = cs[:, normal][:, :, normal], cs[:, normal][:, :, plane]
    tn, tt = cs[:, plane][:, :, normal], cs[:, plane][:, :, plane]
    inverse = np.linalg.inv(nn)
    mean = lambda a: np.tensordot(f, a, axes=1)  # noqa: E731
    enn = np.linalg.inv(mean(inverse))
    ent = enn @ mean(inverse @ nt)
    ett = mean(tt - tn @ inverse @ nt) + mean(tn @ inverse) @ ent
    exact = np.zeros((6, 6))
    exact[np.ix_(normal, normal)], exact[np.ix_(normal, plane)] = enn, ent
    exact[np.ix_(plane, normal)], exact[np.ix_(plane, plane)] = ent.T, ett
    return exact


@pytest.mark.parametrize("shape", [(12, 7), (9, 5, 6)])
@pytest.mark.parametrize("axis", [0, 1])
def test_conductivity_of_a_laminate_is_harmonic_across_and_arithmetic_along(shape: tuple[int, ...], axis: int) -> None:
    structures = laminate(shape, axis, 1 / 3)
    fraction = structures.fractions[0, 1]
    exact = np.full(len(shape), (1 - fraction) * K[0] + fraction * K[1])
    exact[axis] = 1 / ((1 - fraction) / K[0] + fraction / K[1])
    found = conductivity(*K).evaluate(structures)["conductivity"][0]
    np.testing.assert_allclose(found, np.diag(exact), rtol=1e-6, atol=1e-6 * K[0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_stiffness_of_a_laminate_is_the_exact_one(axis: int) -> None:
    structures = laminate((8, 6, 10), axis, 0.5)
    fraction = structures.fractions[0, 1]
    exact = laminate_stiffness(hooke(*E[0]), hooke(*E[1]), fraction, axis)
    found = elasticity(*E).evaluate(structures)["stiffness"][0]
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-6 * exact.max())


def anisotropic(seed: int, size: int = 6) -> np.ndarray:
    """Return a random symmetric, positive definite stiffness without any symmetry of a crystal."""
    root = np.random.default_rng(seed).standard_normal((size, size))
    return root @ root.T + size * np.eye(size)


@pytest.mark.parametrize("without_compiler", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_stiffness_of_a_laminate_of_anisotropic_phases_is_the_exact_one(
    axis: int, without_compiler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msvae_voxelfe.linear import homogenization

    if without_compiler:
        monkeypatch.setattr(homogenization, "kernels", lambda precision: None)
    structures = laminate((4, 6, 5), axis, 0.4)
    phases = [{"stiffness": anisotropic(k).tolist()} for k in range(2)]
    found = msvae.load_solver("elasticity", phases=phases, tolerance=1e-7).evaluate(structures)["stiffness"][0]
    exact = laminate_stiffness(anisotropic(0), anisotropic(1), structures.fractions[0, 1], axis)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-6 * exact.max())


@pytest.mark.parametrize("shape", [(6, 7), (5, 4, 6)])
def test_an_isotropic_phase_given_as_a_matrix_is_the_same_phase(shape: tuple[int, ...]) -> None:
    structures = random_structures(1, shape, seed=6, smooth=1.0)
    rows = [0, 1, 5] if len(shape) == 2 else list(range(6))
    matrix = hooke(*E[1])[np.ix_(rows, rows)].tolist()
    phases = [{"youngs_modulus": E[0][0], "poissons_ratio": E[0][1]}, {"stiffness": matrix}]
    mixed = msvae.load_solver("elasticity", phases=phases, tolerance=1e-7)
    plain = elasticity(*E, tolerance=1e-7).evaluate(structures)["stiffness"][0]
    np.testing.assert_allclose(mixed.evaluate(structures)["stiffness"][0], plain, rtol=1e-6, atol=1e-7 * plain.max())
    flux = mixed.fields(structures)["stress 0"].mean(axis=tuple(range(len(shape))))
    np.testing.assert_allclose(flux, plain[0], rtol=1e-5, atol=1e-6 * plain.max())


def test_a_stiffness_that_cannot_be_one_is_refused() -> None:
    faults: list[tuple[dict[str, Any], str]] = [
        ({"stiffness": np.eye(4).tolist()}, "6 x 6"),
        ({"stiffness": (-np.eye(6)).tolist()}, "positive definite"),
        ({"stiffness": np.triu(np.ones((6, 6)) + np.eye(6)).tolist()}, "symmetric"),
        ({"stiffness": np.eye(6).tolist(), "youngs_modulus": 1.0}, "not both"),
    ]
    for phase, says in faults:
        with pytest.raises(msvae.StudyError, match=says):
            msvae.load_solver("elasticity", phases=[phase])
    flat = msvae.load_solver("elasticity", phases=[{"stiffness": np.eye(6).tolist()}])
    with pytest.raises(DataError, match="3 x 3"):
        flat.evaluate(Structures.from_labels(np.zeros((1, 3, 3), dtype=int)))


def test_plane_strain_in_2d_is_the_3d_solution_of_a_prism() -> None:
    flat = random_structures(1, (9, 8), seed=0)
    prism = Structures.from_labels(np.repeat(flat.labels[:, :, :, None], 3, axis=3), 1e-6)
    two = elasticity(*E).evaluate(flat)["stiffness"][0]
    three = elasticity(*E).evaluate(prism)["stiffness"][0]
    rows = [0, 1, 5]
    np.testing.assert_allclose(two, three[np.ix_(rows, rows)], rtol=1e-5, atol=1e-6 * two.max())


def test_a_checkerboard_tends_to_the_geometric_mean_under_refinement() -> None:
    """Dykhne 1971, Sov. Phys. JETP 32, 63: k = sqrt(k1 k2)."""
    errors = []
    for n in (8, 32, 128):
        labels = (np.add.outer(np.arange(n) * 2 // n, np.arange(n) * 2 // n) % 2)[None]
        found = conductivity(1.0, 4.0).evaluate(Structures.from_labels(labels))["conductivity"][0]
        errors.append(abs(found[0, 0] / 2 - 1))
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.005


def test_isotropic_mixtures_lie_within_the_hashin_shtrikman_bounds() -> None:
    """Hashin and Shtrikman 1962, J. Appl. Phys. 33, 3125; in 3D, for the mean of the diagonal of 200 structures."""
    structures = random_structures(200, (12, 12, 12), seed=1)
    mean = np.trace(conductivity(*K).evaluate(structures)["conductivity"], axis1=1, axis2=2) / 3
    f = structures.fractions[:, 1]
    low = K[0] + f / (1 / (K[1] - K[0]) + (1 - f) / (3 * K[0]))
    high = K[1] + (1 - f) / (1 / (K[0] - K[1]) + f / (3 * K[1]))
    assert (mean > low).all()
    assert (mean < high).all()


def test_every_structure_lies_within_the_voigt_and_reuss_bounds() -> None:
    structures = random_structures(200, (8, 8, 8), seed=2)
    found = elasticity(*E).evaluate(structures)["stiffness"]
    c0, c1 = hooke(*E[0]), hooke(*E[1])
    for tensor, f in zip(found, structures.fractions[:, 1], strict=True):
        voigt = (1 - f) * c0 + f * c1
        reuss = np.linalg.inv((1 - f) * np.linalg.inv(c0) + f * np.linalg.inv(c1))
        scale = 1e-6 * voigt.max()
        assert np.linalg.eigvalsh(voigt - tensor).min() > -scale
        assert np.linalg.eigvalsh(tensor - reuss).min() > -scale


@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 5)])
def test_a_homogeneous_structure_has_the_properties_of_its_phase(shape: tuple[int, ...]) -> None:
    """The patch test: a uniform gradient is in equilibrium, whatever the grid and the spacing."""
    spacing = [0.3, 1.0, 2.5][: len(shape)]
    structures = Structures.from_labels(np.zeros((1, *shape), dtype=int), spacing)
    found = conductivity(*K).evaluate(structures)
    np.testing.assert_allclose(found["conductivity"][0], K[0] * np.eye(len(shape)), rtol=1e-12, atol=1e-12)
    rows = [0, 1, 5] if len(shape) == 2 else list(range(6))
    stiffness = elasticity(*E).evaluate(structures)["stiffness"][0]
    np.testing.assert_allclose(stiffness, hooke(*E[0])[np.ix_(rows, rows)], rtol=1e-12, atol=1e-3)


def test_smooth_structures_converge_at_second_order() -> None:
    def found(n: int) -> float:
        x = (np.arange(n) + 0.5) / n
        grey = 0.5 + 0.4 * np.sin(2 * np.pi * x)[:, None] * np.cos(2 * np.pi * x)[None]
        tensor = conductivity(1.0, 5.0, tolerance=1e-8).evaluate(Structures.from_values(grey[None]))["conductivity"]
        return float(tensor[0, 0, 0])

    errors = [abs(found(n) - found(256)) for n in (8, 16, 32)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)


def test_a_quarter_turn_of_the_structure_turns_the_tensor() -> None:
    structures = random_structures(1, (10, 10), seed=3)
    turned = Structures.from_labels(np.rot90(structures.labels, axes=(1, 2)), 1e-6)
    k = conductivity(*K, tolerance=1e-8)
    before, after = (k.evaluate(s)["conductivity"][0] for s in (structures, turned))
    rotation = np.array([[0.0, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(after, rotation @ before @ rotation.T, rtol=1e-6, atol=1e-6)


def test_pores_of_zero_stiffness_converge_and_iterations_do_not_grow_with_the_grid() -> None:
    counts = []
    for n in (8, 16, 32):
        labels = np.zeros((n, n, n), dtype=int)
        labels[n // 4 : 3 * n // 4, n // 4 : 3 * n // 4, n // 4 : 3 * n // 4] = 1
        result = elasticity((1.0, 0.3), (0.0, 0.0)).evaluate(Structures.from_labels(labels[None]))
        assert not result.failures  # type: ignore[attr-defined]
        assert 0.5 < result["stiffness"][0, 0, 0] / hooke(1.0, 0.3)[0, 0] < 0.875
        counts.append(int(result.iterations[0]))  # type: ignore[attr-defined]
    assert counts[2] < 2 * counts[0]


@pytest.mark.parametrize("shape", [(7, 6), (5, 6, 4), (1, 6, 6)])
@pytest.mark.parametrize("contrast", [10.0, 0.0])
def test_compiled_kernels_and_torch_give_the_same_tensors(shape: tuple[int, ...], contrast: float) -> None:
    from msvae_voxelfe.backends import in_torch, periodic
    from msvae_voxelfe.elements.trilinear import conduction_element, elastic_element
    from msvae_voxelfe.kernels import compiled

    backends = compiled.kernels("float32"), compiled.kernels("float64")
    if backends[0] is None or backends[1] is None:
        pytest.skip("no C compiler")
    rng = np.random.default_rng(0)
    spacing = tuple(rng.uniform(0.5, 2.0, len(shape)))
    for element, laws in ((conduction_element(spacing), 1), (elastic_element(spacing), 2)):
        material = rng.uniform(0.5, 1.5, (2, laws, *shape)) * np.where(rng.random((2, 1, *shape)) < 0.3, contrast, 1.0)
        fast, *_ = periodic.solve_batch(material, element, 1e-7, 2000, backends=backends)
        plain, *_ = in_torch.solve_batch(material, element, 1e-7, 2000)
        np.testing.assert_allclose(fast, plain, rtol=1e-6, atol=1e-8 * plain.max())


def test_without_a_compiler_the_solvers_still_work() -> None:
    code = (
        "import msvae, numpy as np\n"
        "s = msvae.Structures.from_labels([[[0, 1], [0, 1]]])\n"
        "k = msvae.load_solver('conductivity', phases=[{'conductivity': 1.0}, {'conductivity': 4.0}])\n"
        "assert np.allclose(k.evaluate(s)['conductivity'], [[[2.5, 0], [0, 1.6]]])\n"
        "from msvae_voxelfe.kernels.compiled import kernels\nassert kernels('float32') is None\n"
    )
    environment = {**os.environ, "MSVAE_NO_COMPILER": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("without_compiler", [False, True])
def test_the_estimated_error_of_iterations_bounds_the_true_one(
    without_compiler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msvae_voxelfe.linear import homogenization

    if without_compiler:
        monkeypatch.setattr(homogenization, "kernels", lambda precision: None)
    structures = random_structures(3, (8, 8, 8), seed=5)
    materials = ((1.0, 0.3), (0.02, 0.2))
    exact = elasticity(*materials, tolerance=1e-8).evaluate(structures)["stiffness"]
    for tolerance in (1e-1, 1e-2, 1e-3):
        found = elasticity(*materials, tolerance=tolerance).evaluate(structures)
        true = np.abs(found["stiffness"] - exact)
        estimate = found.iteration_errors["stiffness"]  # type: ignore[attr-defined]
        assert (true <= estimate + 1e-7 * exact.max()).all()
        assert estimate.max() < tolerance**2 * 200 * exact.max()


def test_a_structure_that_cannot_be_solved_fails_alone() -> None:
    labels = np.ones((3, 4, 4), dtype=int)
    labels[0, :2] = labels[2, :, :2] = 0
    result = conductivity(1.0, 0.0).evaluate(Structures.from_labels(labels))
    assert list(result.failures) == [1]  # type: ignore[attr-defined]
    assert np.isnan(result["conductivity"][1]).all()
    assert np.isfinite(result["conductivity"][[0, 2]]).all()
    assert result["conductivity"][0, 1, 1] == pytest.approx(0.5)


def test_what_does_not_converge_is_a_failure_and_never_a_number() -> None:
    result = elasticity((1.0, 0.3), (1e-5, 0.3), iterations=2).evaluate(random_structures(2, (8, 8), seed=4))
    assert set(result.failures) == {0, 1}  # type: ignore[attr-defined]
    assert "not converged" in result.failures[0]  # type: ignore[attr-defined]
    assert np.isnan(result["stiffness"]).all()


@pytest.mark.parametrize("spacing", [1e-9, 2e-6, 3e4])
def test_the_size_of_a_voxel_is_no_matter_of_precision(spacing: float) -> None:
    """Three load cases are two pairs, one of them with a load case of nothing."""
    structures = random_structures(8, (20, 20, 20), seed=4, smooth=2.0)
    scaled = Structures.from_labels(structures.labels, spacing, phases=2)
    found = conductivity(1.0, 1000.0).evaluate(scaled)
    assert not found.failures  # type: ignore[attr-defined]
    here = conductivity(1.0, 1000.0).evaluate(structures)["conductivity"]
    np.testing.assert_allclose(found["conductivity"], here, rtol=1e-6, atol=1e-6 * here.max())


def test_grey_values_interpolate_between_the_two_phases() -> None:
    structures = Structures.from_values(np.full((1, 4, 4), 0.25))
    found = conductivity(1.0, 5.0).evaluate(structures)["conductivity"][0]
    np.testing.assert_allclose(found, 2.0 * np.eye(2), atol=1e-12)
    outside = conductivity(0.0, 1.0).evaluate(Structures.from_values(np.full((1, 4, 4), -0.5)))
    assert outside.failures  # type: ignore[attr-defined]


def test_grey_values_need_the_materials_of_two_phases() -> None:
    with pytest.raises(DataError, match="grey 0 and 1"):
        conductivity(1.0).evaluate(Structures.from_values(np.ones((1, 2, 2))))


@pytest.mark.parametrize("shape", [(31, 17, 34), (1, 31, 32), (37, 3, 41), (6, 5, 49), (64, 12, 9), (2, 1, 3)])
@pytest.mark.parametrize(("components", "threads", "pieces"), [(1, 1, 1), (3, 1, 1), (3, 2, 3)])
def test_the_preconditioner_solves_the_homogeneous_problem(
    shape: tuple[int, int, int], components: int, threads: int, pieces: int
) -> None:
    """Of every length of axis: against Fourier transforms of numpy and the operator's own symbol, inverted by numpy."""
    from msvae_voxelfe.kernels.arguments import Forces
    from msvae_voxelfe.kernels.compiled import kernels
    from msvae_voxelfe.kernels.memory import side_by_side
    from msvae_voxelfe.kernels.plan import Plan
    from msvae_voxelfe.kernels.preconditioner import Preconditioner

    backends = kernels("float32"), kernels("float64")
    if backends[0] is None or backends[1] is None:
        pytest.skip("no compiler")
    rng = np.random.default_rng(0)
    spacing, reference = (0.7, 1.0, 1.6), np.array([1.05, 0.7] if components == 3 else [1.3])
    preconditioner = Preconditioner(shape, spacing, components, reference, backends)
    room, layout = preconditioner.layout()
    q = Forces(side_by_side(((room,), np.float32))[0], layout)
    r = rng.standard_normal((components, *shape, 2)).view(complex)[..., 0]
    space = backends[0].workspace(shape, components, Plan(threads, pieces))
    products = preconditioner.apply(r.astype(np.complex64), q, space)
    identity = np.zeros((components, components, *shape), dtype=complex)
    for c in range(components):  # columns of the operator: its answers to unit impulses
        impulse = np.zeros((components, *shape), dtype=complex)
        impulse[c, 0, 0, 0] = 1.0
        material = reference[:, None, None, None] * np.ones((len(reference), *shape))
        backends[1].product(impulse, identity[c], material, np.array(spacing))
    symbol = np.fft.fftn(identity, axes=(2, 3, 4)).transpose(2, 3, 4, 1, 0)
    symbol[0, 0, 0] = np.eye(components)
    spectrum = np.fft.fftn(r, axes=(1, 2, 3))
    spectrum[:, 0, 0, 0] = 0
    solved = np.linalg.solve(symbol, np.moveaxis(spectrum, 0, -1)[..., None])[..., 0]
    solution = np.fft.ifftn(np.moveaxis(solved, -1, 0), axes=(1, 2, 3))
    planes = np.lib.stride_tricks.as_strided(
        q.memory, (*r.shape[:2], 2 * shape[1] * shape[2]), (4 * q.layout[0], 4 * q.layout[1], 4)
    )
    found = planes.reshape(*r.shape[:2], shape[1], shape[2], 2).astype(float).view(complex)[..., 0]
    np.testing.assert_allclose(found / preconditioner.scale, solution, atol=2e-6 * np.abs(solution).max())
    exact = [(r.real * solution.real).sum(), (r.imag * solution.imag).sum()]
    np.testing.assert_allclose(products, exact, rtol=1e-5)


def test_threads_that_share_a_large_grid_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid in pieces along its first axis: the same to the last bit on 1, 2 and 3 threads, and as in one piece."""
    from msvae_voxelfe.kernels import plan
    from msvae_voxelfe.linear.homogenization import compiled

    if compiled() is None:
        pytest.skip("no compiler")
    labels = np.random.default_rng(0).integers(0, 2, (16, 8, 8)).repeat(4, 0).repeat(5, 1).repeat(5, 2)
    structures = Structures.from_labels(labels[None], 1e-6, phases=2)
    assert plan.plan_of(labels.shape, 3).pieces == 4
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        found.append(elasticity((1.0, 0.3), (0.0, 0.0)).evaluate(structures)["stiffness"])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    monkeypatch.setattr(plan, "LARGE", 10**9)
    whole = elasticity((1.0, 0.3), (0.0, 0.0)).evaluate(structures)["stiffness"]
    np.testing.assert_allclose(found[0], whole, rtol=1e-6, atol=1e-7 * whole.max())


def test_loading_the_kernels_leaves_the_process_its_arithmetic() -> None:
    """A library linked with -ffast-math flushes subnormal numbers to zero everywhere; scipy's trees then overflow."""
    from msvae_voxelfe.linear.homogenization import compiled

    if compiled() is None:
        pytest.skip("no compiler")
    assert (np.array([1e-310]) * 0.5)[0] > 0
