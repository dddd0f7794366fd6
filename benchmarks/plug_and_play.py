"""Plug-and-play reconstruction with deepinv as a control of `invert`: a denoiser in place of the charts.

python benchmarks/plug_and_play.py RUN [--images 20] [--steps 300]

RUN is a run of examples/manifold-inversion/discs.toml. The denoiser (a DnCNN) is trained on images that its charts
were fitted to; half-quadratic splitting alternates it with a prox of the misfit, by L-BFGS. The weight and the number
of iterations are the best on two of these images.

    pip install --no-deps deepinv torchvision torchmetrics einops natsort lightning-utilities tqdm
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

from msvae import Run
from msvae.study import Study
from msvae_inversion.invert import Forward, Invert
from msvae_inversion.models.forward import forward_model
from msvae_inversion.table import psnr

NOISE, DEPTH, CHANNELS, BATCH, RATE = 0.1, 7, 24, 8, 2e-3  # of the denoiser, noise over the range of the images
WEIGHTS, ITERATIONS, INNER = (0.03, 0.1, 0.3, 1.0), 12, 15  # of the splitting; the latter are steps of L-BFGS


def peer():
    """Return deepinv; its import needs two operators of torchvision, which has none of them beside a torch for CPUs."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        import deepinv
    except RuntimeError:
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import deepinv
    return deepinv


def trained(images, steps):
    """Return a DnCNN that takes normal noise from images (n, 1, *grid), whose values are from 0 to 1."""
    torch.manual_seed(0)
    network = peer().models.DnCNN(1, 1, depth=DEPTH, nf=CHANNELS, pretrained=None)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x = images[torch.randint(len(images), (BATCH,))]
        loss = ((network(x + NOISE * torch.randn_like(x), NOISE) - x) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    print(f"denoiser: {10 * np.log10(NOISE**2 / loss.item()):.1f} dB of the noise taken", flush=True)
    return network.eval()


def reconstructed(denoiser, misfit, start, weight, iterations):
    """Yield the images (*grid) of half-quadratic splitting, values 0 to 1. misfit: of an image, 1/2 where explained."""
    deepinv = peer()
    prior = deepinv.optim.PnP(denoiser)
    x = torch.as_tensor(start)

    def both(values, near):
        z = torch.as_tensor(values).reshape(near.shape).requires_grad_()
        value = misfit(z) + 0.5 * ((z - near) ** 2).mean() / weight**2
        (slope,) = torch.autograd.grad(value, z)
        return float(value.detach()), slope.numpy().ravel()

    for _ in range(iterations):
        found = minimize(both, x.numpy().ravel(), args=(x,), jac=True, method="L-BFGS-B", options={"maxiter": INNER})
        z = torch.as_tensor(found.x).reshape(x.shape)
        with torch.no_grad():
            x = prior.prox(z[None, None].float(), NOISE)[0, 0].double()
        yield x.numpy()


def problem_of(run):
    """Return settings, forward model, data and the images (n, 1, *grid) of the charts of a run; levels: their range."""
    study: Study = run.study
    settings = study.need(Invert)
    with np.load(run.path / "measured.npz") as arrays:
        measured = dict(arrays)
    structures = study.dataset.load(study.seed)
    model = forward_model(study.need(Forward), structures.specification.grid, seed=study.seed, solver=None)
    low, high, _ = measured["levels"]
    images = torch.as_tensor((structures.values[: -settings.count] - low) / (high - low)).float()
    return settings, model, measured, images


def chosen(paths, measured):
    """Return the weight and the number of iterations that are best on two images of the charts."""
    tried = {}
    for weight in WEIGHTS:
        each = [
            [psnr(image, truth, measured["levels"]) for image in paths(data, weight, ITERATIONS)]
            for data, truth in zip(measured["calibration_data"], measured["calibration"], strict=True)
        ]
        tried |= {(weight, k + 1): value for k, value in enumerate(np.mean(each, axis=0))}
        print(f"weight {weight:g}: {np.round(np.mean(each, axis=0), 2)} dB", flush=True)
    return max(tried, key=tried.get)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.process_time()
    settings, model, measured, images = problem_of(Run.open(arguments.run))
    low, high, _ = measured["levels"]
    denoiser = trained(images, arguments.steps)
    start = np.full(images.shape[2:], float(images.mean()))

    def paths(data, weight, iterations):
        def misfit(x):
            rest = model((low + (high - low) * x)[None])[0] - torch.as_tensor(data)
            return (rest**2).mean() / (2 * settings.noise**2)

        return [low + (high - low) * x for x in reconstructed(denoiser, misfit, start, weight, iterations)]

    weight, iterations = chosen(paths, measured)
    found = []
    for data, truth in list(zip(measured["data"], measured["truth"], strict=True))[: arguments.images]:
        found.append(psnr(paths(data, weight, iterations)[-1], truth, measured["levels"]))
        print(f"{len(found)}: {found[-1]:.2f} dB", flush=True)
    print(f"weight {weight:g}, {iterations} iterations, {time.process_time() - begun:.0f} s of a core")
    print(f"| plug-and-play (deepinv {peer().__version__}), mean of {len(found)} | {np.mean(found):.2f} dB |")


if __name__ == "__main__":
    main()
