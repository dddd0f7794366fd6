"""Parsl: workers in blocks that it asks a scheduler for (Babuji et al. 2019, HPDC '19, 25).

The campaign runs on a login node. A block that ends, or is killed, gives its tasks back, and they run in another; what
was acknowledged is in the run, and is not evaluated again. In its last seconds a block takes no task, so that none is
lost to the end of its time.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import Executor
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from msvae.errors import StudyError
from msvae.study.engines import ParslSettings
from msvae.study.settings import ExecutorSettings

__all__ = ["parsl_executor"]

AGAIN = 10  # how often a task that was lost with its block is given to another
LOST_AFTER, BEAT = 60, 15  # s without a sign of life after which a block's manager is given up, and between such signs
SMALL = 1e-6  # cores that a worker is said to need: as many workers as the study says, whatever a node has


def parsl_executor(settings: ExecutorSettings) -> Executor:
    """Return a running Parsl; StudyError if it is not installed or its configuration is none."""
    try:
        from parsl import Config
        from parsl.concurrent import ParslPoolExecutor
    except ImportError as error:
        raise StudyError(f"executor.name is 'parsl', but {error}: pip install 'msvae[parsl]'") from None
    own = settings.parsl
    # where Parsl's own programs are
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    configuration: Any = _given(own.configuration) if own.configuration else _configured(settings)
    if not isinstance(configuration, Config):
        raise StudyError(f"executor.parsl.configuration: '{own.configuration}' gave {configuration!r}, no parsl.Config")
    executor: Executor = ParslPoolExecutor(configuration)
    return executor


def _given(name: str) -> Any:
    """Return the configuration that a user's function makes; StudyError if there is none."""
    try:
        return resolve_name(name)()
    except Exception as error:  # a border: a user's module may raise anything
        raise StudyError(
            f"executor.parsl.configuration: '{name}' failed with {type(error).__name__}: {error}"
        ) from None


def _configured(settings: ExecutorSettings) -> Any:
    from parsl import Config, HighThroughputExecutor

    own = settings.parsl
    walltime = int(own.walltime)
    last = int(own.last if own.last is not None else settings.timeout or 0.1 * walltime)
    if last >= walltime:
        raise StudyError(
            f"executor.parsl.last: {last} s in which a block takes no task are its whole walltime of {walltime} s"
        )
    pool = HighThroughputExecutor(
        address=own.address or None,
        max_workers_per_node=own.workers,
        cores_per_worker=SMALL,
        provider=_provider(settings, walltime),
        heartbeat_period=BEAT,
        heartbeat_threshold=LOST_AFTER,
        drain_period=walltime - last if own.provider != "local" else None,
        block_error_handler=False,  # a block that ends is replaced; the campaign says what failed
    )
    return Config(executors=[pool], retries=AGAIN, retry_handler=_price, run_dir="parsl", usage_tracking=0,
                  strategy="simple", max_idletime=30.0, initialize_logging=False)  # fmt: skip


def _price(error: Exception, task: Any) -> float:
    """Return what a failure costs of the retries: only what was lost with a block is tried again."""
    from parsl.executors.high_throughput.errors import ManagerLost, VersionMismatch

    return AGAIN + 1 if not isinstance(error, ManagerLost) or isinstance(error, VersionMismatch) else 1


def _provider(settings: ExecutorSettings, walltime: int) -> Any:
    from parsl import launchers, providers

    own: ParslSettings = settings.parsl
    init = "\n".join([f"export OMP_NUM_THREADS={settings.threads} OMP_WAIT_POLICY=PASSIVE",
                      f"export PATH={Path(sys.executable).parent}:$PATH", own.worker_init])  # fmt: skip
    if own.provider == "local":
        local: Any = providers.LocalProvider
        return local(init_blocks=1, max_blocks=own.blocks, worker_init=init)
    hours, rest = divmod(walltime, 3600)
    return providers.SlurmProvider(
        partition=own.partition or None, account=own.account or None, qos=own.qos or None,
        nodes_per_block=own.nodes, cores_per_node=own.workers * settings.threads, init_blocks=min(1, own.blocks),
        min_blocks=0, max_blocks=own.blocks, walltime=f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}",
        scheduler_options=own.options, worker_init=init, exclusive=own.exclusive, cmd_timeout=60,
        launcher=launchers.SrunLauncher() if own.nodes > 1 else launchers.SimpleLauncher(),
    )  # fmt: skip
