"""Architectures of the networks that encode and decode structures."""

from msvae import Architecture, hook
from msvae_networks.convolutional import Convolutional, FullyConvolutional
from msvae_networks.perceptron import Perceptron


@hook
def msvae_architectures() -> list[type[Architecture]]:
    return [Convolutional, FullyConvolutional, Perceptron]
