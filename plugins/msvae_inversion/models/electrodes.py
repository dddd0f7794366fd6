"""Electrical impedance tomography of the unit square by finite elements: how current enters, and what is measured.

Three models (Cheng, Isaacson, Newell and Gisser 1989, IEEE Trans. Biomed. Eng. 36, 918; Somersalo, Cheney and Isaacson
1992, SIAM J. Appl. Math. 52, 1023): currents prescribed along the whole boundary, at points, or through electrodes of
finite width with a contact impedance, whose potentials are further unknowns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from msvae import Array

__all__ = ["System", "complete", "continuum", "corners", "points"]

INWARDS = 1e-9  # by which points on the boundary are moved, so that an element holds them


@dataclass(frozen=True)
class System:
    """Discrete equations (sum_e sigma_e K_e + fixed) u = loads, and measured values observe u.

    local: K_e (e, b, b) for conductivity 1, of unknowns (e, b). fixed: (N, N). loads: (N, j). observe: (q, N), whose
    rows sum to 0, for potentials are known up to a constant.
    """

    local: Array
    unknowns: Array
    fixed: Any
    loads: Array
    observe: Array


def corners(distance: Array) -> Array:
    """Return the points (2, m) at distances (m,), from 0 to 4, along the boundary of the unit square from (0, 0)."""
    side, along = np.divmod(distance % 4.0, 1.0)
    zero, one = np.zeros_like(along), np.ones_like(along)
    x = np.choose(side.astype(int), [along, one, 1 - along, zero])
    y = np.choose(side.astype(int), [zero, along, one, 1 - along])
    return np.stack([x, y])


def _distance(x: Array, y: Array) -> Array:
    """Return where points on the boundary are along it, the inverse of `corners`."""
    sides = np.argmin(np.stack([y, 1 - x, 1 - y, x]), axis=0)
    return np.asarray(np.choose(sides, [x, 1 + y, 3 - x, 4 - y]))


def _stiffness(mesh: Any, element: Any) -> tuple[Any, Array]:
    """Return a basis and the matrices (e, b, b) of its elements for conductivity 1."""
    from skfem import Basis, BilinearForm
    from skfem.helpers import dot, grad

    basis = Basis(mesh, element)
    form = BilinearForm(lambda u, v, w: dot(grad(u), grad(v)))
    local = form.coo_data(basis).tolocal()
    return basis, np.asarray(local)


def continuum(mesh: Any, element: Any, *, currents: int, sensors: int) -> System:
    """Return the system of trigonometric currents along the boundary, and potentials at points along it.

    Pattern j is cos or sin of 2 pi k s / 4 with k = 1, 1, 2, 2, ... and the distance s along the boundary.
    """
    from skfem import FacetBasis, LinearForm

    basis, local = _stiffness(mesh, element)
    facets = FacetBasis(mesh, element, intorder=8)

    def pattern(j: int) -> Array:
        def density(v: Any, w: Any) -> Any:
            phase = 0.5 * np.pi * (j // 2 + 1) * _distance(w.x[0], w.x[1])
            return (np.sin(phase) if j % 2 else np.cos(phase)) * v

        load = np.asarray(LinearForm(density).assemble(facets))
        return load - _balance(facets, load)

    loads = np.stack([pattern(j) for j in range(currents)], axis=1)
    where = corners(4.0 * (np.arange(sensors) + 0.5) / sensors)
    probes = basis.probes(0.5 + (1 - INWARDS) * (where - 0.5)).toarray()
    return System(local, basis.element_dofs.T, sparse.csc_matrix((basis.N, basis.N)), loads, _centred(probes))


def _balance(facets: Any, load: Array) -> Array:
    """Return what to take from a load so that as much current leaves as enters, in spite of quadrature."""
    from skfem import LinearForm

    ones = np.asarray(LinearForm(lambda v, w: 1.0 * v).assemble(facets))
    return np.asarray(ones * load.sum() / ones.sum())


def points(mesh: Any, element: Any, nodes: Array, *, currents: int) -> System:
    """Return the system of unit currents from each electrode to the next, at the unknowns (l,) of vertices `nodes`."""
    basis, local = _stiffness(mesh, element)
    places = basis.nodal_dofs[0, nodes]
    loads, observe = _at(places, basis.N, currents)
    return System(local, basis.element_dofs.T, sparse.csc_matrix((basis.N, basis.N)), loads, observe)


def complete(mesh: Any, element: Any, electrodes: list[Array], *, impedance: float, currents: int) -> System:
    """Return the system of unit currents from each electrode to the next. electrodes: the facets of each.

    On electrode l: u + z sigma du/dn = U_l, and the integral of sigma du/dn is its current. impedance: z.
    """
    from skfem import BilinearForm, FacetBasis, LinearForm

    basis, local = _stiffness(mesh, element)
    count = len(electrodes)
    inside, coupled = sparse.csr_matrix((basis.N, basis.N)), np.zeros((basis.N, count))
    for k, own in enumerate(electrodes):
        facets = FacetBasis(mesh, element, facets=own, intorder=4)
        inside = inside + BilinearForm(lambda u, v, w: u * v).assemble(facets) / impedance
        coupled[:, k] = -np.asarray(LinearForm(lambda v, w: 1.0 * v).assemble(facets)) / impedance
    whole = sparse.bmat([[inside, coupled], [coupled.T, sparse.diags(-coupled.sum(axis=0))]])
    loads, observe = _at(basis.N + np.arange(count), basis.N + count, currents)
    return System(local, basis.element_dofs.T, whole.tocsc(), loads, observe)


def facets_of(mesh: Any, sensors: int, cover: float) -> list[Array]:
    """Return the facets of each of several equal electrodes, evenly spaced along the boundary of the unit square."""
    facets = mesh.boundary_facets()
    middle = mesh.p[:, mesh.facets[:, facets]].mean(axis=1)
    place = _distance(*middle) * sensors / 4.0
    return [facets[(np.floor(place) == k) & (np.abs(place - k - 0.5) <= cover / 2 + 1e-9)] for k in range(sensors)]


def _at(places: Array, size: int, currents: int) -> tuple[Array, Array]:
    """Return unit currents (size, j) from each electrode to the next, and their potentials' rows (q, size).

    places: (q,) the unknown of each electrode.
    """
    loads, observe = np.zeros((size, currents)), np.zeros((len(places), size))
    for j in range(currents):
        loads[places[j % len(places)], j] += 1.0
        loads[places[(j + 1) % len(places)], j] -= 1.0
    observe[np.arange(len(places)), places] = 1.0
    return loads, _centred(observe)


def _centred(observe: Array) -> Array:
    return np.asarray(observe - observe.mean(axis=0))
