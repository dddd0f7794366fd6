"""Charts of a manifold of images: decoders with exact left inverses over principal components.

    x = mean + basis (centre_k + turn_k T_k([z, 0])),   z ~ N(0, I),   k with probability alpha_k

T_k is an invertible network of additive couplings (Dinh, Krueger and Bengio 2014, arXiv:1410.8516) that starts as the
identity, so that a chart starts as the principal components of its images. D_k(z) has the exact left inverse E_k(x),
the first components of T_k^-1, as in Alberti, Hertrich, Santacesaria and Sciutto 2024, J. Mach. Learn. Res. 25, 202.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["ImageCharts", "Shape", "charts_from_bytes", "charts_to_bytes"]


@dataclass(frozen=True)
class Shape:
    """Numbers of charts, of their dimensions, of principal components, of pixels; and the width of the networks."""

    charts: int
    dimensions: int
    components: int
    pixels: int
    width: int


class Coupling(nn.Module):
    """Adds to the coordinates of one part a function of those of the other. Starts as the identity."""

    def __init__(self, given: int, moved: int, width: int) -> None:
        super().__init__()
        last = nn.Linear(width, moved)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.Linear(given, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)

    def forward(self, given: Tensor) -> Tensor:
        return self.net(given)  # type: ignore[no-any-return]

    def pushed(self, given: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values (m, b) and derivatives (m, d, b) along tangents (m, d, a) of what is given (m, a)."""
        for layer in self.net:
            if isinstance(layer, nn.Linear):
                tangents = tangents @ layer.weight.T
            else:
                sigmoid = torch.sigmoid(given)
                tangents = tangents * (sigmoid * (1 + given * (1 - sigmoid)))[:, None]
            given = layer(given)
        return given, tangents


class Map(nn.Module):
    """An invertible network of coordinates along (d) and across (n - d) a chart."""

    def __init__(self, dimensions: int, components: int, width: int) -> None:
        super().__init__()
        along, across = dimensions, components - dimensions
        self.raised, self.moved, self.bent = (
            Coupling(along, across, width),
            Coupling(across, along, width),
            Coupling(along, across, width),
        )

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coordinates along and across of latents (m, d), with zeros across."""
        across = self.raised(z)
        along = z + self.moved(across)
        return along, across + self.bent(along)

    def tangents(self, z: Tensor, directions: Tensor) -> Tensor:
        """Return the derivatives (m, d, n) of `decode` along directions (m, d, d) of latents (m, d)."""
        across, raised = self.raised.pushed(z, directions)
        moved, turned = self.moved.pushed(across, raised)
        bent = self.bent.pushed(z + moved, directions + turned)[1]
        return torch.cat([directions + turned, raised + bent], dim=-1)

    def encode(self, along: Tensor, across: Tensor) -> Tensor:
        """Return the latents (m, d) of coordinates."""
        return along - self.moved(across - self.bent(along))  # type: ignore[no-any-return]


class ImageCharts(nn.Module):
    """K charts of d dimensions of images of p pixels.

    mean: (p,). basis: (n, p), orthonormal. centre: (K, n), turn: (K, n, n) orthonormal, size: (K,) of the coordinates.
    shift: (K, d), spread: (K, d, d), which make the latents of a chart's images standard normal. reach: (K,), the
    norm of latents within which a chart is trusted. error: (K,), deviation of its images from the chart, in each
    component. weights: (K,), log alpha. rest: (p,), deviation of unseen images from all charts, pixel by pixel.
    """

    mean: Tensor
    basis: Tensor
    centre: Tensor
    turn: Tensor
    size: Tensor
    shift: Tensor
    spread: Tensor
    reach: Tensor
    error: Tensor
    weights: Tensor
    rest: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        k, d, n, p = shape.charts, shape.dimensions, shape.components, shape.pixels
        self.maps = nn.ModuleList(Map(d, n, shape.width) for _ in range(k))
        for name, size in {"mean": (p,), "basis": (n, p), "centre": (k, n), "shift": (k, d), "weights": (k,),
                           "rest": (p,)}.items():  # fmt: skip
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("turn", torch.eye(n).repeat(k, 1, 1))
        self.register_buffer("spread", torch.eye(d).repeat(k, 1, 1))
        for name in ("size", "reach", "error"):
            self.register_buffer(name, torch.ones(k))

    def components(self, images: Tensor) -> Tensor:
        """Return the principal components (m, n) of images (m, p)."""
        return (images - self.mean) @ self.basis.T

    def image(self, components: Tensor) -> Tensor:
        """Return the images (m, p) of principal components (m, n)."""
        return self.mean + components @ self.basis

    def decoded(self, k: int, latents: Tensor) -> Tensor:
        """Return the principal components (m, n) of latents (m, d) in chart k."""
        return self._placed(k, torch.cat(self._map(k).decode(latents @ self.spread[k] + self.shift[k]), dim=-1))

    def decode(self, k: int, latents: Tensor) -> Tensor:
        """Return the images (m, p) of latents (m, d) in chart k."""
        return self.image(self.decoded(k, latents))

    def encoded(self, k: int, components: Tensor) -> Tensor:
        """Return the latents (m, d) of principal components (m, n): the exact left inverse of `decoded`."""
        raw = self._map(k).encode(*self.split(k, components))
        return torch.linalg.solve(self.spread[k].T, (raw - self.shift[k]).mT).mT  # type: ignore[no-any-return]

    def encode(self, k: int, images: Tensor) -> Tensor:
        """Return the latents (m, d) of images (m, p) in chart k: the exact left inverse of `decode`."""
        return self.encoded(k, self.components(images))

    def split(self, k: int, components: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coordinates along and across chart k of principal components (m, n)."""
        own = (components - self.centre[k]) @ self.turn[k] / self.size[k]
        return own[..., : self.shape.dimensions], own[..., self.shape.dimensions :]

    def log_joint(self, components: Tensor) -> Tensor:
        """Return log alpha_k + log p_k (m, K) of principal components (m, n), without constants that charts share.

        p_k is the chart's normal latents along it, and its error across it.
        """
        found = []
        for k in range(self.shape.charts):
            z = self.inside(k, self.encoded(k, components))
            far = ((components - self.decoded(k, z)) ** 2).sum(dim=1)
            across = self.shape.components - self.shape.dimensions
            size = far / (2 * self.error[k] ** 2) + across * self.error[k].log()
            found.append(self.weights[k] - size - 0.5 * (z**2).sum(dim=1) - self.volume(k, z))
        return torch.stack(found, dim=1)

    def volume(self, k: int, latents: Tensor) -> Tensor:
        """Return log sqrt det G (m,), with the metric G = J^T J, at latents (m, d) of chart k."""
        metric = self.metric(k, latents)
        return 0.5 * torch.linalg.slogdet(metric)[1]  # type: ignore[no-any-return]

    def metric(self, k: int, latents: Tensor) -> Tensor:
        """Return J^T J (m, d, d) of the decoder at latents (m, d) of chart k: the metric of pixels."""
        jacobian = self.jacobian(k, latents)
        return jacobian.mT @ jacobian

    def jacobian(self, k: int, latents: Tensor) -> Tensor:
        """Return the derivatives (m, n, d) of principal components by latents (m, d) of chart k."""
        raw = latents @ self.spread[k] + self.shift[k]
        tangents = self._map(k).tangents(raw, self.spread[k].expand(len(latents), -1, -1))
        return (self.size[k] * tangents @ self.turn[k].T).mT

    def responsibilities(self, images: Tensor) -> Tensor:
        """Return the probability (m, K) of each chart for images (m, p)."""
        return torch.softmax(self.log_joint(self.components(images)), dim=1)

    def inside(self, k: int, latents: Tensor) -> Tensor:
        """Return latents (m, d); those outside the region that chart k covers are moved back to its edge."""
        norm = latents.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        return latents * torch.clamp(self.reach[k] / norm, max=1.0)

    def _map(self, k: int) -> Map:
        found = self.maps[k]
        assert isinstance(found, Map)
        return found

    def _placed(self, k: int, own: Tensor) -> Tensor:
        return self.size[k] * own @ self.turn[k].T + self.centre[k]


def charts_to_bytes(charts: ImageCharts) -> bytes:
    """Return charts as the bytes of an .npz file."""
    buffer = io.BytesIO()
    s = charts.shape
    arrays = {name: value.numpy() for name, value in charts.state_dict().items()}
    np.savez(buffer, shape=np.array([s.charts, s.dimensions, s.components, s.pixels, s.width]), **arrays)
    return buffer.getvalue()


def charts_from_bytes(content: bytes) -> ImageCharts:
    """Return the charts of an .npz file's bytes."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        charts = ImageCharts(Shape(*(int(v) for v in arrays["shape"]))).double().eval().requires_grad_(False)
        charts.load_state_dict({name: torch.as_tensor(arrays[name]) for name in arrays.files if name != "shape"})
    return charts
