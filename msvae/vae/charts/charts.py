"""A manifold as a mixture of charts: decoders that are injective, each with an exact left inverse.

    x = T_k([z, t]),  z ~ N(0, I) along the manifold,  t ~ N(0, thickness^2) across it,  k with probability alpha_k

A single chart of normal latents can represent neither a ring nor two separate pieces; several charts can (Alberti,
Hertrich, Santacesaria and Sciutto 2024, J. Mach. Learn. Res. 25, 202). Here every T_k is an invertible network of the
data space, trained by the
likelihood of the mixture: D_k(z) = T_k([z, 0]) has the left inverse E_k(x) = the first components of T_k^-1(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from msvae.errors import DataError
from msvae.seeds import seed_of
from msvae.structures import Array

__all__ = ["ANCHORS", "Charts"]

TRANSFORMS, HIDDEN, BINS = 8, (32, 32), 8
THICKNESS = 0.05
ANCHORS = 1000
HALVINGS, LOOK = 8, 10  # of a step of descent; steps after which another chart is looked for
LEAST = 1e-5  # part by which a step has to lower an objective
AHEAD, FAR_AHEAD = (2.0, 1.0, 0.3), (10.0, 5.0, 2.5, 1.2, 0.6, 0.3)  # lengths of steps across charts
NEAREST, STEP = 6, 1e-5  # Gauss-Newton steps, and the differences of their Jacobian
Place = tuple[int, Tensor]  # a chart, and latents in it


class Charts(nn.Module):
    """K charts of d dimensions of a manifold in n dimensions.

    anchors: (K, m, d), latents of training data that each chart explains. gaps: (K,), the largest distance from all
    anchors at which a chart is still trusted; beyond it the chart extrapolates.
    """

    centre: Tensor
    turn: Tensor
    anchors: Tensor
    gaps: Tensor

    def __init__(self, count: int, dimensions: int, ambient: int) -> None:
        super().__init__()
        import zuko

        if not 0 < dimensions <= ambient or count < 1:
            raise DataError(f"charts of {dimensions} dimensions in {ambient}, {count} of them: none can be made")
        self.dimensions, self.ambient = dimensions, ambient
        self.maps = nn.ModuleList(
            zuko.flows.NSF(
                ambient, transforms=TRANSFORMS, hidden_features=HIDDEN, bins=BINS, passes=2, randperm=True
            ).double()
            for _ in range(count)
        )
        self.logits = nn.Parameter(torch.zeros(count, dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(count, ambient, dtype=torch.float64))
        self.register_buffer("turn", torch.eye(ambient, dtype=torch.float64).repeat(count, 1, 1))
        self.register_buffer("anchors", torch.zeros(count, ANCHORS, dimensions, dtype=torch.float64))
        self.register_buffer("gaps", torch.full((count,), math.inf, dtype=torch.float64))

    def decode(self, k: int, latents: Tensor) -> Tensor:
        """Return the points (m, n) of latents (m, d) in chart k."""
        across = torch.zeros(*latents.shape[:-1], self.ambient - self.dimensions, dtype=latents.dtype)
        inner = self.maps[k]().transform.inv(torch.cat([latents, across], dim=-1))
        return torch.linalg.solve(self.turn[k].T, inner.mT).mT + self.centre[k]  # type: ignore[no-any-return]

    def encode(self, k: int, points: Tensor) -> Tensor:
        """Return the latents (m, d) of points (m, n) in chart k: the exact left inverse of `decode`."""
        return self._straight(k, points)[0][..., : self.dimensions]

    def log_joint(self, points: Tensor) -> Tensor:
        """Return log alpha_k + log p_k(x) (m, K) of points (m, n)."""
        return torch.stack([self._log_density(k, points) for k in range(len(self.maps))], dim=1) + torch.log_softmax(
            self.logits, dim=0
        )

    def project(self, points: Array) -> Array:
        """Return the nearest points (m, n) of the manifold, found by Gauss-Newton from each chart's E_k."""
        x = torch.as_tensor(points, dtype=torch.float64)
        with torch.no_grad():
            found = torch.stack([self.decode(k, self._nearest(k, x)) for k in range(len(self.maps))])
            best = (found - x).norm(dim=2).argmin(dim=0)
            return np.asarray(found[best, torch.arange(len(x))])

    def _nearest(self, k: int, points: Tensor) -> Tensor:
        """Return the latents (m, d) of the points of chart k nearest to the given points."""
        z = self._inside(k, self.encode(k, points))
        distance = (self.decode(k, z) - points).norm(dim=1)
        for _ in range(NEAREST):
            shifts = STEP * torch.eye(self.dimensions, dtype=z.dtype)[:, None]
            around = self.decode(k, torch.cat([z[None], z + shifts, z - shifts]))  # one call costs as much as one point
            ahead, behind = around[1:].chunk(2)
            jacobian = ((ahead - behind) / (2 * STEP)).permute(1, 2, 0)
            step = torch.linalg.lstsq(jacobian, (points - around[0])[:, :, None]).solution[:, :, 0]
            for part in (1.0, 0.3):
                moved = self._inside(k, z + part * step)
                there = (self.decode(k, moved) - points).norm(dim=1)
                z = torch.where((there < distance)[:, None], moved, z)
                distance = torch.minimum(distance, there)
        return z

    def _inside(self, k: int, latents: Tensor) -> Tensor:
        """Return latents (m, d); those outside the region that chart k covers are moved back to its edge."""
        far, nearest = torch.cdist(latents, self.anchors[k]).min(dim=1)
        anchor = self.anchors[k][nearest]
        part = torch.clamp(self.gaps[k] / far.clamp_min(1e-300), max=1.0)[:, None]
        return torch.where(part < 1, anchor + part * (latents - anchor), latents)

    def sample(self, count: int, seed: int) -> Array:
        """Return points (count, n) of the manifold."""
        generator = torch.Generator().manual_seed(seed_of(seed, "charts"))
        with torch.no_grad():
            chosen = torch.multinomial(torch.softmax(self.logits, 0), count, replacement=True, generator=generator)
            points = torch.zeros(count, self.ambient, dtype=torch.float64)
            for k in range(len(self.maps)):
                points[chosen == k] = self.decode(k, self._latents(int((chosen == k).sum()), k, generator))
            return np.asarray(points)

    def descend(
        self, objective: Callable[[Tensor], Tensor], start: Array, *, steps: int = 200, length: float = 0.1
    ) -> Array:
        """Minimise an objective on the manifold by Riemannian gradient descent; return the point (n,) reached.

        Within a chart a step is z - length G^-1 grad with G = J^T J; it is halved until it lowers the objective
        (Armijo). At intervals, and at the edge of a chart, the step is taken in the ambient space and projected onto
        the nearest chart. Longer steps are tried where no nearby point is lower, because charts are uneven at their
        edges.
        """
        (place,) = self._closest(torch.as_tensor(np.asarray(start), dtype=torch.float64)[None])
        for step in range(steps):
            moved = self._lower(objective, place, length)
            if moved is None or step % LOOK == 0:
                moved = self._across(objective, place, length, moved)
            if moved is None:
                break
            place = moved
        return np.asarray(self.point(place).detach())

    def point(self, place: Place) -> Tensor:
        """Return the point (n,) of latents (d,) in a chart."""
        k, z = place
        return self.decode(k, z[None])[0]

    @torch.no_grad()
    def _closest(self, points: Tensor) -> list[Place]:
        """Return the chart nearest to each of points (m, n), and the latents of the nearest point in it."""
        latents = [self._nearest(k, points) for k in range(len(self.maps))]
        far = torch.stack([(self.decode(k, z) - points).norm(dim=1) for k, z in enumerate(latents)])
        return [(k, latents[k][i]) for i, k in enumerate(far.argmin(dim=0).tolist())]

    def _across(
        self, objective: Callable[[Tensor], Tensor], place: Place, length: float, otherwise: Place | None
    ) -> Place | None:
        """Take a step in the ambient space, projected onto the manifold; return the place if it is lower."""
        value, slope, here = self._slope(objective, place)
        with torch.no_grad():
            best = value if otherwise is None else float(objective(self.point(otherwise)))
            parts = torch.tensor(AHEAD if otherwise else FAR_AHEAD, dtype=here.dtype)
            for found in self._closest(here - parts[:, None] * length * slope):
                if float(objective(self.point(found))) < best - LEAST * abs(best):
                    return found
        return otherwise

    def _slope(self, objective: Callable[[Tensor], Tensor], place: Place) -> tuple[float, Tensor, Tensor]:
        """Return an objective's value at a place, its gradient (n,) in the ambient space, and the point (n,)."""
        here = self.point(place).detach().requires_grad_()
        value = objective(here)
        (slope,) = torch.autograd.grad(value, here)
        return value.item(), slope, here.detach()

    def _lower(self, objective: Callable[[Tensor], Tensor], place: Place, length: float) -> Place | None:
        """Return latents in the same chart with a lower objective, or None."""
        k, z = place
        jacobian = torch.autograd.functional.jacobian(lambda v: self.decode(k, v[None])[0], z)
        value, slope, _ = self._slope(objective, place)
        direction = torch.linalg.lstsq(jacobian.T @ jacobian, (jacobian.T @ slope)[:, None]).solution[:, 0]
        fall = float(slope @ jacobian @ direction)
        with torch.no_grad():
            for _ in range(HALVINGS):
                moved = self._inside(k, (z - length * direction)[None])[0]
                least = max(1e-4 * length * fall, LEAST * abs(value))
                if float(objective(self.point((k, moved)))) < value - least:
                    return k, moved
                length /= 2
        return None

    def _latents(self, count: int, k: int, generator: torch.Generator) -> Tensor:
        """Return normally distributed latents (count, d) within the region of chart k covered by training data."""
        z = torch.randn(8 * count + 64, self.dimensions, dtype=torch.float64, generator=generator)
        return z[torch.cdist(z, self.anchors[k]).amin(dim=1) <= self.gaps[k]][:count]

    def _straight(self, k: int, points: Tensor) -> tuple[Tensor, Tensor]:
        inner, slope = self.maps[k]().transform.call_and_ladj((points - self.centre[k]) @ self.turn[k])
        return inner, slope + torch.linalg.slogdet(self.turn[k])[1]

    @torch.no_grad()
    def start(self, k: int, points: Tensor) -> None:
        """Initialise chart k along the principal directions of points (m, n), with one scale for all of them."""
        self.centre[k] = points.mean(dim=0)
        rest = points - self.centre[k]
        values, vectors = torch.linalg.eigh(rest.T @ rest / len(rest))
        self.turn[k] = vectors.flip(1) / values.max().clamp_min(1e-300).sqrt()

    def _log_density(self, k: int, points: Tensor) -> Tensor:
        inner, slope = self._straight(k, points)
        along, across = inner[:, : self.dimensions], inner[:, self.dimensions :] / THICKNESS
        size = 0.5 * ((along**2).sum(dim=1) + (across**2).sum(dim=1) + self.ambient * math.log(2 * math.pi))
        return slope - size - (self.ambient - self.dimensions) * math.log(THICKNESS)
