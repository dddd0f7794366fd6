"""Fitting of latent dynamics to pairs of frames of one simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from msvae import Array, Structures, seed_of
from msvae_evolution.campaign import Evolve
from msvae_evolution.codes import Code
from msvae_evolution.dynamics.gaussian_process import GaussianProcess
from msvae_evolution.dynamics.latent import POOL, LatentDynamics
from msvae_evolution.dynamics.learnt import Flow, octaves
from msvae_evolution.series import TIME, Series

__all__ = ["fit_dynamics", "parameters_of"]

Report = Callable[[int, int, str], None]


def parameters_of(structures: Structures, settings: Evolve) -> Array:
    """Return the parameters (n, k) that dynamics are given of each frame."""
    columns = [structures.properties[name] for name in settings.parameters]
    return np.stack(columns, axis=1) if columns else np.zeros((len(structures), 0))


@dataclass(frozen=True, eq=False)
class Frames:
    """What dynamics are fitted to: fields (n, d, *sites), values (n, *grid), times (n,) and parameters (n, k)."""

    fields: Tensor
    values: Tensor
    times: Tensor
    parameters: Tensor


@dataclass(frozen=True, eq=False)
class Fitting:
    """A fitting of the dynamics of one direction. limit: called after every epoch; raises where time is over."""

    code: Code
    dynamics: LatentDynamics
    frames: Frames
    settings: Evolve
    limit: Callable[[], None]
    report: Report

    def run(self, pairs: Array, *, forward: bool, seed: int) -> None:
        """Fit the network of a direction to pairs (m, 2) of rows, earlier and later."""
        network = self.dynamics.network(forward=forward)
        rows = pairs if forward else pairs[:, ::-1].copy()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if isinstance(network, GaussianProcess):
                self._condition(network, rows)
            else:
                self._descend(network, rows, seed)

    def _condition(self, network: GaussianProcess, rows: Array) -> None:
        chosen = torch.as_tensor(rows[torch.randperm(len(rows))[:256].numpy()])
        start, end, z, after, known = self._batch(chosen)
        step = octaves(start, end).reshape(-1, *(1,) * (z.ndim - 1))
        network.fit(z, (after - z) / step, start, known)

    def _descend(self, network: nn.Module, rows: Array, seed: int) -> None:
        settings = self.settings
        rng = np.random.default_rng(seed)
        per_epoch = max(1, len(self.frames.times) // settings.batch_size)
        total = settings.epochs * per_epoch
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-3)
        for step in range(total):
            rate = min(1.0, (step + 1) / (0.03 * total + 1)) * (
                0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / total))
            )
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * rate
            chosen = torch.as_tensor(rows[rng.integers(0, len(rows), settings.batch_size)])
            loss = self._loss(network, chosen, rng)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            if (step + 1) % per_epoch == 0:
                self.limit()
                self.report((step + 1) // per_epoch, settings.epochs, f"loss {loss.item():.3g}")

    def _batch(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        frames, first, last = self.frames, chosen[:, 0], chosen[:, 1]
        return (
            frames.times[first], frames.times[last], frames.fields[first], frames.fields[last],
            frames.parameters[first],
        )  # fmt: skip

    def _loss(self, network: nn.Module, chosen: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the squared error of latents and decoded frames, at a random shift."""
        start, end, z, after, known = self._batch(chosen)
        truth = self.frames.values[chosen[:, 1]]
        z, after, truth = self._shifted(z, after, truth, rng)
        found = network(z, start, end, known)
        loss: Tensor = (found - after).square().mean()
        if self.settings.decoded:
            decoded = self.code.values(self.dynamics.plain(found))
            loss = 0.2 * loss + self.settings.decoded * (decoded - truth).square().mean()
        if isinstance(network, Flow):
            rest = (after - found).detach()
            loss = loss + 0.1 * network.negative_log_likelihood(rest, (z, start, end, known))
        return loss

    def _shifted(
        self, z: Tensor, after: Tensor, truth: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch moved by the same random number of sites along periodic axes."""
        axes = [a for a, periodic in enumerate(self.dynamics.periodic) if periodic]
        if not axes or not self.code.sites:
            return z, after, truth
        shifts = [int(rng.integers(self.dynamics.sites[a])) for a in axes]
        voxels = [s * truth.shape[a + 1] // self.dynamics.sites[a] for s, a in zip(shifts, axes, strict=True)]
        sites, pixels = [a + 2 for a in axes], [a + 1 for a in axes]
        return z.roll(shifts, sites), after.roll(shifts, sites), truth.roll(voxels, pixels)


def fit_dynamics(
    code: Code, structures: Structures, series: Series, settings: Evolve, *, train: Array, calibrate: Array, seed: int,
    limit: Callable[[], None], report: Report, backward: bool = True,
) -> LatentDynamics:  # fmt: skip
    """Return dynamics fitted to the simulations that are trained on; what is left is that of calibration ones."""
    torch.manual_seed(seed_of(seed, "dynamics"))
    dynamics, latents = LatentDynamics(code, settings), code.encode(structures)
    inside = np.concatenate([series.rows[k] for k in train])
    _standardise(dynamics, latents[inside], structures[inside], settings)
    frames = Frames(
        dynamics.standardised(latents),
        torch.as_tensor(structures.values[:, 0].astype(np.float32)),
        (torch.as_tensor(structures.properties[TIME].copy()) / dynamics.reference).float(),
        dynamics.known(parameters_of(structures, settings)),
    )
    pairs = series.pairs(settings.ratio)
    for forward in (True, False) if backward else (True,):
        direction = "forward" if forward else "backward"
        fitting = Fitting(code, dynamics, frames, settings, limit, report)
        fitting.run(pairs[np.isin(pairs[:, 0], inside)], forward=forward, seed=seed_of(seed, direction))
    outside = np.concatenate([series.rows[k] for k in calibrate])
    _keep_rests(dynamics, frames, pairs[np.isin(pairs[:, 0], outside)], seed)
    return dynamics.eval()


def _standardise(dynamics: LatentDynamics, latents: Array, structures: Structures, settings: Evolve) -> None:
    fields = torch.as_tensor(latents).float().reshape(-1, dynamics.latents, *dynamics.sites)
    axes = [0, *range(2, fields.ndim)]
    dynamics.centre.copy_(fields.mean(dim=axes).reshape(dynamics.centre.shape))
    dynamics.scale.copy_(fields.std(dim=axes).clamp_min(1e-6).reshape(dynamics.scale.shape))
    dynamics.reference.fill_(float(np.exp(np.log(structures.properties[TIME]).mean())))
    known = parameters_of(structures, settings)
    spread = known.std(axis=0)
    dynamics.parameter_centre.copy_(torch.as_tensor(known.mean(axis=0)))
    dynamics.parameter_scale.copy_(torch.as_tensor(np.where(spread > 1e-12 * np.abs(known).mean(axis=0), spread, 1.0)))


@torch.no_grad()
def _keep_rests(dynamics: LatentDynamics, frames: Frames, pairs: Array, seed: int) -> None:
    """Keep what the dynamics leave unexplained of pairs (m, 2), per square root of an octave."""
    chosen = np.random.default_rng(seed_of(seed, "rests")).permutation(len(pairs))[:POOL]
    for direction, rows in enumerate((pairs[chosen], pairs[chosen][:, ::-1].copy())):
        for k, (first, last) in enumerate(rows.tolist()):
            start, end = frames.times[[first]], frames.times[[last]]
            network = dynamics.network(forward=direction == 0)
            found = network(frames.fields[[first]], start, end, frames.parameters[[first]])
            dynamics.rests[direction, k] = (frames.fields[last] - found[0]) / octaves(start, end).abs().sqrt()
        dynamics.counts[direction] = len(rows)
