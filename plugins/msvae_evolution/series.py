"""Frames as series: the time and the simulation of each, and which of them are given and which predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msvae import Array, DataError, Structures, Study, StudyError, split_of

__all__ = ["TIME", "Series", "sides"]

TIME = "time"


@dataclass(frozen=True, eq=False)
class Series:
    """The frames of simulations, as rows of a batch of structures.

    rows: for each simulation, the rows (frames,) of its frames, in order of time. times: (n,) of all rows.
    """

    rows: tuple[Array, ...]
    times: Array

    @classmethod
    def of(cls, structures: Structures) -> Series:
        """Return the series of structures; DataError if they are no frames with a time and a simulation each."""
        _check(structures)
        times, groups = structures.properties[TIME], np.asarray(structures.groups)
        rows = []
        for group in np.unique(groups):
            own = np.flatnonzero(groups == group)
            own = own[np.argsort(times[own], kind="stable")]
            if (np.diff(times[own]) <= 0).any():
                raise DataError(f"dataset: simulation {group} has two frames of one time: leave one of them out")
            rows.append(own)
        if max(map(len, rows)) < 2:
            raise DataError(
                f"dataset: each of its {len(rows)} simulations has one frame, from which nothing is learnt of how "
                "it goes on: give two frames or more of each (dataset.frames)"
            )
        return cls(tuple(rows), times)

    def pairs(self, ratio: float) -> Array:
        """Return the rows (m, 2) of all earlier and later frames of a simulation whose times are within a factor."""
        found = [
            (a, b)
            for rows in self.rows
            for k, a in enumerate(rows)
            for b in rows[k + 1 :]
            if self.times[b] <= ratio * (1 + 1e-9) * self.times[a]
        ]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def row_at(self, simulation: int, time: float) -> int | None:
        """Return the row of a simulation's frame at a time; None if there is none."""
        own = self.rows[simulation]
        near = own[np.argmin(np.abs(self.times[own] - time))]
        return int(near) if abs(self.times[near] - time) <= 1e-6 * time else None


def sides(structures: Structures, series: Series, study: Study) -> tuple[Array, Array, Array]:
    """Return the numbers of simulations that are trained on, that uncertainty is calibrated on, and for the test.

    The held-out simulations of the model are divided in two. StudyError if they are fewer than two.
    """
    settings = study.training
    held_out = set(split_of(structures, settings.held_back, study.seed, gap=settings.gap).held_out.tolist())
    outside = np.array([int(rows[0]) in held_out for rows in series.rows])
    aside = np.flatnonzero(outside)
    if len(aside) < 2:
        raise StudyError(
            f"{study.source.at(['training', 'held_back'])}: two simulations at least have to be held back, one to "
            f"calibrate uncertainty on and one to test, found {len(aside)}: hold back more frames"
        )
    return np.flatnonzero(~outside), aside[::2], aside[1::2]


def _check(structures: Structures) -> None:
    if TIME not in structures.properties:
        raise DataError(
            f"dataset: its frames have no property '{TIME}': take a data set whose frames have one "
            "('cahn-hilliard', or 'tiff-series' with dataset.times)"
        )
    if structures.groups is None:
        raise DataError("dataset: it does not say of which simulation each frame is: give structures with groups")
    times = structures.properties[TIME]
    wrong = np.flatnonzero(~(times > 0))
    if len(wrong):
        raise DataError(
            f"dataset: the time of a frame is positive, found {times[wrong[0]]:g} for frame {wrong[0]}: leave such "
            "frames out (times count from the start of a simulation)"
        )
