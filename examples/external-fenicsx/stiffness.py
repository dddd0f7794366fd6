"""Stiffness of a periodic cell of voxels by FEniCSx, on any number of MPI ranks.

    mpiexec -n 2 python3 stiffness.py IMAGE.npy '{"lengths": ..., "phases": ...}'

The image has the phases; moduli (Pa) and Poisson's ratios of the phases and the lengths of the cell (m) come as JSON.
The displacement is E x plus a periodic field: P maps values on periodic nodes to all nodes, so that the problem is
P^T K P u = -P^T K E x, and the stiffness is C_ab = (E_a x + P u_a)^T K (E_b x + P u_b) / V. Written for dolfinx 0.5.
"""

import json
import sys

import numpy as np
import ufl
from dolfinx import fem, mesh
from mpi4py import MPI
from petsc4py import PETSc

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def stiffness_matrix(space, labels, phases, lengths):
    """Return the assembled matrix of linear elasticity, with the moduli of each voxel's phase."""
    domain, shape = space.mesh, np.array(labels.shape)
    constants = fem.FunctionSpace(domain, ("DG", 0))
    places = np.floor(constants.tabulate_dof_coordinates() / lengths * shape).astype(int)
    phase = labels[tuple(np.clip(places, 0, shape - 1).T)]
    young, nu = np.array(phases["youngs_modulus"])[phase], np.array(phases["poissons_ratio"])[phase]
    lam, mu = fem.Function(constants), fem.Function(constants)
    lam.x.array[:] = young * nu / ((1 + nu) * (1 - 2 * nu))
    mu.x.array[:] = young / (2 * (1 + nu))
    u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
    strain, test = ufl.sym(ufl.grad(u)), ufl.sym(ufl.grad(v))
    stress = lam * ufl.tr(strain) * ufl.Identity(3) + 2 * mu * strain
    matrix = fem.petsc.assemble_matrix(fem.form(ufl.inner(stress, test) * ufl.dx))
    matrix.assemble()
    return matrix


def periodic(space, shape, lengths):
    """Return P, whose columns are the directions of the periodic nodes, in order."""
    owned = space.dofmap.index_map.size_local
    points = space.tabulate_dof_coordinates()[:owned]
    nodes = np.ravel_multi_index(tuple((np.rint(points / lengths * shape).astype(int) % shape).T), tuple(shape))
    found = PETSc.Mat().createAIJ(((3 * owned, None), (None, 3 * int(np.prod(shape)))), nnz=1, comm=space.mesh.comm)
    first = found.getOwnershipRange()[0]
    for k, node in enumerate(nodes):
        for j in range(3):
            found.setValue(first + 3 * k + j, 3 * node + j, 1.0)
    found.assemble()
    return found


def solver(reduced):
    """Return a solver of the periodic problem, which leaves rigid motions alone."""
    vectors = [reduced.createVecRight() for _ in range(3)]
    for j, vector in enumerate(vectors):
        first, last = vector.getOwnershipRange()
        vector.array[:] = np.arange(first, last) % 3 == j
        vector.normalize()
    reduced.setNullSpace(PETSc.NullSpace().create(vectors=vectors))
    ksp = PETSc.KSP().create(reduced.comm)
    ksp.setOperators(reduced)
    ksp.setType("cg")
    ksp.getPC().setType("jacobi")
    ksp.setTolerances(rtol=1e-10, max_it=10000)
    return ksp


def main():
    labels, given = np.load(sys.argv[1]), json.loads(sys.argv[2])
    lengths = np.array(given["lengths"])
    domain = mesh.create_box(
        MPI.COMM_WORLD, [np.zeros(3), lengths], list(labels.shape), cell_type=mesh.CellType.hexahedron
    )
    space = fem.VectorFunctionSpace(domain, ("CG", 1))
    matrix = stiffness_matrix(space, labels, given["phases"], lengths)
    prolongation = periodic(space, np.array(labels.shape), lengths)
    reduced = matrix.ptap(prolongation)
    ksp, fields = solver(reduced), []
    owned = space.dofmap.index_map.size_local
    for a, b in VOIGT:
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5
        strain[b, a] += 0.5
        whole = matrix.createVecRight()
        whole.array[:] = (space.tabulate_dof_coordinates()[:owned] @ strain).ravel()
        force, left, change = matrix.createVecLeft(), reduced.createVecRight(), reduced.createVecRight()
        matrix.mult(whole, force)
        prolongation.multTranspose(-force, left)
        ksp.solve(left, change)
        if ksp.getConvergedReason() < 0:
            raise SystemExit(f"the solver of case {a}{b} did not converge")
        prolongation.multAdd(change, whole, whole)
        matrix.mult(whole, force)
        fields.append((whole, force.copy()))
    found = [[u.dot(f) / np.prod(lengths) for _, f in fields] for u, _ in fields]
    if domain.comm.rank == 0:
        with open("stiffness.json", "w") as file:
            json.dump({"ranks": domain.comm.size, "stiffness": found}, file)


main()
