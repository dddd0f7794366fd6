"""Any model that is served by the protocol of UM-Bridge, as a solver (https://um-bridge-benchmarks.readthedocs.io)."""

from msvae import Solver, hook
from msvae_umbridge.solver import UmBridge


@hook
def msvae_solvers() -> list[type[Solver]]:
    return [UmBridge]
