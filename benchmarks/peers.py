"""What the peers do for one task of `solvers.py`: functions that return a function to be timed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], np.ndarray]
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
POISSON = 0.3
MUSPECTRE_PYTHON = os.environ.get("MUSPECTRE_PYTHON", str(Path(__file__).parents[1] / ".venv-muspectre/bin/python"))


def unit_strains() -> list[np.ndarray]:
    """Return the six strain tensors (3, 3) of Voigt notation, engineering shear."""
    strains = []
    for i, j in VOIGT:
        strain = np.zeros((3, 3))
        strain[i, j] += 0.5
        strain[j, i] += 0.5
        strains.append(strain)
    return strains


def mugrid(image: np.ndarray, soft: float, tolerance: float) -> Run:
    """Return muGrid's Q1 stiffness operator with its reference-material preconditioner, single precision."""
    import muGrid
    from muGrid.Preconditioners import make_reference_stiffness_preconditioner
    from muGrid.Solvers import conjugate_gradients

    operator = muGrid.IsotropicStiffnessOperator3D([1.0] * 3)
    engine = muGrid.FFTEngine(list(image.shape), ghosts=operator)
    fields = {
        name: engine.real_space_field(name, components=c, dtype=np.float32)
        for name, c in (("lambda", ()), ("mu", ()), ("b", (3,)), ("x", (3,)))
    }
    young = np.where(image == 1, soft, 1.0)
    lame = {"lambda": young * POISSON / ((1 + POISSON) * (1 - 2 * POISSON)), "mu": young / (2 + 2 * POISSON)}
    for name, array in lame.items():
        fields[name].p[...] = array
        engine.communicate_ghosts(fields[name])

    def product(u: Any, force: Any) -> None:
        engine.communicate_ghosts(u)
        operator.apply(u, fields["lambda"], fields["mu"], force)

    def run() -> np.ndarray:
        precondition = make_reference_stiffness_preconditioner(
            engine, dtype=np.float32, element=muGrid.FEMElement.q1, grid_spacing=[1.0] * 3,
            lambda_ref=float(lame["lambda"].mean()), mu_ref=float(lame["mu"].mean()),
        )  # fmt: skip
        columns = []
        bare = {name: fields[name]._cpp for name in fields}
        for macro in (strain.ravel().tolist() for strain in unit_strains()):
            operator.apply_macro_rhs(bare["lambda"], bare["mu"], macro, bare["b"])
            fields["b"].p[...] *= -1
            fields["x"].p[...] = 0
            if np.abs(fields["b"].p).max() > 0:
                conjugate_gradients(
                    muGrid.Communicator(), engine.real_space_collection, fields["b"], fields["x"],
                    hessp=product, prec=precondition, rtol=tolerance, maxiter=1000,
                )  # fmt: skip
            engine.communicate_ghosts(fields["x"])
            stress = np.array(operator.average_stress(bare["x"], bare["lambda"], bare["mu"], macro)).reshape(3, 3)
            columns.append([stress[i, j] for i, j in VOIGT])
        return np.array(columns).T / image.size

    return run


class MuSpectre:
    """muSpectre in a process of its own (see muspectre_peer.py), which waits while others run."""

    def __init__(self, image: np.ndarray, soft: float) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "image.npy"
        np.save(path, image)
        script = Path(__file__).with_name("muspectre_peer.py")
        self.process = subprocess.Popen([MUSPECTRE_PYTHON, script, path, str(soft)], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)  # fmt: skip

    def __call__(self, tolerance: float) -> Run:
        def run() -> np.ndarray:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(f"{tolerance}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
            assert answer, "muSpectre's process has ended"
            return np.array(json.loads(answer)["stiffness"])

        return run

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def scikit_fem(image: np.ndarray, soft: float, tolerance: float) -> Run:
    """Return trilinear elements assembled by scikit-fem, periodic.

    Solved by conjugate gradients with pyamg's algebraic multigrid, which is told the rigid translations.
    """
    import pyamg
    import skfem
    from scipy import sparse
    from skfem.helpers import ddot, sym_grad, trace

    n = image.shape[0]
    axis = np.linspace(0, n, n + 1)

    def run() -> np.ndarray:
        mesh = skfem.MeshHex.init_tensor(axis, axis, axis)
        basis = skfem.Basis(mesh, skfem.ElementVector(skfem.ElementHex1()), intorder=2)
        centre = mesh.p[:, mesh.t].mean(axis=1).astype(int)
        young = np.where(image[tuple(centre)] == 1, soft, 1.0)[:, None] * np.ones(basis.dx.shape)
        lam, mu = young * POISSON / ((1 + POISSON) * (1 - 2 * POISSON)), young / (2 + 2 * POISSON)

        @skfem.BilinearForm
        def energy(u: Any, v: Any, w: Any) -> Any:
            a, b = sym_grad(u), sym_grad(v)
            return w.lam * trace(a) * trace(b) + 2 * w.mu * ddot(a, b)

        whole = energy.assemble(basis, lam=lam, mu=mu)
        corner = np.mod(np.round(mesh.p).astype(int), n)
        node = np.ravel_multi_index(tuple(corner), (n, n, n))
        images = np.zeros(basis.N, dtype=int)
        for c in range(3):
            images[basis.nodal_dofs[c]] = 3 * node + c
        fold = sparse.csr_array((np.ones(basis.N), (np.arange(basis.N), images)), shape=(basis.N, 3 * n**3))
        matrix = sparse.csr_array(fold.T @ whole @ fold)
        rigid = np.tile(np.eye(3), (n**3, 1))
        levels = pyamg.smoothed_aggregation_solver(sparse.bsr_array(matrix, blocksize=(3, 3)), B=rigid, max_coarse=500)
        fields = []
        for strain in unit_strains():
            affine = np.zeros(basis.N)
            for c in range(3):
                affine[basis.nodal_dofs[c]] = strain[c] @ mesh.p
            fluctuation = levels.solve(-(fold.T @ (whole @ affine)), tol=tolerance, accel="cg", maxiter=500)
            fields.append(affine + fold @ fluctuation)
        solved = np.stack(fields)
        return solved @ (whole @ solved.T) / n**3

    return run


def torch_fem(image: np.ndarray, soft: float, tolerance: float) -> Run:
    """Return torch-fem's trilinear elements with the boundary moved affinely, the nearest problem that it has."""
    import torch
    from torchfem import Solid
    from torchfem.materials import IsotropicElasticity3D
    from torchfem.mesh import cube_hexa

    n = image.shape[0]

    def run() -> np.ndarray:
        torch.set_default_dtype(torch.float64)
        try:
            return homogenized(*cube_hexa(n + 1, n + 1, n + 1, float(n), float(n), float(n)))
        finally:
            torch.set_default_dtype(torch.float32)

    def homogenized(nodes: Any, elements: Any) -> np.ndarray:
        centre = nodes[elements].mean(dim=1).long().numpy()
        young = torch.as_tensor(np.where(image[tuple(centre.T)] == 1, soft, 1.0))
        law = IsotropicElasticity3D(E=young, nu=torch.full_like(young, POISSON))
        outside = ((nodes == 0) | (nodes == n)).any(dim=1)
        columns = []
        for strain in unit_strains():
            model = Solid(nodes, elements, law)
            model.constraints[outside] = True
            model.displacements[outside] = (nodes @ torch.as_tensor(strain))[outside]
            _, _, stress, _, _ = model.solve(method="cg", preconditioner="amg", rtol=tolerance)
            mean = stress[-1] if stress.ndim == 4 else stress
            columns.append([float(mean[:, i, j].mean()) for i, j in VOIGT])
        return np.array(columns).T

    return run


def taufactor(image: np.ndarray, name: str) -> Run:
    """Return one of taufactor's solvers along each axis: a finite-volume scheme, so values differ by its error."""
    import taufactor

    def along(axis: int) -> float:
        solver = getattr(taufactor, name)(np.moveaxis(image, axis, 0) == 0, device="cpu")
        solver.solve(verbose=False)
        return float(np.ravel(solver.D_eff)[0])

    return lambda: np.array([along(axis) for axis in range(3)])


def scikit_fem_hyperelastic(grey: np.ndarray, displacements: tuple[float, ...]) -> Run:
    """Return the uniaxial extension of Mechanical MNIST with scikit-fem: biquadratic, one element a pixel.

    The energy at each displacement (of the top edge, over the height); Newton's method from the state before.
    """
    import skfem
    from scipy.sparse.linalg import splu

    ny, nx = grey.shape
    modulus = 1 + 99 * grey[::-1]
    lam_e, mu_e = modulus * POISSON / ((1 + POISSON) * (1 - 2 * POISSON)), modulus / (2 + 2 * POISSON)

    def run() -> np.ndarray:
        mesh = skfem.MeshQuad.init_tensor(np.linspace(0, nx, nx + 1), np.linspace(0, ny, ny + 1))
        basis = skfem.Basis(mesh, skfem.ElementVector(skfem.ElementQuad2()), intorder=4)
        x, y = mesh.p[:, mesh.t].mean(axis=1).astype(int)
        lam, mu = (p[y, x][:, None] * np.ones(basis.dx.shape) for p in (lam_e, mu_e))
        bottom = basis.get_dofs(lambda p: p[1] == 0).all()
        top, lift = basis.get_dofs(lambda p: p[1] == ny).all(), basis.get_dofs(lambda p: p[1] == ny).all("u^2")
        fixed = np.concatenate([bottom, top])
        free = np.setdiff1d(np.arange(basis.N), fixed)

        def kinematics(gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            f = gradient + np.eye(2)[:, :, None, None]
            j = f[0, 0] * f[1, 1] - f[0, 1] * f[1, 0]
            return f, j, np.array([[f[1, 1], -f[1, 0]], [-f[0, 1], f[0, 0]]]) / j

        @skfem.LinearForm
        def residual(v: Any, w: Any) -> Any:
            f, j, h = kinematics(w["u"].grad)
            stress = w.mu * (f - h) + w.lam / 2 * (j * j - 1) * h
            return np.einsum("ij...,ij...", stress, v.grad)

        @skfem.BilinearForm
        def tangent(du: Any, v: Any, w: Any) -> Any:
            _, j, h = kinematics(w["u"].grad)
            a, b = du.grad, v.grad
            mixed = np.einsum("il...,kj...,kl...,ij...", h, h, a, b)
            volume = np.einsum("ij...,ij...", h, a) * np.einsum("ij...,ij...", h, b)
            bend = (w.mu - w.lam / 2 * (j * j - 1)) * mixed + w.lam * j * j * volume
            return w.mu * np.einsum("ij...,ij...", a, b) + bend

        @skfem.Functional
        def energy(w: Any) -> Any:
            f, j, _ = kinematics(w["u"].grad)
            square = np.einsum("ij...,ij...", f, f) - 2
            return w.mu / 2 * (square - 2 * np.log(j)) + w.lam / 2 * ((j * j - 1) / 2 - np.log(j))

        def response(u: np.ndarray) -> tuple[np.ndarray, Any]:
            given = {"u": basis.interpolate(u), "lam": lam, "mu": mu}
            return residual.assemble(basis, **given), tangent.assemble(basis, **given).tocsc()

        u, energies, before = basis.zeros(), [], 0.0
        for goal in displacements:
            for part in np.linspace(before, goal, 2 + int((goal - before) / 0.05))[1:]:
                jump = basis.zeros()
                jump[lift] = part * ny - u[lift]
                force, matrix = response(u)  # the linear response to the moved edge is where Newton's method starts
                u += jump
                u[free] -= splu(matrix[free][:, free]).solve((force + matrix @ jump)[free])
                for _ in range(20):
                    force, matrix = response(u)
                    if np.linalg.norm(force[free]) < 1e-6 * np.linalg.norm(force):
                        break
                    u[free] -= splu(matrix[free][:, free]).solve(force[free])
            before = goal
            energies.append(energy.assemble(basis, u=basis.interpolate(u), lam=lam, mu=mu))
        return np.array(energies)

    return run
