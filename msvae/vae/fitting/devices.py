"""The device and the precision in which networks are trained."""

from __future__ import annotations

import torch

from msvae.errors import MsvaeError
from msvae.vae.fitting.parallel import Ranks

__all__ = ["device_of", "reduced_precision"]

SITES = 256  # below which bfloat16 costs more than it saves


def reduced_precision(choice: str, device: torch.device, sites: int) -> bool:
    """Return whether networks for structures of this many sites run in bfloat16.

    "auto" chooses bfloat16 where the hardware supports it and structures are large enough to benefit.
    """
    if choice != "auto":
        return choice == "bfloat16"
    if sites < SITES:
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()) and any(
        flag in torch.backends.cpu.get_cpu_capability() for flag in ("AVX512", "AMX")
    )


def device_of(choice: str, ranks: Ranks) -> torch.device:
    """Return the device of a rank; "auto" assigns the CUDA devices of a node to its ranks in turn, if it has any."""
    if choice == "cpu" or (choice == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise MsvaeError("training.device is 'cuda', but torch finds no CUDA device: use 'auto', or install its build")
    return torch.device("cuda", ranks.rank % torch.cuda.device_count())
