"""Executors of other libraries: name one in a study, and start msvae where Python finds this file (PYTHONPATH).

[executor]
name = "engines:dask_workers"
workers = 2
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any


def parsl_configuration() -> Any:
    """Return a configuration of Parsl, as [executor.parsl] configuration = "engines:parsl_configuration" names it."""
    from parsl import Config, HighThroughputExecutor
    from parsl.providers import LocalProvider

    pool = HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=2, cores_per_worker=1e-6,
                                  provider=LocalProvider(init_blocks=1, max_blocks=1))  # fmt: skip
    return Config(executors=[pool], run_dir="parsl", usage_tracking=0, initialize_logging=False)


def dask_workers(settings: Any) -> Executor:
    """Return Dask on this machine; `Client(scheduler_file=...)` reaches a cluster that dask-jobqueue has started."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=settings.workers, threads_per_worker=settings.threads, dashboard_address=None, processes=True
    )
    client = Client(cluster)
    executor: Executor = client.get_executor(pure=False)
    close = executor.shutdown

    def shutdown(*arguments: Any, **options: Any) -> None:
        close(*arguments, **options)
        client.close()
        cluster.close()

    executor.shutdown = shutdown  # type: ignore[method-assign]
    return executor
