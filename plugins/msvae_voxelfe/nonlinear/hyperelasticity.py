"""Finite strain of a Neo-Hookean image between fixed boundaries: the load cases of Mechanical MNIST."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from msvae import Array, Ascending, DataError, Positive, Properties, Quantity, Solver, Specification, Structures
from msvae_voxelfe.elements.quadratic import Block, solve_constrained
from msvae_voxelfe.elements.quadratic_surplus import QuadraticSurplus
from msvae_voxelfe.linear.elasticity import ElasticPhase
from msvae_voxelfe.materials import neo_hookean
from msvae_voxelfe.materials.phases import interpolate
from msvae_voxelfe.nonlinear.load_steps import Equilibrium, NotConvergedError, Path, State, band_product, follow

PUBLISHED = tuple(d / 28 for d in (0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0))
Edges = tuple[tuple[str, int, float], ...]
CASES: Mapping[str, Edges] = {  # edge, component (0 along x, 1 along y), displacement for a load of 1
    "uniaxial-extension": (("bottom", 0, 0.0), ("bottom", 1, 0.0), ("top", 0, 0.0), ("top", 1, 1.0)),
    "equibiaxial-extension": (("bottom", 1, -0.5), ("top", 1, 0.5), ("left", 0, -0.5), ("right", 0, 0.5)),
    "shear": (("bottom", 0, 0.0), ("bottom", 1, 0.0), ("top", 0, 1.0), ("top", 1, 0.0)),
    "confined-compression": (("bottom", 1, 0.0), ("top", 1, -1.0), ("left", 0, 0.0), ("right", 0, 0.0)),
}


@dataclass(frozen=True)
class Hyperelasticity(Solver):
    """Strain energy, reaction and displacements of a compressible Neo-Hookean image, in plane strain, per thickness.

    Biquadratic elements, one a pixel; the image's first row is at the top. For all displacements of the load case:
    energy (steps,) J/m; reaction of the top edge (steps, 2), along x and y, N/m; displacement at the pixel centres
    (steps, 2, rows, columns), m.
    phases: Young's modulus and Poisson's ratio of each phase, in order; for grey values those at grey 0 and 1.
    case: "uniaxial-extension", "equibiaxial-extension", "shear" or "confined-compression", as in Mechanical MNIST.
    displacements: of the moving edges, over the image's height; ascending.
    tolerance: residual of the free unknowns over all forces.
    """

    name = "hyperelasticity"
    kinds = ("phases", "field")
    dimensions = (2,)
    computes = (
        Quantity("energy", "J/m", ("steps",), spacing_exponent=2),
        Quantity("reaction", "N/m", ("steps", 2), spacing_exponent=1),
        Quantity("displacement", "m", ("steps", 2, "rows", "columns")),
    )

    phases: Annotated[tuple[ElasticPhase, ...], Field(min_length=1)]
    case: Literal["uniaxial-extension", "equibiaxial-extension", "shear", "confined-compression"] = "uniaxial-extension"
    displacements: Annotated[tuple[Positive, ...], Field(min_length=1), Ascending] = PUBLISHED
    tolerance: Positive = 1e-6

    def __post_init__(self) -> None:
        if any(phase.stiffness is not None for phase in self.phases):
            raise ValueError("a Neo-Hookean phase is isotropic: give youngs_modulus and poissons_ratio, no stiffness")
        if min(phase.youngs_modulus for phase in self.phases) <= 0:
            raise ValueError(
                "every phase needs a youngs_modulus above 0 here: between fixed edges a pore has no equilibrium"
            )
        if self.case == "confined-compression" and self.displacements[-1] >= 1:
            raise ValueError(f"displacements are below 1 in compression, found {list(self.displacements)}")

    @property
    def materials(self) -> int:
        return len(self.phases)

    def quantities(self, specification: Specification) -> tuple[Quantity, ...]:
        rows, columns = specification.grid.shape
        sizes = {"steps": len(self.displacements), "rows": rows, "columns": columns}
        return tuple(
            Quantity(q.name, q.unit, tuple(sizes[s] if isinstance(s, str) else s for s in q.shape), q.spacing_exponent)
            for q in self.computes
        )

    def evaluate(self, structures: Structures) -> Properties:
        quantities = self.quantities(structures.specification)
        arrays, left = ({q.name: np.full((len(structures), *q.sizes), np.nan) for q in quantities} for _ in range(2))
        errors = {name: np.full_like(arrays[name], np.nan) for name in ("energy", "reaction")}
        material, failures = interpolate(structures, np.array([phase.lame for phase in self.phases]))
        iterations = np.zeros(len(structures), dtype=np.int64)
        edges = [(edge, component) for edge, component, _ in CASES[self.case]]
        for k in (k for k in range(len(structures)) if k not in failures):
            try:
                image = Image.of(material[k], structures.specification.grid.spacing)
                surplus = QuadraticSurplus.of(image.block, edges)
                for step, state in enumerate(self._states(image)):
                    unit, top = image.unit, image.block.edge("top", 0)
                    arrays["energy"][k, step] = unit * image.energy(state)
                    arrays["reaction"][k, step] = image.reaction(state)
                    arrays["displacement"][k, step] = image.block.centres(state.u)
                    errors["energy"][k, step], errors["reaction"][k, step] = image.errors(state, edges, surplus)
                    left["energy"][k, step] = unit * state.energy
                    left["reaction"][k, step] = unit * state.residual * np.sqrt(len(top))
                    left["displacement"][k, step] = state.correction
                    iterations[k] = state.iterations
            except (NotConvergedError, np.linalg.LinAlgError) as error:
                failures[k] = f"{error}: ask for smaller displacements, or check the phases"
                for array in (*arrays.values(), *left.values(), *errors.values()):
                    array[k] = np.nan
        return Properties(arrays, failures=failures, errors=errors, iteration_errors=left, iterations=iterations)

    def fields(self, structures: Structures) -> Mapping[str, Array]:
        """Return displacement (m), and pixel means of deformation gradient and first Piola-Kirchhoff stress (Pa)."""
        material, failures = interpolate(structures, np.array([phase.lame for phase in self.phases]))
        if failures:
            raise DataError(f"no fields: {failures[0]}")
        image = Image.of(material[0], structures.specification.grid.spacing)
        try:
            *_, state = self._states(image)
        except NotConvergedError as error:
            raise DataError(f"no fields: {error}") from None
        deformation = image.block.deformation(state.u)
        stress, _ = neo_hookean.stress_and_tangent(deformation, *image.lame)
        return {
            "displacement": np.moveaxis(image.block.centres(state.u), 0, -1),
            "deformation gradient": image.pixel_means(deformation),
            "stress": image.unit * image.pixel_means(stress),
        }

    def _states(self, image: Image) -> Iterator[State]:
        """Yield the equilibrium at each displacement."""
        block = image.block
        path = self._path(block, block.shape[0] * block.spacing[0])
        return follow(block, _equilibrium(block, image.lame), path, self.displacements, self.tolerance)

    def _path(self, block: Block, height: float) -> Path:
        parts = [(block.edge(edge, component), value * height) for edge, component, value in CASES[self.case]]
        unknowns = np.concatenate([where for where, _ in parts])
        values = np.concatenate([np.full(len(where), value) for where, value in parts])
        unknowns, first = np.unique(unknowns, return_index=True)
        return Path(unknowns, values[first])

    @classmethod
    def example(cls) -> Hyperelasticity:
        return cls(phases=(ElasticPhase(1e6, 0.3), ElasticPhase(1e7, 0.3)), displacements=(0.05, 0.2))


@dataclass(frozen=True, eq=False)
class Image:
    """One image on its mesh: Lame's parameters at the points of its elements, in units of `unit` (Pa)."""

    block: Block
    lame: list[Array]
    unit: float

    @classmethod
    def of(cls, material: Array, spacing: tuple[float, ...]) -> Image:
        """Return it for lambda and mu (2, rows, columns); NotConvergedError where nothing resists."""
        lam, mu = material
        if min(mu.min(), (3 * lam + 2 * mu).min()) <= 0:
            raise NotConvergedError("a pixel has no positive stiffness")
        unit = float(mu.max())
        block = Block.of(mu.shape, spacing)  # type: ignore[arg-type]
        return cls(block, [np.repeat(p[::-1].reshape(-1, 1), 9, axis=1) / unit for p in (lam, mu)], unit)

    def energy(self, state: State) -> float:
        """Return the strain energy per thickness, in units of `unit` m^2."""
        stored = neo_hookean.energy(self.block.deformation(state.u), *self.lame)
        return float((stored @ self.block.weight).sum())

    def reaction(self, state: State) -> list[float]:
        """Return the force on the top edge per thickness, along x and y, in N/m."""
        return [self.unit * float(state.forces[self.block.edge("top", c)].sum()) for c in range(2)]

    def errors(
        self, state: State, edges: Sequence[tuple[str, int]], surplus: QuadraticSurplus
    ) -> tuple[float, list[float]]:
        """Return by how much ever finer pixels would lower the energy (J/m) and the reactions (N/m), estimates.

        A reaction is the derivative of the energy by the displacement of its edge, and so is its error. Where the top
        edge is free along a component, its reaction is that of two corners, which finer pixels make vanish.
        edges: that are held, each along a component.
        """
        stress, tangent = neo_hookean.stress_and_tangent(self.block.deformation(state.u), *self.lame)
        forces, compliance = surplus.unbalanced(stress), surplus.compliance(tangent)
        reactions = [abs(value) for value in self.reaction(state)]
        moved = self._moved(self.block.stiffness(tangent), edges)
        for component in (c for edge, c in edges if edge == "top"):
            change = self.block.deformation(moved[:, component]) - np.eye(2)
            more = surplus.unbalanced(np.einsum("epijkl,epkl->epij", tangent, change, optimize=True))
            reactions[component] = self.unit * abs(float((forces * compliance * more).sum()))
        return 0.5 * self.unit * float((forces * compliance * forces).sum()), reactions

    def _moved(self, band: Array, edges: Sequence[tuple[str, int]]) -> Array:
        """Return the displacements (size, 2) per unit displacement of the top edge along x and y."""
        held = np.unique(np.concatenate([self.block.edge(edge, component) for edge, component in edges]))
        ends = np.zeros((self.block.size, 2))
        for c in range(2):
            ends[np.intersect1d(held, self.block.edge("top", c)), c] = 1.0
        right = np.stack([band_product(band, end) for end in ends.T], axis=1)
        return np.asarray(ends + solve_constrained(band, -right, held))

    def pixel_means(self, values: Array) -> Array:
        """Return the means (rows, columns, 4) of values (pixels, points, 2, 2); the first row is at the top."""
        weight = self.block.weight / self.block.weight.sum()
        means = np.einsum("epij,p->eij", values, weight).reshape(*self.block.shape, 4)
        return np.asarray(means[::-1])


def _equilibrium(block: Block, lame: list[Array]) -> Equilibrium:
    """Return the function from displacements to internal forces and stiffness; None where an element is turned over."""

    def response(u: Array) -> tuple[Array, Array] | None:
        deformation = block.deformation(u)
        if neo_hookean.determinant(deformation).min() <= 0:
            return None
        stress, tangent = neo_hookean.stress_and_tangent(deformation, *lame)
        return block.forces(stress), block.stiffness(tangent)

    return response
