"""The small data sets and models that several benchmarks begin with."""

from __future__ import annotations

from typing import Any

import torch

import msvae
from msvae.structures import Structures
from msvae.study import load_plugin
from msvae.study.settings import ModelSettings, TrainingSettings
from msvae.study.source import Source
from msvae.vae.blueprint import Blueprint
from msvae.vae.fitting.training import fit
from msvae.vae.model import VAE


def trained(structures: Structures, latents: int, epochs: int) -> VAE:
    """Return a convolutional VAE without heads, whose prior has been fitted."""
    torch.manual_seed(0)
    architecture = load_plugin(msvae.Architecture, {"name": "convolutional"}, Source("benchmark", ""))
    vae = VAE(Blueprint.of(structures, ModelSettings(latents=latents), architecture))
    fit(vae, structures, TrainingSettings(epochs=epochs, held_back=0.1, precision="bfloat16"), seed=0)
    vae.eval().fit_aggregate(structures, seed=0)
    return vae


def simulated(**settings: Any) -> Structures:
    """Return the simulated structures of these settings."""
    return load_plugin(msvae.Dataset, {"name": "simulated", **settings}, Source("benchmark", "")).load(0)
