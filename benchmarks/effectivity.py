"""Is the error that a voxel solver estimates the one that it makes? Thirty structures a solver; what it costs.

python benchmarks/effectivity.py [solver ...]    one row a solver; a line for every structure beyond 1/2 to 2

Effectivity is the estimated over the true discretisation error of the driven property. Truth is extrapolated from the
same structure with every voxel cut in two and in four along each axis. Cost is the processor time of the estimate over
that of the solution without it.
"""

from __future__ import annotations

import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

import msvae
from msvae_microstructures.processes import gaussian_field, thresholded

ORDER = 0.4  # what a cut in two leaves of the gain of the cut before: corners of phases converge like h^1.2
METAL = {"youngs_modulus": 70e9, "poissons_ratio": 0.3, "yield_stress": 2e8, "hardening": 1e9}
SMALL = (((16, 16), 2.0), ((4, 4, 4), 1.0))  # shapes and lengths where torch solves: uniform boundaries
CONTRASTS = (2.0, 10.0, 100.0, 1000.0, 0.0)  # of the second phase to the first; 0 is a pore
ESTIMATES = (  # what estimates, where it is called
    "msvae_voxelfe.backends.between_faces.estimated_refinement",
    "msvae_voxelfe.backends.periodic.estimated_refinement",
    "msvae_voxelfe.linear.uniform_sides.estimated_refinement",
    "msvae_voxelfe.flow.stokes.overestimate",
    "msvae_voxelfe.elements.stress_surplus.StressSurplus.work",
    "msvae_voxelfe.nonlinear.hyperelasticity.Image.errors",
)


@dataclass(frozen=True)
class Case:
    """A structure of a solver. labels: 0 or 1. settings: of the solver."""

    solver: str
    what: str
    labels: np.ndarray
    settings: dict[str, Any]
    number: Callable[[Any], np.ndarray]  # of a mapping of properties: what is driven
    periodic: bool = True


@dataclass
class Cost:
    """Processor time in s: of whole solutions, and of the estimates in them."""

    whole: float = 0.0
    estimates: float = 0.0


def blobs(shape: tuple[int, ...], seed: int, length: float, share: float = 0.3) -> np.ndarray:
    """Return labels of a periodic Gaussian field that is cut so that a share of the voxels is 1."""
    field = gaussian_field(shape, np.random.default_rng(seed), lengths=[2 * length] * len(shape))
    return thresholded(field, share).astype(int)


def diagonal(key: str) -> Callable[[Any], np.ndarray]:
    """Return what takes the diagonal of a property of the first structure."""
    return lambda found: np.diag(found[key][0]) if found[key].ndim == 3 else found[key][0]


def linear(name: str, *boundaries: str) -> Iterator[Case]:
    """Yield thirty structures of a linear solver: two and three dimensions, five contrasts, three seeds.

    boundaries: conditions on the sides that they take in turn; pores, which bear no traction, are left out of those.
    """
    key = "stiffness" if name == "elasticity" else "conductivity"
    for contrast in CONTRASTS:
        for seed in range(3):
            for shape, length in SMALL if boundaries else (((32, 32), 2.5 + seed), ((12, 12, 12), 2.0)):
                values = (1.0, contrast)
                phases = (
                    [{"youngs_modulus": v, "poissons_ratio": 0.3} for v in values]
                    if name == "elasticity"
                    else [{"conductivity": v} for v in values]
                )
                labels, what = blobs(shape, seed, length), f"{shape}, contrast {contrast:g}, seed {seed}"
                if not boundaries:
                    yield Case(name, what, labels, {"phases": phases}, diagonal(key))
                for boundary in boundaries:
                    if contrast or boundary in ("uniform-displacement", "uniform-gradient"):
                        yield Case(name, f"{what}, {boundary}", labels, {"phases": phases, "boundary": boundary},
                                   diagonal(key), False)  # fmt: skip


def flow() -> Iterator[Case]:
    """Yield thirty structures of Stokes flow: half and seven tenths of them pores, periodic and between two faces."""
    for seed in range(5):
        for shape, length in (((32, 32), 1.0), ((32, 32), 2.5), ((12, 12, 12), 1.5)):
            for periodic in (True, False):
                labels = blobs(shape, 10 + seed, length, 0.3 if seed % 2 else 0.5)
                yield Case("permeability", f"{shape}, length {length:g}, seed {seed}, periodic {periodic}", labels, {},
                           diagonal("permeability"), periodic)  # fmt: skip


def plastic() -> Iterator[Case]:
    """Yield thirty structures of a metal: with pores, and with stiffer and softer elastic particles."""
    for modulus in (0.0, 7e9, 140e9, 700e9, 7e12):
        for seed in range(3):
            for shape, length in (((12, 12), 2.0), ((5, 5, 5), 1.2)):
                phases = [METAL, {"youngs_modulus": modulus, "poissons_ratio": 0.3}]
                yield Case("plasticity", f"{shape}, modulus {modulus:g}, seed {seed}", blobs(shape, seed, length),
                           {"phases": phases, "strains": [0.002, 0.005, 0.01]},
                           lambda f: f["stress"][0, :, 0])  # fmt: skip


def finite(name: str) -> Iterator[Case]:
    """Yield thirty structures at finite strain, softer, stiffer and with pores."""
    for contrast in (0.0, 0.1, 2.0, 10.0, 100.0):
        for seed in range(3):
            for shape, length in (((12, 12), 2.0), ((5, 5, 5), 1.2)):
                phases = [{"youngs_modulus": e, "poissons_ratio": 0.3} for e in (1e6, 1e6 * contrast)]
                settings: dict[str, Any] = {"phases": phases}
                if name == "hyperelasticity":
                    if len(shape) == 3:
                        shape, length = (10, 10), 1.5
                    if contrast == 0:
                        settings["phases"][1]["youngs_modulus"] = 2e4
                    settings |= {"case": ("uniaxial-extension", "shear", "confined-compression")[seed]}
                    settings |= {"displacements": [0.05, 0.2]}
                else:
                    loads = np.eye(len(shape))
                    loads[0, :2] = 1.2, 0.1
                    settings |= {"deformation": loads.tolist(), "steps": [0.5, 1.0]}
                yield Case(name, f"{shape}, contrast {contrast:g}, seed {seed}", blobs(shape, seed, length), settings,
                           lambda f: f["energy"][0])  # fmt: skip


CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "conductivity": lambda: linear("conductivity"),
    "through-conductivity": lambda: linear("through-conductivity"),
    "elasticity": lambda: linear("elasticity"),
    "uniform-conductivity": lambda: linear("conductivity", "uniform-flux", "uniform-gradient"),
    "uniform-elasticity": lambda: linear("elasticity", "uniform-traction", "uniform-displacement"),
    "permeability": flow,
    "periodic-hyperelasticity": lambda: finite("periodic-hyperelasticity"),
    "hyperelasticity": lambda: finite("hyperelasticity"),
    "plasticity": plastic,
}


def solved(case: Case, cut: int) -> msvae.Properties:
    """Return the properties of a structure with every voxel cut."""
    labels = case.labels
    for axis in range(labels.ndim):
        labels = np.repeat(labels, cut, axis)
    structures = msvae.Structures.from_labels(labels[None], 1e-6 / cut, periodic=case.periodic, phases=2)
    found = msvae.load_solver(case.solver, **case.settings).evaluate(structures)
    assert isinstance(found, msvae.Properties)
    if found.failures:
        raise RuntimeError(f"{case.solver}, {case.what}, cut in {cut}: {found.failures[0]}")
    return found


@contextmanager
def measured(cost: Cost) -> Iterator[None]:
    """Add the processor time of estimates to a cost, meanwhile."""
    with ExitStack() as stack:
        for path in ESTIMATES:
            stack.enter_context(patch(path, _timed(path, cost)))
        start = time.process_time()
        yield
        cost.whole += time.process_time() - start


def _timed(path: str, cost: Cost) -> Callable[..., Any]:
    inner = pkgutil.resolve_name(path)

    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return inner(*args, **kwargs)
        finally:
            cost.estimates += time.process_time() - start

    return call


def effectivity(case: Case, cost: Cost) -> np.ndarray:
    """Return the estimated over the true error of every number that is driven; both where there is an error at all."""
    solved(case, 1)  # whatever is made once
    with measured(cost):
        coarse = solved(case, 1)
    if not coarse.errors:
        raise RuntimeError(f"{case.solver}, {case.what}: the solver gives no estimate")
    first, second, third = case.number(coarse), *(case.number(solved(case, cut)) for cut in (2, 4))
    limit = third - (second - third) * ORDER / (1 - ORDER)
    error = first - limit
    counted = (np.abs(first) > 1e-9 * np.abs(first).max()) & (np.abs(error) > 1e-6 * np.abs(first))
    return case.number(coarse.errors)[counted] / error[counted]


def main() -> None:
    """Print one row a solver."""
    print("| solver | structures | numbers | smallest | 5 % | median | 95 % | largest | 1/2 to 2 | cost |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in sys.argv[1:] or CASES:
        cost, all_of_them, count = Cost(), [], 0
        for case in CASES[name]():
            try:
                found = effectivity(case, cost)
            except (RuntimeError, msvae.MsvaeError) as error:
                print(f"left out: {error}", file=sys.stderr, flush=True)
                continue
            count += 1
            all_of_them.append(found)
            if not ((found > 0.5) & (found < 2)).all():
                print(f"{case.solver}, {case.what}: {np.round(found, 2)}", file=sys.stderr, flush=True)
        ratios = np.concatenate(all_of_them)
        quantiles = " | ".join(f"{q:.2f}" for q in np.quantile(ratios, (0, 0.05, 0.5, 0.95, 1)))
        inside = np.mean((ratios > 0.5) & (ratios < 2))
        spent = cost.estimates / (cost.whole - cost.estimates)
        print(f"| {name} | {count} | {len(ratios)} | {quantiles} | {inside:.0%} | {spent:.2f} |", flush=True)


if __name__ == "__main__":
    main()
