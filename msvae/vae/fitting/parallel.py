"""Data-parallel training: ranks that share every batch (torch.distributed; gloo, or nccl on CUDA).

The ranks are workers of whatever executor the run has: MPI ranks under `mpiexec`, or processes of a pool. Each rank
holds all the data and computes a share of the rows of every batch. Gradients are summed over the ranks, so that every
step equals that of a single process with the whole batch.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from msvae.errors import MsvaeError

__all__ = ["ALONE", "Distributed", "Ranks", "Share", "group"]

Value = TypeVar("Value")
PATIENCE = timedelta(minutes=30)  # of a rank that waits for the others


class Ranks:
    """The ranks that train together; this base class is a single process."""

    rank, size = 0, 1

    def rows(self, n: int) -> slice:
        """Return this rank's rows of a batch of n; every rank computes all of a batch too small to share."""
        if n < self.size:
            return slice(0, n)
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def weight(self, n: int) -> float:
        """Return the weight of this rank's mean in the mean over a batch of n."""
        rows = self.rows(n)
        return (rows.stop - rows.start) / n if n >= self.size else 1 / self.size

    def add(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over the ranks."""
        return tensor

    def broadcast(self, value: Value) -> Value:
        """Return the value held by the first rank."""
        return value

    def add_gradients(self, parameters: Iterable[Tensor], loss: Tensor) -> Tensor:
        """Replace gradients by their sums over the ranks; return the sum of the losses."""
        return loss.detach()


ALONE = Ranks()


class Distributed(Ranks):
    """One of several processes in torch's default process group."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def add(self, tensor: Tensor) -> Tensor:
        summed = tensor.clone()
        distributed.all_reduce(summed)
        return summed

    def broadcast(self, value: Value) -> Value:
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def add_gradients(self, parameters: Iterable[Tensor], loss: Tensor) -> Tensor:
        with_gradient = [p for p in parameters if p.grad is not None]
        flat = torch.cat([p.grad.flatten() for p in with_gradient if p.grad is not None] + [loss.detach().reshape(1)])
        distributed.all_reduce(flat)
        start = 0
        for p in with_gradient:
            assert p.grad is not None
            p.grad.copy_(flat[start : start + p.numel()].view_as(p))
            start += p.numel()
        return flat[-1]


@dataclass
class Share:
    """This rank's rows of a batch of `whole` rows, and their noise, which does not depend on the number of ranks."""

    generator: torch.Generator
    ranks: Ranks = ALONE
    whole: int | None = None

    def normal(self, rows: int, size: int, device: torch.device) -> Tensor:
        """Return standard normal noise (rows, size) for this rank's rows."""
        whole = rows if self.whole is None else self.whole
        drawn = torch.randn((whole, size), generator=self.generator)
        return drawn[self.ranks.rows(whole)].to(device)

    def mean(self, local: Tensor) -> Tensor:
        """Return the mean over the whole batch, given the mean over this rank's rows; without gradients."""
        whole = 1 if self.whole is None else self.whole
        return self.ranks.add(local.detach() * self.ranks.weight(whole)) if self.ranks.size > 1 else local.detach()


@contextmanager
def group(executor: Executor, size: int, work: Callable[[Ranks], Any]) -> Iterator[Ranks]:
    """Yield this process as the first rank of a group; the other ranks run `work` as tasks of the executor."""
    store = TCPStore(_host(), 0, size, is_master=True, wait_for_workers=False, timeout=PATIENCE)
    tasks = [executor.submit(_join, _host(), store.port, rank, size, work) for rank in range(1, size)]
    distributed.init_process_group(_backend(), store=store, rank=0, world_size=size, timeout=PATIENCE)
    try:
        yield Distributed(0, size)
        for task in tasks:
            task.result()
    except RuntimeError as error:
        if isinstance(error, MsvaeError):
            raise
        raise MsvaeError(f"a rank that trained with this one was lost ({error}): start again with --resume") from error
    finally:
        distributed.destroy_process_group()


def _join(host: str, port: int, rank: int, size: int, work: Callable[[Ranks], Any]) -> None:
    store = TCPStore(host, port, size, is_master=False, timeout=PATIENCE)
    distributed.init_process_group(_backend(), store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        work(Distributed(rank, size))
    finally:
        distributed.destroy_process_group()


def _backend() -> str:
    return "nccl" if torch.cuda.is_available() else "gloo"


def _host() -> str:
    """Return the host name by which other nodes reach this one; the loopback address if it has none."""
    name = socket.gethostname()
    try:
        socket.gethostbyname(name)
    except OSError:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        return "127.0.0.1"
    return name
