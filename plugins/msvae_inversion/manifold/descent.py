"""Riemannian gradient descent on charts: steps along G^-1 grad, a retraction to the chart, and changes of chart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from msvae_inversion.manifold.charts import ImageCharts

__all__ = ["Found", "Objective", "Pushed", "data_metric", "derivatives", "descend", "place_of"]

Objective = Callable[[Tensor], Tensor]  # of an image (p,)
Pushed = Callable[[Tensor, Tensor], Tensor]  # of an image (p,) and directions (d, p): derivatives of data (m, d)
Metric = Callable[[int, Tensor], Tensor]  # of latents (d,) in a chart
Moved = tuple[int, Tensor, float]  # a chart, latents in it, and the objective there
ARMIJO, HALVINGS, LONGEST = 1e-4, 12, 64.0
LEAST, STALLED = 1e-4, 4  # the fall of an objective that counts, as a share of it; steps without one that end a descent
FAR = 0.3  # by how much, as a share, an objective may be higher where a step in another chart begins
AGREE = 1e-2  # by how much, as a share, an objective may rise where another chart describes the same image
EDGE = 0.98  # of a chart's reach, from which a step in another chart is tried too
AHEAD = (4.0, 1.0, 0.25)  # lengths of steps in the space of images, which are projected onto all charts


@dataclass(frozen=True)
class Found:
    """Where a descent has ended. chart, latents (d,): the place. values: of the objective, after each step.

    changes: of chart. reached: whether the objective has fallen to the level at which data are explained.
    """

    chart: int
    latents: Tensor
    values: tuple[float, ...]
    changes: int
    reached: bool


@torch.no_grad()
def place_of(charts: ImageCharts, image: Tensor) -> tuple[int, Tensor]:
    """Return the chart that is most responsible for an image (p,), and its latents (d,) there: the projection."""
    k = int(charts.log_joint(charts.components(image[None]))[0].argmax())
    return k, charts.inside(k, charts.encode(k, image[None]))[0]


def descend(
    charts: ImageCharts,
    objective: Objective,
    start: tuple[int, Tensor],
    *,
    steps: int,
    level: float,
    metric: Metric | None = None,
) -> Found:
    """Minimise an objective of images on the charts from a place, until it is at most `level` (Morozov).

    A step is z - t G^-1 grad with G = J^T J; t is halved until the objective falls (Armijo), and doubled after a step
    that needed no halving. Where another chart is more responsible for the image, the descent goes on there. Where no
    step in the chart lowers the objective, steps in the space of images are tried, projected onto every chart.
    metric: G (d, d) at latents of a chart, if not the metric of images; that of `data_metric` has steps of 1.
    """
    (k, z), length, values, changes, stalled = start, 1.0, [], 0, 0
    values.append(_value(charts, objective, k, z))
    for _ in range(steps):
        if values[-1] <= level or stalled >= STALLED:
            break
        slope, images_slope = _slopes(charts, objective, k, z)
        moved, length = _lower(charts, objective, (k, z), (values[-1], length, metric), slope)
        if moved is None or float(moved[1].norm()) > EDGE * float(charts.reach[k]):
            moved = _elsewhere(charts, objective, (k, z), (values[-1], metric), moved)
        if moved is None:
            moved = _across(charts, objective, charts.decode(k, z[None])[0], images_slope, values[-1])
        if moved is None:
            break
        stalled = stalled + 1 if moved[2] > (1 - LEAST) * values[-1] else 0
        place = _best_chart(charts, objective, moved)
        changes += place[0] != k
        k, z = place[0], place[1]
        values.append(place[2])
    return Found(k, z, tuple(values), changes, values[-1] <= level)


@torch.no_grad()
def derivatives(charts: ImageCharts, pushed: Pushed, k: int, z: Tensor) -> Tensor:
    """Return the derivatives (m, d) of data by latents (d,) of chart k."""
    directions = charts.jacobian(k, z[None])[0].T @ charts.basis
    return pushed(charts.decode(k, z[None])[0], directions)


def data_metric(charts: ImageCharts, pushed: Pushed, noise: float) -> Metric:
    """Return the metric of data, pulled back to latents: the matrix of Gauss and Newton for half a mean squared misfit.

    The identity over the number of data is added, the inverse covariance of the latents.
    """

    def metric(k: int, z: Tensor) -> Tensor:
        jacobian = derivatives(charts, pushed, k, z) / noise
        return (jacobian.T @ jacobian + torch.eye(len(z), dtype=z.dtype)) / len(jacobian)

    return metric


@torch.no_grad()
def _value(charts: ImageCharts, objective: Objective, k: int, z: Tensor) -> float:
    return float(objective(charts.decode(k, z[None])[0]))


def _slopes(charts: ImageCharts, objective: Objective, k: int, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients by the latents (d,) and by the image (p,)."""
    latents = z.detach().clone().requires_grad_()
    image = charts.decode(k, latents[None])[0]
    slope, images_slope = torch.autograd.grad(objective(image), [latents, image])
    return slope, images_slope


@torch.no_grad()
def _lower(
    charts: ImageCharts,
    objective: Objective,
    place: tuple[int, Tensor],
    before: tuple[float, float, Metric | None],
    slope: Tensor,
) -> tuple[Moved | None, float]:
    """Return a lower place in the same chart, or None; and the length with which the next step begins.

    before: the objective at the place, the length of the step, and the metric if it is not that of images.
    """
    (k, z), (value, length, given) = place, before
    metric = charts.metric(k, z[None])[0] if given is None else given(k, z)
    metric = metric + 1e-9 * metric.diagonal().mean() * torch.eye(len(z), dtype=metric.dtype)
    direction = torch.linalg.solve(metric, slope)
    fall = float(slope @ direction)
    # with the metric of images, a step of 1 reaches 0 where the objective is linear
    scale = value / fall if given is None and fall > 0 else 1.0
    for halving in range(HALVINGS):
        moved = charts.inside(k, z - length * scale * direction)
        found = _value(charts, objective, k, moved)
        if found < value - ARMIJO * length * scale * fall and found < value:
            return (k, moved, found), min(LONGEST, 2 * length if given is None else 1.0) if halving == 0 else length
        length /= 2
    return None, 1.0


def _elsewhere(
    charts: ImageCharts,
    objective: Objective,
    place: tuple[int, Tensor],
    before: tuple[float, Metric | None],
    otherwise: Moved | None,
) -> Moved | None:
    """Return the lowest of what a step in every other chart leads to from the same image, and of what is known."""
    best, (k, z), (value, metric) = otherwise, place, before
    image = charts.decode(k, z[None])
    for j in (j for j in range(charts.shape.charts) if j != k):
        start = charts.inside(j, charts.encode(j, image))[0]
        here = _value(charts, objective, j, start)
        if here > (1 + FAR) * value:
            continue
        slope = _slopes(charts, objective, j, start)[0]
        moved, _ = _lower(charts, objective, (j, start), (here, 1.0, metric), slope)
        if moved is not None and moved[2] < (1 - LEAST) * (value if best is None else best[2]):
            best = moved
    return best


@torch.no_grad()
def _across(charts: ImageCharts, objective: Objective, image: Tensor, slope: Tensor, value: float) -> Moved | None:
    """Return the lowest of steps in the space of images, projected onto every chart; None if none is lower."""
    scale = value / float(slope @ slope) if float(slope @ slope) > 0 else 1.0
    best = None
    for part in AHEAD:
        for k in range(charts.shape.charts):
            z = charts.inside(k, charts.encode(k, (image - part * scale * slope)[None]))[0]
            found = _value(charts, objective, k, z)
            if found < (1 - LEAST) * (value if best is None else best[2]):
                best = (k, z, found)
    return best


@torch.no_grad()
def _best_chart(charts: ImageCharts, objective: Objective, place: Moved) -> Moved:
    """Return the same image in the chart that is most responsible for it, if the objective is about the same there."""
    k, z, value = place
    if charts.shape.charts == 1:
        return place
    j, moved = place_of(charts, charts.decode(k, z[None])[0])
    if j == k:
        return place
    found = _value(charts, objective, j, moved)
    return (j, moved, found) if found <= (1 + AGREE) * value else place
