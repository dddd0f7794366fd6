"""Steps of training per second: msvae against pythae and against a bare torch loop, epochs interleaved in one process.

    make bench

All three train the same networks (convolutional VAEs of two-phase structures in 2D and 3D, 16 latents, Bernoulli) with
the same data, batch and threads. Arithmetic is each one's own choice on this processor: msvae takes bfloat16 where
there is hardware for it; pythae has no such thing on a CPU; the bare loop does what msvae does. The table is written
to benchmarks/TRAINING.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

from msvae import Architecture, Dataset, Structures
from msvae.plugins import registry
from msvae.study.settings import ModelSettings, TrainingSettings
from msvae.vae.blueprint import Blueprint
from msvae.vae.fitting.devices import reduced_precision
from msvae.vae.fitting.objective import batch_of
from msvae.vae.fitting.training import Trainer
from msvae.vae.model import VAE

LATENTS, BATCH, CLIP = 16, 64, 10.0
CASES: dict[str, tuple[tuple[int, ...], str]] = {  # the grid, and the size of the networks
    "28 × 28, small": ((28, 28), "small"),
    "28 × 28, base": ((28, 28), "base"),
    "16 × 16 × 16, small": ((16, 16, 16), "small"),
}
TEXT = """# Training against its peers

Written by `benchmarks/training.py`: medians of {epochs} interleaved epochs of {steps} steps, {threads} thread(s); the
same networks, data and batches of {batch}. {precision}

Machine: {machine}; Python {python}, torch {torch}, pythae {pythae}.

| networks | msvae (steps per second) | pythae | bare torch loop | msvae over pythae | over the bare loop |
| --- | --- | --- | --- | --- | --- |
{rows}
"""


def fresh(structures: Structures, size: str) -> VAE:
    """Return an untrained VAE: the same weights every time."""
    torch.manual_seed(0)
    architecture = registry().find(Architecture, "convolutional")(size=size)
    vae = VAE(Blueprint.of(structures, ModelSettings(latents=LATENTS, stem="none"), architecture))
    vae.fit_scales(structures)
    return vae


def ours(structures: Structures, size: str, settings: TrainingSettings) -> Callable[[], Any]:
    """Return one epoch of msvae's own loop."""
    vae = fresh(structures, size).train()
    trainer, batch = Trainer(vae, settings, 0), batch_of(vae, structures)

    def epoch() -> None:
        trainer.history.append(trainer.epoch(batch))

    return epoch


def bare(structures: Structures, size: str, settings: TrainingSettings) -> Callable[[], Any]:
    """Return one epoch of the shortest loop that does the same."""
    vae = fresh(structures, size).train()
    encoder, moments, decoder = vae.posterior.encoder, vae.posterior.moments, vae.decoder
    optimiser = torch.optim.AdamW(vae.parameters(), lr=settings.learning_rate, fused=True)
    values = torch.as_tensor(structures.values.copy())
    half = reduced_precision(settings.precision, torch.device("cpu"), values[0].numel())

    def epoch() -> None:
        for chosen in torch.randperm(len(values)).split(BATCH):
            x = values[chosen].float()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                mean, log_scale = moments(nn.functional.silu(encoder(x - 0.5)).float()).float().chunk(2, dim=1)
                logits = decoder(mean + log_scale.exp() * torch.randn_like(mean)).float()
            fit = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(dim=1)
            divergence = 0.5 * (mean**2 + (2 * log_scale).exp() - 1).sum(dim=1) - log_scale.sum(dim=1)
            loss = (fit + divergence).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(vae.parameters(), CLIP)
            optimiser.step()
            loss.item()

    return epoch


def pythae(structures: Structures, size: str, settings: TrainingSettings, folder: str) -> Callable[[], Any]:
    """Return one epoch of pythae's trainer with the same networks."""
    from pythae import models
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    vae = fresh(structures, size)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.moments = vae.posterior.encoder, vae.posterior.moments

        def forward(self, x: Tensor) -> Any:
            mean, log_scale = self.moments(nn.functional.silu(self.encoder(x - 0.5))).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=2 * log_scale)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = vae.decoder

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=torch.sigmoid(self.decoder(z)))

    logging.disable(logging.INFO)
    shape = structures.specification.shape
    config = models.VAEConfig(input_dim=shape, latent_dim=LATENTS, reconstruction_loss="bce")
    values = torch.as_tensor(structures.values.copy()).float()
    training = BaseTrainerConfig(
        output_dir=folder, per_device_train_batch_size=BATCH, learning_rate=settings.learning_rate,
        optimizer_cls="AdamW", no_cuda=True,
    )  # fmt: skip
    trainer = BaseTrainer(
        models.VAE(config, Encoder(), Decoder()),
        BaseDataset(values, torch.zeros(len(values))),
        training_config=training,
    )
    trainer.prepare_training()
    return lambda: trainer.train_step(1)


def main() -> None:
    """Run the benchmark, print its table and write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30, help="of an epoch")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("TRAINING.md"))
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found = {name: rates(shape, size, asked.epochs, asked.steps) for name, (shape, size) in CASES.items()}
    rows = [
        f"| {name} | {own:.2f} | {peer:.2f} | {loop:.2f} | {own / peer:.2f} | {own / loop:.2f} |"
        for name, (own, peer, loop) in found.items()
    ]
    half = reduced_precision("auto", torch.device("cpu"), 28 * 28)
    text = TEXT.format(
        epochs=asked.epochs, steps=asked.steps, threads=torch.get_num_threads(), batch=BATCH, rows="\n".join(rows),
        precision="msvae and the bare loop run in bfloat16." if half else "All run in float32.",
        machine=f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        python=platform.python_version(), torch=torch.__version__, pythae=version("pythae"),
    )  # fmt: skip
    asked.output.write_text(text)
    sys.stdout.write(text)


def rates(shape: tuple[int, ...], size: str, epochs: int, steps: int) -> tuple[float, float, float]:
    """Return the steps per second of msvae, pythae and the bare loop, whose epochs take turns."""
    simulated = registry().find(Dataset, "simulated")
    labels = simulated(count=BATCH * steps, shape=shape, length=(7e-6, 7e-6)).load(0).labels
    structures = Structures.from_labels(labels, periodic=False)
    settings = TrainingSettings(epochs=1000, batch_size=BATCH, gradient_norm=CLIP, precision="auto")
    with tempfile.TemporaryDirectory() as folder:
        loops = (
            ours(structures, size, settings),
            pythae(structures, size, settings, folder),
            bare(structures, size, settings),
        )
        seconds: list[list[float]] = [[] for _ in loops]
        for _ in range(epochs + 1):  # the first warms up
            for own, epoch in zip(seconds, loops, strict=True):
                start = time.perf_counter()
                epoch()
                own.append(time.perf_counter() - start)
    own, peer, loop = (steps / statistics.median(times[1:]) for times in seconds)
    return own, peer, loop


if __name__ == "__main__":
    main()
