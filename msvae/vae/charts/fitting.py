"""Fits charts to a set of points: initialisation, then training by the likelihood of the mixture."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from msvae.errors import DataError
from msvae.seeds import seed_of
from msvae.structures import Array
from msvae.vae.charts.charts import ANCHORS, Charts

__all__ = ["fit_charts"]

LAYING, EPOCHS, BATCH, RATE = 700, 20, 256, 5e-3  # steps with points held to their flat map, then epochs of the mixture
NEIGHBOURS, LANDMARKS, STARTS = 10, 1000, 5  # of the graph along which ways are measured; tries of the medoids
AROUND = 1.1  # how far beyond its cell a chart is laid
SHARED, GAP = 2.0, 1.2  # nats within which a point is explained as well; of the usual gap between anchors


def fit_charts(points: Array, count: int, dimensions: int, *, seed: int) -> Charts:
    """Return charts of the manifold near which points (m, n) lie; DataError if there are too few points.

    Each chart is first fitted to a flat map (Isomap; Tenenbaum et al. 2000, Science 290, 2319) of the points around its
    centre, which overlap with those of its neighbours. All charts are then trained together by the likelihood of their
    mixture.
    """
    if points.ndim != 2 or len(points) < 20 * count or not np.isfinite(points).all():
        raise DataError(f"{count} charts need at least {20 * count} finite points (m, n), found {points.shape}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "charts"))
        charts = Charts(count, dimensions, points.shape[1])
        x = torch.as_tensor(points, dtype=torch.float64)
        for k, around in enumerate(neighbourhoods(points, count, seed)):
            charts.start(k, x[around])
            seen = (x[around] - charts.centre[k]) @ charts.turn[k]
            flat = flat_map(points[around], seen[:, :dimensions].numpy())
            _lay(charts, k, x[around], torch.as_tensor(flat))
        _train(charts, x)
        _bound(charts, x)
    return charts.eval()


@torch.no_grad()
def _bound(charts: Charts, x: Tensor) -> None:
    """Set from points (m, n) the extent of each chart: the region where it explains them about as well as any other."""
    joint = charts.log_joint(x)
    best = joint.max(dim=1).values
    for k in range(len(charts.maps)):
        z = charts.encode(k, x[joint[:, k] >= best - SHARED])
        if len(z) < 3:
            charts.logits[k] = -math.inf  # a chart of nothing
            continue
        charts.anchors[k] = z[torch.arange(ANCHORS) * max(len(z), ANCHORS) // ANCHORS % len(z)]
        apart = torch.cdist(charts.anchors[k], charts.anchors[k])
        charts.gaps[k] = GAP * torch.where(apart > 0, apart, math.inf).amin(dim=1).quantile(0.9)


def neighbourhoods(points: Array, count: int, seed: int) -> list[Array]:
    """Return for each of `count` charts the indices of the points around its centre, by geodesic distance.

    Centres are medoids under geodesic distance (along the nearest-neighbour graph). This keeps cells compact: discs,
    rather than bands around a whole tube, which would have a hole. A neighbourhood extends slightly beyond its cell.
    """
    from scipy.sparse.csgraph import shortest_path
    from sklearn.neighbors import NearestNeighbors, kneighbors_graph

    rng = np.random.default_rng(seed_of(seed, "neighbourhoods"))
    few = np.sort(rng.permutation(len(points))[:LANDMARKS])
    graph = kneighbors_graph(points[few], min(NEIGHBOURS, len(few) - 1), mode="distance")
    ways = shortest_path(graph, directed=False)
    ways[np.isinf(ways)] = 10 * ways[np.isfinite(ways)].max()
    centres = min(
        (_medoids(ways, count, rng) for _ in range(STARTS)), key=lambda c: float((ways[c].min(axis=0) ** 2).sum())
    )
    far = ways[centres]
    inside = far <= AROUND * far.min(axis=0) + ways[ways > 0].min()
    nearest = NearestNeighbors(n_neighbors=1).fit(points[few]).kneighbors(points, return_distance=False)[:, 0]
    return [np.flatnonzero(row[nearest]) for row in inside]


def _medoids(ways: Array, count: int, rng: np.random.Generator) -> Array:
    """Return the indices of `count` medoids of a matrix of distances, by Lloyd's iteration from distant points."""
    centres = [int(rng.integers(len(ways)))]
    while len(centres) < count:
        centres.append(int(ways[centres].min(axis=0).argmax()))
    for _ in range(50):
        cell = ways[centres].argmin(axis=0)
        members = [np.flatnonzero(cell == k) for k in range(count)]
        moved = [int(m[(ways[np.ix_(m, m)] ** 2).sum(axis=1).argmin()]) for m in members]
        if moved == centres:
            break
        centres = moved
    return np.array(centres)


def flat_map(points: Array, seen: Array) -> Array:
    """Return coordinates (m, d) of unit mean square whose distances approximate the geodesic ones.

    They are rotated or mirrored to match the points' present coordinates (m, d) as closely as possible, because
    monotone splines can hardly learn to mirror an axis.
    """
    from sklearn.manifold import Isomap

    few = points[:: -(-len(points) // LANDMARKS)]
    isomap = Isomap(n_neighbors=min(NEIGHBOURS, len(few) - 1), n_components=seen.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pieces that hang together nowhere are joined where they are nearest
        flat = isomap.fit(few).transform(points)
    flat = flat - flat.mean(axis=0)
    left, _, right = np.linalg.svd(flat.T @ seen)
    return np.asarray(flat @ left @ right / np.sqrt((flat**2).mean()))


def _lay(charts: Charts, k: int, x: Tensor, flat: Tensor) -> None:
    """Train chart k to map coordinates (m, d) to points (m, n), and offsets from the chart to its normals."""
    optimiser = torch.optim.Adam(charts.maps[k].parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, LAYING)
    unit = torch.linalg.matrix_norm(charts.turn[k], ord=2)
    for _ in range(LAYING):
        chosen = torch.randint(len(x), (BATCH,))
        inner, _ = charts._straight(k, x[chosen])
        along = (inner[:, : charts.dimensions] - flat[chosen]).square().sum(dim=1).mean()
        across = inner[:, charts.dimensions :].square().sum(dim=1).mean()
        missed = (unit * (charts.decode(k, flat[chosen]) - x[chosen])).square().sum(dim=1).mean()
        optimiser.zero_grad()
        (along + across + missed).backward()
        torch.nn.utils.clip_grad_norm_(charts.parameters(), 5.0)
        optimiser.step()
        schedule.step()


def _train(charts: Charts, x: Tensor) -> None:
    optimiser = torch.optim.Adam(charts.parameters(), lr=RATE / 2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(x)).split(BATCH):
            loss = -torch.logsumexp(charts.log_joint(x[chosen]), dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(charts.parameters(), 5.0)
            optimiser.step()
        schedule.step()
