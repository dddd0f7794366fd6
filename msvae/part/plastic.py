"""Small-strain J2 plasticity of a part whose hardening varies from element to element.

Radial return with the consistent tangent (Simo and Taylor 1985, Comput. Methods Appl. Mech. Eng. 48, 101); the
dilatation is constant in each element (mean dilatation; Nagtegaal, Parks and Rice 1974, ibid. 4, 153), which prevents
locking. The yield stress of every element is tabulated over the accumulated plastic strain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from msvae.errors import DataError
from msvae.part.elastic import PAIRS, Elastic, Support, not_among, solved, voigt
from msvae.part.meshes import element_means, save_mesh
from msvae.structures import Array

__all__ = ["Hardening", "Plastic", "Step"]

NEWTON, HALVINGS, TOLERANCE = 20, 6, 1e-8
PLANE = {2: [0, 1, 5], 3: [0, 1, 2, 3, 4, 5]}  # places of the Voigt components among 11 22 33 23 13 12
NORMAL = np.array([1.0, 1, 1, 0, 0, 0])
SHEAR = np.array([1.0, 1, 1, 0.5, 0.5, 0.5])  # from engineering shear strains to tensor components
TWICE = np.array([1.0, 1, 1, 2, 2, 2])  # weight of the components in a norm of stresses


@dataclass(frozen=True, eq=False)
class Hardening:
    """The elastic-plastic material of elements (e).

    bulk, shear: moduli (e,) in Pa. strains: increasing accumulated plastic strains (e, k), the first 0.
    stresses: yield stresses (e, k) at these strains in Pa; linear between them, and extrapolated linearly beyond the
    last.
    """

    bulk: Array
    shear: Array
    strains: Array
    stresses: Array

    @classmethod
    def of_curves(cls, strain: Array, stress: Array) -> Hardening:
        """Fit the material to strains and stresses (e, steps, v), Voigt order, of uniaxial tests along axis 0.

        The first step is elastic. Curves are made monotonic where the stress or the plastic strain decreases.
        """
        strain, stress = np.asarray(strain, dtype=np.float64), np.asarray(stress, dtype=np.float64)
        axial, force = strain[..., 0], stress[..., 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            modulus = force[:, 0] / axial[:, 0]
            transverse = -strain[:, 0, 1] / axial[:, 0]
            plastic = np.maximum.accumulate(axial - force / modulus[:, None], axis=1)
        if not (np.isfinite(modulus).all() and (modulus > 0).all()):
            raise DataError("a stress-strain curve has no elastic first step: begin it below the yield stress")
        if strain.shape[2] == 3:  # plane strain: E / (1 - nu^2) and nu / (1 - nu)
            transverse = transverse / (1 + transverse)
            modulus = modulus * (1 - transverse**2)
        transverse = np.clip(transverse, -0.9, 0.49)
        steps = 1e-9 * np.arange(plastic.shape[1])
        strains = np.maximum(plastic - plastic[:, :1], 0.0) + steps
        stresses = np.maximum.accumulate(force, axis=1)
        factor = np.sqrt(3) / 2 if strain.shape[2] == 3 else 1.0  # of the yield stress against that of plane strain
        return cls(modulus / 3 / (1 - 2 * transverse), modulus / 2 / (1 + transverse), strains / factor,
                   stresses * factor)  # fmt: skip

    def yield_stress(self, accumulated: Array) -> tuple[Array, Array]:
        """Return yield stress and its slope (e, q) at accumulated plastic strains (e, q)."""
        k = self.strains.shape[1]
        if k == 1:
            return np.broadcast_to(self.stresses, accumulated.shape), np.zeros_like(accumulated)
        place = (accumulated[..., None] >= self.strains[:, None, 1:-1]).sum(axis=-1)
        left, right = (np.take_along_axis(self.strains, place + side, axis=1) for side in (0, 1))
        low, high = (np.take_along_axis(self.stresses, place + side, axis=1) for side in (0, 1))
        slope = (high - low) / (right - left)
        return low + slope * (accumulated - left), slope


@dataclass(frozen=True, eq=False)
class Step:
    """A part in equilibrium. load: share of the supports' displacements. displacement: m. reactions: (d,) N by support.

    strain, stress: element means (e, v), 1 and Pa. plastic_strain: accumulated, (e,). work: total so far, J.
    """

    part: Plastic
    load: float
    displacement: Array
    reactions: Mapping[str, Array]
    strain: Array
    stress: Array
    plastic_strain: Array
    work: float

    def save(self, path: Path) -> None:
        """Write displacement (m), strain, stress (Pa) and plastic strain to a file of any format that meshio writes."""
        nodal = self.part.nodal(self.displacement)
        moved = np.pad(nodal, ((0, 0), (0, 3 - nodal.shape[1])))  # viewers want three components
        save_mesh(path, self.part.mesh, {"displacement": moved},
                  {"strain": self.strain, "stress": self.stress, "plastic strain": self.plastic_strain})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Plastic:
    """A part: its mesh, the material of its elements, and its supports by name, with displacements at a load of 1."""

    mesh: Any
    material: Hardening
    supports: Mapping[str, Support]

    def solve(self, loads: Sequence[float]) -> list[Step]:
        """Return the equilibrium at each of the loads; DataError if none is found."""
        forms, held = self._forms, self._held
        steps: list[Step] = []
        state = _State(0.0, np.zeros(forms.size), np.zeros((6, *forms.volumes.shape)), np.zeros(forms.volumes.shape))
        before, work = np.zeros(forms.size), 0.0
        for load in loads:
            for middle in self._reach(state, load, HALVINGS):
                forces = forms.forces(middle.stress)
                work += float((forces + before) @ (middle.u - state.u)) / 2
                state, before = middle, forces
            steps.append(self._step(state, forces, held, work))
        return steps

    @cached_property
    def _linear(self) -> Elastic:
        v = len(PAIRS[self.mesh.dim()])
        return Elastic(self.mesh, np.broadcast_to(np.eye(v), (self.mesh.nelements, v, v)), self.supports)

    @cached_property
    def _forms(self) -> _Forms:
        return _Forms.of(self._linear.basis)

    @cached_property
    def _held(self) -> dict[str, tuple[Array, Array]]:
        return {name: self._linear.held(name, support) for name, support in self.supports.items()}

    def _reach(self, state: _State, load: float, halvings: int) -> list[_State]:
        """Return the states on the way to a load; the step is halved where Newton's method fails."""
        found = self._newton(state, load)
        if found is not None:
            return [found]
        if halvings == 0:
            raise DataError(
                f"the part has no equilibrium between loads of {state.load:g} and {load:g}: take more steps"
            )
        first = self._reach(state, (state.load + load) / 2, halvings - 1)
        return [*first, *self._reach(first[-1], load, halvings - 1)]

    def _newton(self, state: _State, load: float) -> _State | None:
        forms = self._forms
        free = not_among(forms.size, [dofs for dofs, _ in self._held.values()])
        u = state.u.copy()
        jump = np.zeros(forms.size)
        for dofs, values in self._held.values():
            jump[dofs] = load * values - u[dofs]
        for _ in range(NEWTON):
            stress, tangent, plastic, accumulated = self._response(forms.strains(u), state)
            forces = forms.forces(stress)
            scale = max(float(np.linalg.norm(np.delete(forces, free))), 1e-300)
            if not jump.any() and np.linalg.norm(forces[free]) <= TOLERANCE * scale:
                return _State(load, u, plastic, accumulated, stress)
            matrix, change = forms.stiffness(tangent), jump  # the supports' move carries the rest along
            change[free] = solved(matrix[free][:, free].tocsc(), -forces[free] - matrix[free] @ jump)
            if not np.isfinite(change).all():
                return None
            u, jump = u + change, np.zeros(forms.size)
        return None

    def _response(self, strain: Array, state: _State) -> tuple[Array, Array, Array, Array]:
        """Return stress (6, e, q), tangent (6, 6, e, q), plastic strain and its accumulation for strains (v, e, q)."""
        whole = np.zeros((6, *strain.shape[1:]))
        whole[PLANE[self.mesh.dim()]] = strain
        bulk, shear = self.material.bulk[:, None], self.material.shear[:, None]
        elastic = (whole - state.plastic) * SHEAR[:, None, None]
        volume = elastic[:3].sum(axis=0)
        deviator = 2 * shear * (elastic - NORMAL[:, None, None] * volume / 3)
        norm = np.sqrt((TWICE[:, None, None] * deviator**2).sum(axis=0))
        trial = np.sqrt(1.5) * norm
        more, slope = self._return(trial, state.accumulated)
        factor = np.where(trial > 0, 1 - 3 * shear * more / np.maximum(trial, 1e-300), 1.0)
        direction = deviator / np.maximum(norm, 1e-300)
        stress = bulk * volume * NORMAL[:, None, None] + factor * deviator
        plastic = state.plastic + np.sqrt(1.5) * more * direction * TWICE[:, None, None]
        projector = np.diag(SHEAR) - np.outer(NORMAL, NORMAL) / 3
        bent = np.where(more > 0, 6 * shear**2 * (more / np.maximum(trial, 1e-300) - 1 / (3 * shear + slope)), 0.0)
        tangent = (
            np.outer(NORMAL, NORMAL)[..., None, None] * bulk
            + 2 * shear * factor * projector[..., None, None]
            + bent * direction[:, None] * direction[None]
        )
        return stress, tangent, plastic, state.accumulated + more

    def _return(self, trial: Array, accumulated: Array) -> tuple[Array, Array]:
        """Return the plastic strain that returns a trial stress to the yield surface, and the hardening there."""
        shear, more = self.material.shear[:, None], np.zeros_like(trial)
        limit, slope = self.material.yield_stress(accumulated)
        over = trial > limit
        for _ in range(self.material.strains.shape[1] + 2):
            limit, slope = self.material.yield_stress(accumulated + more)
            change = (trial - 3 * shear * more - limit) / (3 * shear + slope)
            more = np.where(over, np.maximum(more + change, 0.0), 0.0)
        return more, slope

    def _step(self, state: _State, forces: Array, held: dict[str, tuple[Array, Array]], work: float) -> Step:
        forms, places = self._forms, PLANE[self.mesh.dim()]
        strain, stress = (element_means(a, forms.volumes).T for a in (forms.strains(state.u), state.stress[places]))
        plastic = element_means(state.accumulated, forms.volumes)
        return Step(self, state.load, state.u, self._linear.reactions(forces, held), strain, stress, plastic, work)

    def nodal(self, displacement: Array) -> Array:
        """Return the displacement (n, d) of the mesh's nodes, m."""
        return np.asarray(displacement[self._linear.basis.nodal_dofs].T)


@dataclass(frozen=True, eq=False)
class _State:
    """The state of the material: load, displacement, plastic strain (6, e, q), its accumulation (e, q), stress."""

    load: float
    u: Array
    plastic: Array
    accumulated: Array
    stress: Any = None


@dataclass(frozen=True, eq=False)
class _Forms:
    """Strains of nodal displacements: operator (v, a, e, q), unknowns (a, e) of the elements, volumes (e, q)."""

    operator: Array
    unknowns: Array
    volumes: Array
    size: int

    @classmethod
    def of(cls, basis: Any) -> _Forms:
        d = basis.mesh.dim()
        gradients = [np.asarray(function[0].grad) for function in basis.basis]  # (d, d, e, q), one for each unknown
        shape = (d, d, *basis.dx.shape)
        operator = np.stack([voigt(np.broadcast_to(g, shape), PAIRS[d]) for g in gradients], axis=1)
        volume = operator[:d].sum(axis=0)  # (a, e, q)
        mean = (volume * basis.dx).sum(axis=-1, keepdims=True) / basis.dx.sum(axis=-1, keepdims=True)
        operator[:d] += (mean - volume) / d
        return cls(operator, basis.element_dofs, basis.dx, basis.N)

    def strains(self, u: Array) -> Array:
        return np.asarray(np.einsum("vaeq,ae->veq", self.operator, u[self.unknowns]))

    def forces(self, stress: Array) -> Array:
        local = np.einsum("vaeq,veq,eq->ae", self.operator, stress[self._places], self.volumes)
        return np.bincount(self.unknowns.ravel(), local.ravel(), minlength=self.size)

    def stiffness(self, tangent: Array) -> Any:
        own = tangent[np.ix_(self._places, self._places)] * self.volumes
        turned = np.einsum("vweq,wbeq->vbeq", own, self.operator)
        local = np.einsum("vaeq,vbeq->abe", self.operator, turned)
        rows = np.broadcast_to(self.unknowns[:, None], local.shape)
        columns = np.broadcast_to(self.unknowns[None], local.shape)
        return sparse.csr_matrix((local.ravel(), (rows.ravel(), columns.ravel())), shape=(self.size, self.size))

    @property
    def _places(self) -> list[int]:
        """Indices of the operator's components among all six."""
        return PLANE[2 if len(self.operator) == 3 else 3]
