"""Threads and devices of a worker, set before the libraries that read them start."""

from __future__ import annotations

import os

__all__ = ["limit_threads", "take_gpu"]


def limit_threads(threads: int) -> None:
    """Let numerical libraries that start from now on use this many threads in this process."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def take_gpu(number: int, gpus: int) -> None:
    """Let this process, the one with this number on its node, see one of the node's devices; all if gpus is 0."""
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
