"""Figures of the campaign: how log Z converged, averages against temperature, and the likeliest configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from msvae import Drawing, Run
from msvae_partition.campaign import Partition
from msvae_partition.defects import FOUND
from msvae_partition.expansion.symmetry import Lattice
from msvae_partition.summary import ELECTRONVOLT

__all__ = ["FIGURES", "averages", "configurations", "convergence"]

SHOWN = 4  # configurations that are drawn


def convergence(run: Run) -> Drawing | None:
    """Log Z with its interval against the evaluations that were paid for."""
    found = _found(run)
    if found is None:
        return None
    figure = Figure(figsize=(6.0, 3.6))
    axis = figure.subplots()
    course, sites = found["convergence"], found["sites"]
    for k, kelvin in enumerate(found["temperatures"]):
        final = found["estimates"][k]
        paid = [*(c["paid"] for c in course), found["paid"]]
        own = [*(c["log_z"][k] for c in course), final["log_z"]]
        width = [*(c["half_width"][k] for c in course), final["half_width"]]
        shifted = (np.array(own) - final["log_z"]) / sites
        places = np.arange(len(paid)) + 0.08 * k
        axis.errorbar(places, shifted, np.array(width) / sites, fmt="o", capsize=3, label=f"{kelvin:g} K")
    labels = [*(f"{c['paid']}" for c in course), f"{found['paid']}, more batches"]
    axis.set_xticks(range(len(labels)), labels)
    axis.set(xlabel="evaluations", ylabel="log Z less the last estimate, per site")
    axis.legend()
    return Drawing("partition_convergence", "Estimates of log Z with 95 % intervals, round by round.", figure)


def averages(run: Run) -> Drawing | None:
    """Free energy, energy, heat capacity, and order against temperature."""
    found = _found(run)
    if found is None or len(found["temperatures"]) < 2:
        return None
    kelvin, sites, names = np.array(found["temperatures"]), found["all_sites"], found["names"]
    means, errors = (np.array([e[key] for e in found["estimates"]]) for key in ("means", "errors"))
    thermal = 1 / np.array([e["beta"] for e in found["estimates"]])
    log_z = np.array([e["log_z"] for e in found["estimates"]])
    curves = [
        ("free energy (eV/site)", -thermal * log_z / sites / ELECTRONVOLT, None),
        ("energy (eV/site)", means[:, 0] / sites / ELECTRONVOLT, errors[:, 0] / sites / ELECTRONVOLT),
        ("heat capacity (k_B/site)", means[:, 1] / thermal**2 / sites, errors[:, 1] / thermal**2 / sites),
    ]
    if "antisites" in names:
        k = names.index("antisites")
        curves.append(("antisites (share of sites)", means[:, k], errors[:, k]))
    else:
        order = [next(iter(o.values())) for o in found["short_range_order"]]
        curves.append(("short-range order, nearest neighbours", np.array(order), None))
    figure = Figure(figsize=(9.0, 6.0))
    for axis, (label, values, error) in zip(np.ravel(figure.subplots(2, 2)), curves, strict=True):
        axis.errorbar(kelvin, values, error, fmt="o-", capsize=3)
        axis.set(xlabel="temperature (K)", ylabel=label)
        if label.startswith("antisites") and (values > 0).all():
            axis.set_yscale("log")
    return Drawing("partition_averages", "Averages against temperature, with 95 % intervals.", figure)


def configurations(run: Run) -> Drawing | None:
    """The evaluated configurations of least energy, at the atoms' places."""
    found = _found(run)
    if found is None:
        return None
    best, settings = found["lowest"][:SHOWN], run.study.need(Partition)
    lattice = Lattice.of(run.structures.specification, settings.basis, crystal=settings.crystal, symmetric=False)
    places = lattice.places @ lattice.box * 1e10
    values = run.structures.values[0].ravel().astype(int)
    figure = Figure(figsize=(3.2 * len(best), 3.4))
    solid = places.shape[1] == 3
    for k, one in enumerate(best):
        axis = figure.add_subplot(1, len(best), k + 1, **({"projection": "3d"} if solid else {}))
        flat = places if places.shape[1] > 1 else np.column_stack([places, 0 * places])
        for species, name in enumerate(found["constituents"]):
            values[found["free"]] = one["occupation"]
            own = values == species
            style: dict[str, Any] = {"s": 90, "label": name, "edgecolors": "black", "linewidths": 0.5}
            axis.scatter(*flat[own].T, **style)
        axis.set_title(f"{one['energy'] / found['all_sites'] / ELECTRONVOLT:.5g} eV/site", fontsize=9)
        axis.set_aspect("equal")
        axis.tick_params(labelsize=6)
        if k == 0:
            axis.legend(fontsize=7)
    caption = "Evaluated configurations of least energy, less chemical potentials (lengths in angstrom)."
    return Drawing("partition_configurations", caption, figure)


def _found(run: Run) -> dict[str, Any] | None:
    found: dict[str, Any] | None = run.read_json(FOUND, dict, ("estimates", "convergence", "temperatures", "lowest"))
    return found


FIGURES: tuple[Callable[[Run], Drawing | None], ...] = (convergence, averages, configurations)
