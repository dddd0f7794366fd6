"""How well frames were predicted: errors, and bands of the characteristic length, calibrated on simulations aside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae import Array, Evaluations
from msvae_evolution.campaign import Evolve
from msvae_evolution.forecast import RELAXED
from msvae_evolution.measures import growth_exponent, root_mean_square

__all__ = ["Bands", "bands", "notes", "rows_of"]

LEVEL = 0.9
COLUMNS = (
    "time / given", "frames", "pixel error / persistence", "control / persistence", "length error, median",
    "within 10 %", "phase fraction error, largest", "90 % bands hold", "samples that evolve into the given",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Bands:
    """Bands of the characteristic length in m: low, middle and high (n,); held: share of test frames inside."""

    low: Array
    middle: Array
    high: Array
    held: float


def bands(table: Evaluations, test: Array, settings: Evolve, factor: float) -> Bands:
    """Return the bands of all rows at a factor of the given time.

    The samples' 5 and 95 % quantiles are moved and widened about their median, in logarithms, such that those of
    calibration rows hold 90 % (split conformal prediction: Lei et al. 2018, J. Am. Stat. Assoc. 113, 1094).
    """
    k = settings.factors.index(factor)
    samples, truth = np.log(table.properties["lengths"][:, k]), np.log(table.properties["true_length"][:, k])
    low, middle, high = np.quantile(samples, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], axis=1)
    width = np.maximum((high - low) / 2, 1e-3)
    aside = ~test & np.isfinite(truth)
    shift = float(np.mean(truth[aside] - middle[aside])) if aside.any() else 0.0
    scores = np.sort(np.abs(truth[aside] - middle[aside] - shift) / width[aside])
    rank = min(len(scores) - 1, int(np.ceil(LEVEL * (len(scores) + 1))) - 1) if len(scores) else 0
    factor_of_width = float(scores[rank]) if len(scores) else 1.0
    middle = middle + shift
    low, high = middle - factor_of_width * width, middle + factor_of_width * width
    seen = test & np.isfinite(truth)
    held = float(((truth >= low) & (truth <= high))[seen].mean()) if seen.any() else float("nan")
    return Bands(np.exp(low), np.exp(middle), np.exp(high), held)


def rows_of(table: Evaluations, test: Array, settings: Evolve) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the columns and the rows of the campaign's table, a row for each factor."""
    return COLUMNS, tuple(_row(table, test, settings, factor) for factor in sorted(settings.factors))


def _row(table: Evaluations, test: Array, settings: Evolve, factor: float) -> tuple[str, ...]:
    k, own = settings.factors.index(factor), {n: a[test] for n, a in table.properties.items()}
    seen = np.isfinite(own["error"][:, k])
    persistence = root_mean_square(own["persistence"][seen, k])
    both = np.isfinite(own["control"][:, k])  # the simulator may diverge on a frame that is far out of range
    control = root_mean_square(own["control"][both, k]) / root_mean_square(own["persistence"][both, k])
    length = np.abs(own["length"][seen, k] / own["true_length"][seen, k] - 1)
    fraction = np.abs(own["fraction"][seen, k] - own["true_fraction"][seen, k])
    held = bands(table, test, settings, factor).held if factor > 1 else float("nan")
    misfit = own["misfit"][:, k]
    consistent = float((misfit <= 1).mean()) if np.isfinite(misfit).any() else float("nan")
    return (
        f"{factor:g}", f"{seen.sum()}", _said(root_mean_square(own["error"][seen, k]) / persistence, ".3f"),
        _said(control, ".3f"),
        _said(100 * np.median(length) if len(length) else np.nan, ".1f", " %"),
        _said(100 * np.mean(length <= 0.1) if len(length) else np.nan, ".0f", " %"),
        _said(fraction.max() if len(fraction) else np.nan, ".4f"), _said(100 * held, ".0f", " %"),
        _said(100 * consistent, ".0f", " %"),
    )  # fmt: skip


def notes(table: Evaluations, test: Array, times: Array, settings: Evolve) -> tuple[str, ...]:
    """Return what holds for all predictions: mass, free energy, growth, and frames in between."""
    own = {n: a[test] for n, a in table.properties.items()}
    forward = [settings.factors.index(f) for f in sorted(settings.factors) if f > 1]
    found = [f"mass differs by {np.nanmax(np.abs(own['mass'])):.1e} at most"]
    energies = np.column_stack([own["given_energy"], own["energy"][:, forward]])
    if forward and np.isfinite(energies).any():
        rise = np.max(np.diff(energies, axis=1) / energies[:, :1])
        found.append(f"the free energy rises by {max(rise, 0.0):.1e} of that of the given frame at most")
        shares = own[RELAXED][:, forward]
        found.append(
            f"the simulator ran {100 * shares.mean():.1f} % of the last steps, at most {100 * shares.max():.0f} %"
        )
    found += _growth(own, settings, forward)
    if "between" in own:
        ratio = np.sqrt(np.nanmean(own["between"] ** 2) / np.nanmean(own["between_persistence"] ** 2))
        found.append(f"frames between two: pixel error {ratio:.3f} of that of the nearer one")
    cost = float(table["cost"].sum())
    return (*found, f"{cost:.0f} s on one worker")


def _growth(own: dict[str, Array], settings: Evolve, forward: list[int]) -> list[str]:
    factors = np.array([settings.factors[k] for k in forward])
    whole = np.isfinite(own["true_length"][:, forward]).all(axis=1)
    if len(factors) < 2 or not whole.any():
        return []
    exponents = [growth_exponent(factors, own[name][whole][:, forward]) for name in ("length", "true_length")]
    return [
        f"growth exponent from {factors.min():g} to {factors.max():g} times: {exponents[0]:.3f}, simulated "
        f"{exponents[1]:.3f} ({whole.sum()} frames)"
    ]


def _said(value: float, form: str, unit: str = "") -> str:
    return "" if not np.isfinite(value) else f"{value:{form}}{unit}"
