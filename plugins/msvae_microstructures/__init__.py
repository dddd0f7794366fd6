"""Data sets of microstructures: simulated ones, images, published collections."""

from msvae import Dataset, hook
from msvae_microstructures.cahn_hilliard import CahnHilliard
from msvae_microstructures.hdf5 import Hdf5
from msvae_microstructures.mechanical_mnist import MechanicalMnist
from msvae_microstructures.runs import Runs
from msvae_microstructures.simulated import Simulated
from msvae_microstructures.tiff import Images, Tiff


@hook
def msvae_datasets() -> list[type[Dataset]]:
    return [Simulated, Tiff, MechanicalMnist, Hdf5, CahnHilliard, Runs, Images]
