"""The tasks of the inverse-design benchmark: targets, a solver, and a model that makes structures.

T1, T2 and T4 are 32 x 32 images of phases 1 and 20, or 16^3 pieces of a sandstone; the stiffness target is one that no
training structure comes near.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from models import simulated, trained

import msvae
from msvae.metrics.bounds import hashin_shtrikman
from msvae.plugins.interfaces import Solver
from msvae.structures import Array, Structures
from msvae.study import load_plugin
from msvae.study.numbers import Component
from msvae.study.source import Source
from msvae.vae.blueprint import component_values
from msvae.vae.model import VAE


@dataclass(frozen=True, eq=False)
class Task:
    """Targets for numbers of a solver's property, and the model that makes structures.

    loss: of a design, instead of the relative distance from the targets, where there is another aim. most: fraction of
    phase 1 that a design may have. close: distance that counts as reached.
    """

    name: str
    vae: VAE
    structures: Structures
    solver: Solver
    targets: Mapping[Component, float]
    budget: int
    loss: Callable[[Mapping[str, Array]], Array] | None = None
    most: float = 1.0
    close: float = 0.02

    def distance(self, properties: Mapping[str, Array]) -> Array:
        if self.loss is not None:
            return self.loss(properties)
        parts = [component_values(properties, c) / value - 1 for c, value in self.targets.items()]
        return np.asarray(np.sqrt(np.square(parts).sum(axis=0)))

    def solve(self, latents: Array) -> Mapping[str, Array]:
        return self.solver.evaluate(self.vae.decode(latents))

    def judged(self, latents: Array, properties: Mapping[str, Array]) -> Array:
        """Return distances, NaN where there is no answer or too much of phase 1."""
        kept = self.vae.decode(latents).fractions[:, 1] <= self.most
        return np.where(kept, self.distance(properties), np.nan)


@cache
def conductivity_task(latents: int = 16) -> Task:
    structures = simulated(count=2000, shape=[32, 32], length=[8e-6, 8e-6], anisotropy=[1.0, 3.0])
    solver = msvae.load_solver("conductivity", phases=[{"conductivity": 1.0}, {"conductivity": 20.0}])
    targets = {Component("conductivity", (0, 0)): 11.0, Component("conductivity", (1, 1)): 3.0}
    name = f"T1: conductivities (11, 3), {latents} latents"
    return Task(name, trained(structures, latents, 40), structures, solver, targets, 45)


def largest_task() -> Task:
    """The largest of the smaller conductivity with at most 40 % of the conductor: bounded by Hashin and Shtrikman."""
    t = conductivity_task()
    bound = float(hashin_shtrikman(np.array([[0.6, 0.4]]), np.array([[1.0], [20.0]]), 2)[1][0, 0])

    def regret(properties: Mapping[str, Array]) -> Array:
        k = np.asarray(properties["conductivity"])
        return np.asarray(1 - np.minimum(k[:, 0, 0], k[:, 1, 1]) / bound)

    name = f"T2: smaller conductivity as large as possible, at most 40 % of the conductor (bound {bound:.2f}); regret"
    return replace(t, name=name, budget=60, loss=regret, most=0.4, close=0.2)


def permeability_task() -> Task:
    """Three permeabilities of a sandstone, of which most pieces have none along some axis."""
    tiff = Path(__file__).resolve().parents[2] / "shared" / "data" / "berea" / "berea.tif"
    settings = {"name": "tiff", "path": str(tiff), "dimensions_of": 3, "labels": [255, 0], "patch": [16, 16, 16],
                "region": [[0, 128], [0, 200], [0, 200]], "spacing": 2e-6}  # fmt: skip
    structures = load_plugin(msvae.Dataset, settings, Source("benchmark", "")).load(0)
    targets = {Component("permeability", (i, i)): value for i, value in enumerate((4e-12, 2e-12, 1e-12))}
    solver = msvae.load_solver("permeability", pores=1)
    vae = trained(structures, 16, 40)
    return Task("T4: permeabilities (4, 2, 1) um^2 of a sandstone", vae, structures, solver, targets, 60, close=0.1)


def stiffness_task() -> Task:
    structures = simulated(count=1000, shape=[16, 16, 16], length=[8e-6, 8e-6], anisotropy=[1.0, 2.5],
                           volume_fraction=[0.15, 0.4])  # fmt: skip
    phases = [{"youngs_modulus": 70e9, "poissons_ratio": 0.33}, {"youngs_modulus": 0.0}]
    solver = msvae.load_solver("elasticity", phases=phases)
    targets = {Component("stiffness", (i, i)): value for i, value in enumerate((58e9, 48e9, 38e9))}
    return Task("3D: stiffnesses (58, 48, 38) GPa", trained(structures, 16, 25), structures, solver, targets, 60)
