"""The solver of a first study: chosen by its name or its property, with placeholders for the materials."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from msvae import plugins
from msvae.errors import StudyError, TargetError, did_you_mean
from msvae.plugins.interfaces import Plugin, Solver
from msvae.structures import Array, Quantity, Structures

__all__ = ["Tried", "chosen_solver", "settings_of_example", "tried"]

DEFAULT = "conductivity"
TRIALS = 12  # structures that are solved before the study is written


@dataclasses.dataclass(frozen=True, eq=False)
class Tried:
    """A number of a property, found for a few structures. component: its indices. values: (n,)."""

    quantity: Quantity
    component: tuple[int, ...]
    values: Array

    def quantile(self, share: float) -> float:
        """Return a quantile of the values, with 3 digits."""
        return float(f"{np.quantile(self.values, share):.3g}")


def chosen_solver(name: str | None, wanted: str | None, structures: Structures) -> type[Solver]:
    """Return the solver of a name, or the first that computes a property of such structures; StudyError without one."""
    if name is not None:
        found = plugins.registry().find(Solver, name)
        if wanted is not None and wanted not in [q.name for q in found.computes]:
            raise StudyError(f"solver '{name}' computes {', '.join(q.name for q in found.computes)}, not '{wanted}'")
        return found
    if wanted is None:
        return plugins.registry().find(Solver, DEFAULT)
    able: list[type[Solver]] = []
    known: set[str] = set()
    for entry in plugins.registry().loaded.values():
        solver: Any = entry.plugin
        if entry.family == "solver" and _takes(solver, structures):
            known |= {q.name for q in solver.computes}
            able += [solver] if wanted in [q.name for q in solver.computes] else []
    if not able:
        raise StudyError(
            f"--property {wanted}: no solver computes it for such structures{did_you_mean(wanted, known)} "
            f"(computed: {', '.join(sorted(known))})"
        )
    return able[0]


def _takes(solver: type[Solver], structures: Structures) -> bool:
    s = structures.specification
    return s.kind in solver.kinds and s.grid.dimensions in solver.dimensions


def settings_of_example(solver: type[Solver], phases: int) -> dict[str, Any]:
    """Return settings that a solver runs with, to be replaced: those of its example, for this number of phases."""
    example = solver.example()
    settings: dict[str, Any] = _plain(example)
    known = example.materials
    if known is not None and isinstance(settings.get("phases"), list):
        rows = settings["phases"]
        settings["phases"] = [rows[min(k, len(rows) - 1)] for k in range(phases)]
    return settings


def _plain(value: Any) -> Any:
    """Return the fields of settings that are not their defaults, as plain values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: (getattr(value, f.name), _default(f)) for f in dataclasses.fields(value)}
        named = {"name": value.name} if isinstance(value, Plugin) else {}
        return named | {k: _plain(v) for k, (v, default) in fields.items() if v != default and v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


def tried(solver: Solver, structures: Structures, wanted: str | None) -> Tried:
    """Return what a solver finds for a few of the structures; TargetError if that is nothing, or the same for all."""
    misfit = solver.misfit(structures.specification)
    if misfit:
        raise StudyError(f"{misfit}; choose another with --solver")
    some = structures[np.unique(np.linspace(0, len(structures) - 1, TRIALS).round().astype(int))]
    quantities = {q.name: q for q in solver.quantities(some.specification)}
    quantity = quantities[wanted or next(iter(quantities))]
    found = np.asarray(solver.evaluate(some)[quantity.name])
    tensor = len(set(quantity.sizes)) == 1 and len(quantity.sizes) == 2
    component = tuple(0 if tensor else n - 1 for n in quantity.sizes)
    place: tuple[Any, ...] = (slice(None), *component)
    values = found[place]
    values = values[np.isfinite(values)]
    if len(values) < 2 or np.ptp(values) <= 1e-9 * np.abs(values).max():
        what = f"{values[0]:.3g} {quantity.unit} for all" if len(values) else "no value"
        raise TargetError(
            f"solver '{solver.name}' finds for {len(some)} pieces {what}: there is no {quantity.name} to aim at; "
            "choose another --property, or other phases with --threshold"
        )
    return Tried(quantity, component, values)
