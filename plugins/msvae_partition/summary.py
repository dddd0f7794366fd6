"""The table of the campaign, in units that people use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from msvae import Table
from msvae_partition.campaign import Partition
from msvae_partition.models.ising import BOLTZMANN

__all__ = ["table_of"]

ELECTRONVOLT = 1.602176634e-19  # J, exact (SI 2019)


def table_of(found: Mapping[str, Any], settings: Partition) -> Table:
    """Return one row a temperature, the coldest last, and notes."""
    sites, names = found["all_sites"], found["constituents"]
    columns = ("T (K)", "log Z", "95 %", "lower bound", "free energy (eV/site)", "energy (eV/site)",
               "heat capacity (k_B/site)", *(f"fraction {name}" for name in names[1:]),
               *(f"order {_pair(pair, names)}" for pair in found["short_range_order"][0]),
               *(["antisites"] if settings.order else []),
               *(["defects per site"] if "defects" in found else []), "effective draws")  # fmt: skip
    rows: list[tuple[str, ...]] = []
    three = (found[key] for key in ("temperatures", "estimates", "short_range_order"))
    for kelvin, estimate, order in zip(*three, strict=True):
        of = dict(zip(found["names"], zip(estimate["means"], estimate["errors"], strict=True), strict=True))
        thermal = BOLTZMANN * kelvin
        free = -thermal * estimate["log_z"] / sites / ELECTRONVOLT
        capacity = tuple(v / thermal**2 / sites for v in of["variance"])
        more = [_with_error(*of["antisites"])] if settings.order else []
        if "defects" in found:
            more.append(_with_error(*found["defects"][len(rows)].values()))
        rows.append((
            f"{kelvin:g}", f"{estimate['log_z']:.4f}", f"± {estimate['half_width']:.2g}",
            f"{estimate['bound']:.4f} ± {2 * estimate['bound_error']:.1g}", f"{free:.6g}",
            _with_error(*(v / sites / ELECTRONVOLT for v in of["energy"])), _with_error(*capacity),
            *(_with_error(*of[f"fraction {k}"]) for k in range(1, len(names))), *(f"{v:.3f}" for v in order.values()),
            *more, f"{100 * estimate['effective']:.0f} %",
        ))  # fmt: skip
    return Table(f"Partition function of {found['sites']} sites, {found['paid']} energies", columns, tuple(rows),
                 tuple(_notes(found, settings)))  # fmt: skip


def _notes(found: Mapping[str, Any], settings: Partition) -> list[str]:
    sites, estimates = found["sites"], found["estimates"]
    worst = max(e["half_width"] for e in estimates) / sites
    notes = [
        f"{found['paid']} configurations were evaluated, none of them twice, for {found['operations']} operations of "
        f"symmetry; the expansion errs by {found['expansion_error'] / ELECTRONVOLT * 1e3:.2g} meV per site "
        "(leave-one-out)",
        f"the annealing starts from {'the inverse VAE' if found['start'] == 'inverse-vae' else 'uniform occupations'}",
    ]
    if worst > settings.precision:
        notes.append(f"the widest interval, {worst:.2g} per site, is not below the precision of {settings.precision:g}")
    poor = [e for e in estimates if e["effective"] < settings.effective]
    if poor:
        notes.append(
            f"at {len(poor)} temperatures the effective share of the draws is below {settings.effective:g}: the "
            "expansion is too far from the solver's energies there; allow a larger budget, more pairs or triplets"
        )
    failed = sum(e["failed"] for e in estimates)
    if failed:
        notes.append(f"{failed} draws have no energy and count as weight 0: log Z is too small by their share")
    for kelvin, own in zip(found["temperatures"], found["inverse_vae"], strict=False):
        notes.append(
            f"inverse VAE alone at {kelvin:g} K, by the expansion's energies: log Z {own['log_z']:.4f}, lower bound "
            f"{own['bound']:.4f}, effective share {100 * own['effective']:.2g} %"
        )
    return notes


def _pair(text: str, names: list[str]) -> str:
    return "-".join(names[int(k)] for k in text.split())


def _with_error(value: float, error: float) -> str:
    if not np.isfinite(value):
        return "unknown"
    digits = 6 if not error > 0 else min(max(int(np.ceil(np.log10(max(abs(value), error) / error))) + 2, 2), 8)
    return f"{value:.{digits}g} ± {error:.1g}"
