"""The tables of a study that configure engines of other libraries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from msvae.plugins.annotations import Count, Seconds
from msvae.plugins.interfaces import Settings

__all__ = ["ParslSettings"]


@dataclass(frozen=True)
class ParslSettings(Settings):
    """[executor.parsl]: blocks of workers that Parsl asks a scheduler for, while the campaign runs on a login node.

    provider: "local" starts them here, "slurm" as jobs. blocks: at most, at a time. nodes: of a block. workers: of a
        node. walltime: of a block. last: of it, in which a block takes no more evaluations, so that the end of its time
        loses none; by default executor.timeout, or a tenth of the walltime.
    partition, account, qos: of the jobs; empty for the site's default. options: further lines, as "#SBATCH --mem=8G".
    exclusive: whether a block has its nodes for itself. worker_init: commands before its workers, as module load.
    address: at which workers reach this machine; by default they try all of its addresses.
    configuration: "module:function" that returns a parsl.Config of your own, in place of all of this.
    """

    provider: Literal["local", "slurm"] = "local"
    blocks: Count = 1
    nodes: Count = 1
    workers: Count = 1
    walltime: Seconds = 3600.0
    last: Seconds | None = None
    partition: str = ""
    account: str = ""
    qos: str = ""
    options: str = ""
    exclusive: bool = True
    worker_init: str = ""
    address: str = ""
    configuration: Annotated[str, Field(pattern=r"^(\w+(\.\w+)*:\w+)?$")] = ""
