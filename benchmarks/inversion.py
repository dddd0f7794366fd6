"""Inverse problems on charts: gradients, electrodes against pyEIT and pyGIMLi, and the direction of a blurred bar.

python benchmarks/inversion.py gradients | electrodes | bar [--charts 2] | summary RUN ...

The peers: pip install pyeit shapely pygimli. `summary` prints the mean figures of runs of examples/manifold-inversion.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from msvae import Structures
from msvae_inversion.invert import Forward
from msvae_inversion.manifold.charts import Shape
from msvae_inversion.manifold.descent import descend, place_of
from msvae_inversion.manifold.fitting import fit_charts
from msvae_inversion.models.electrodes import complete, corners, facets_of, points
from msvae_inversion.models.forward import Convolution
from msvae_inversion.models.tomography import Tomography, solved
from msvae_inversion.phantoms import Phantoms, angle_of, bar

ELECTRODES, CELLS, IMPEDANCE = 16, 32, 0.01
SIZE, WIDTH, NOISE = 128, 16.0, 0.02  # of the bar: pixels, blur in pixels, noise


def gradients():
    """Print the largest relative error of a directional derivative of tomography against central differences."""
    images = torch.as_tensor(Phantoms(count=1).load(0).values[:, 0].copy(), dtype=torch.float64)
    grid = Structures.from_values(images.numpy(), 1.0, periodic=False).specification.grid
    for electrodes in ("continuum", "points", "complete"):
        sensors = 128 if electrodes == "continuum" else ELECTRODES
        model = Tomography(
            Forward(name="tomography", electrodes=electrodes, sensors=sensors, conductivity=(1e-6, 1.0)), grid, 24
        )
        worst = 0.0
        for seed in range(3):
            torch.manual_seed(seed)
            x, direction = images.clone().requires_grad_(), torch.randn_like(images)
            data = model(x)
            weights = torch.randn_like(data)
            (slope,) = torch.autograd.grad((weights * data).sum(), x)
            with torch.no_grad():
                change = (weights * (model(images + 1e-4 * direction) - model(images - 1e-4 * direction))).sum() / 2e-4
            worst = max(worst, abs(float((slope * direction).sum() / change) - 1))
        print(f"| gradient, {electrodes} | {worst:.1e} |", flush=True)


def square():
    """Return a mesh of triangles, and the conductivity of each with two discs of 1.5 in 1.0."""
    from skfem import MeshTri

    line = np.linspace(0, 1, CELLS + 1)
    mesh = MeshTri.init_tensor(line, line)
    x, y = mesh.p[:, mesh.t].mean(axis=1)
    first, second = ((x - a) ** 2 + (y - b) ** 2 < r**2 for a, b, r in ((0.35, 0.6, 0.15), (0.7, 0.3, 0.12)))
    return mesh, 1.0 + 0.5 * first + 0.5 * second


def difference(own, other):
    """Return the largest difference of potentials (l, j), as a share of the largest of each pattern of current."""
    return float((np.abs(own - other).max(axis=0) / np.abs(own).max(axis=0)).max())


def with_pyeit(mesh, sigma, nodes):
    """Return pyEIT's potentials (l, j) at electrodes, with linear elements on the same mesh."""
    from pyeit.eit.fem import Forward as Peer
    from pyeit.mesh.wrapper import PyEITMesh

    t, (x, y) = mesh.t.T.astype(int), mesh.p[:, mesh.t.T]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    t = np.where((area < 0)[:, None], t[:, [0, 2, 1]], t)  # pyEIT takes counter-clockwise triangles
    where = np.column_stack([mesh.p.T, np.zeros(mesh.p.shape[1])])
    peer = Peer(PyEITMesh(node=where, element=t, perm=sigma, el_pos=nodes, ref_node=0))
    peer.assemble_pde(sigma)
    found = [peer.solve(np.array([j, (j + 1) % len(nodes)]))[nodes] for j in range(len(nodes))]
    return np.stack([v - v.mean() for v in found], axis=1)


def with_pygimli(mesh, sigma, electrodes):
    """Return pyGIMLi's potentials (l, j) of complete electrodes, with linear elements on the same mesh.

    For potentials U of the electrodes, z sigma du/dn = U - u is a Robin condition. The currents for unit potentials
    give the admittance matrix, whose pseudo-inverse turns currents into potentials.
    """
    import pygimli
    from pygimli.solver import solveFiniteElements

    peer = pygimli.Mesh(2)
    for place in mesh.p.T:
        peer.createNode([*place])
    for triangle in mesh.t.T:
        peer.createTriangle(*(peer.node(int(k)) for k in triangle))
    peer.createNeighborInfos()
    marks = {tuple(sorted(mesh.facets[:, f].tolist())): k + 1 for k, own in enumerate(electrodes) for f in own}
    for side in peer.boundaries():
        if side.leftCell() is None or side.rightCell() is None:
            side.setMarker(marks.get(tuple(sorted((side.node(0).id(), side.node(1).id()))), 100))
    columns = []
    for potentials in np.eye(len(electrodes)):
        robin = {k + 1: [1 / IMPEDANCE, float(value)] for k, value in enumerate(potentials)}
        u = np.array(solveFiniteElements(peer, a=sigma, bc={"Robin": robin}))
        columns.append([current(mesh, own, value - u) for own, value in zip(electrodes, potentials, strict=True)])
    drive = np.eye(len(electrodes)) - np.roll(np.eye(len(electrodes)), 1, axis=0)
    found = np.linalg.pinv(np.array(columns).T) @ drive
    return found - found.mean(axis=0)


def current(mesh, facets, drop):
    """Return the current through an electrode with these facets, across which potentials (nodes,) drop."""
    a, b = mesh.facets[:, facets]
    length = np.linalg.norm(mesh.p[:, a] - mesh.p[:, b], axis=0)
    return float((length * (drop[a] + drop[b]) / 2).sum() / IMPEDANCE)


def electrodes():
    """Print the differences from the peers, on the same mesh and with the same elements."""
    from skfem import ElementTriP1

    mesh, sigma = square()
    where = corners(4.0 * (np.arange(ELECTRODES) + 0.5) / ELECTRODES)
    nodes = np.array([int(((mesh.p - x[:, None]) ** 2).sum(axis=0).argmin()) for x in where.T])
    system = points(mesh, ElementTriP1(), nodes, currents=ELECTRODES)
    own = system.observe @ solved(system, sigma)[0]
    print(f"| point electrodes, pyEIT | {difference(own, with_pyeit(mesh, sigma, nodes)):.1e} |", flush=True)
    facets = facets_of(mesh, ELECTRODES, 0.5)
    system = complete(mesh, ElementTriP1(), facets, impedance=IMPEDANCE, currents=ELECTRODES)
    own = system.observe @ solved(system, sigma)[0]
    print(f"| complete electrodes, pyGIMLi | {difference(own, with_pygimli(mesh, sigma, facets)):.1e} |", flush=True)


def directions(count):
    """Print for several directions of a bar how many of nine descents end within two degrees of it."""
    start = time.perf_counter()
    data = Phantoms(shape="bar", count=600, size=SIZE).load(0)
    images = data.values[:, 0].reshape(len(data), -1)
    charts = fit_charts(images, Shape(count, 1, 40, SIZE**2, 256), epochs=60, seed=0)
    print(f"{count} charts fitted in {time.perf_counter() - start:.0f} s", flush=True)
    model = Convolution(data.specification.grid, WIDTH)
    print(f"| direction (degrees), {count} charts | within 2 degrees | largest error (degrees) |\n| --- | --- | --- |")
    for target in np.pi * np.arange(6) / 6:
        truth = torch.as_tensor(bar(float(target), SIZE), dtype=torch.float64)
        torch.manual_seed(0)
        y = model(truth[None])[0]
        y = y + NOISE * torch.randn_like(y)
        errors = []
        for step in range(1, 10):
            first = torch.as_tensor(bar(float(target + 0.1 * np.pi * step), SIZE), dtype=torch.float64).flatten()
            found = descend(
                charts,
                lambda x, y=y: ((model(x.reshape(1, SIZE, SIZE))[0] - y) ** 2).mean() / (2 * NOISE**2),
                place_of(charts, first),
                steps=100,
                level=0.5,
            )
            image = charts.decode(found.chart, found.latents[None])[0].reshape(SIZE, SIZE).numpy()
            errors.append(abs((angle_of(image) - target + np.pi / 2) % np.pi - np.pi / 2))
        near = sum(error < np.radians(2) for error in errors)
        print(f"| {np.degrees(target):.0f} | {near} of 9 | {np.degrees(max(errors)):.2f} |", flush=True)


def summary(runs):
    """Print the means of the tables of runs."""
    for run in runs:
        table = json.loads((run / "summary.json").read_text())
        print(f"{run.name}: {dict(zip(table['columns'], table['rows'][-1], strict=True))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["gradients", "electrodes", "bar", "summary"])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--charts", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part == "bar":
        directions(arguments.charts)
    elif arguments.part == "summary":
        summary(arguments.runs)
    else:
        {"gradients": gradients, "electrodes": electrodes}[arguments.part]()


if __name__ == "__main__":
    main()
