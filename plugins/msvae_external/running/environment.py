"""The environment of a program: that of this process without the traces of its own MPI job, and what a script adds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from msvae import without_mpi
from msvae_external.failures import Failure

__all__ = ["environment_of", "without_job"]

JOB = ("MPICH_", "MV2_", "PALS_", "I_MPI_HYDRA", "SLURM_STEP", "SLURM_SRUN_", "SLURM_LAUNCH_NODE", "SLURM_MPI_TYPE",
       "SLURM_PMI")  # fmt: skip
STEP = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS", "SLURM_TASK_PID", "SLURM_TASKS_PER_NODE",
        "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_DISTRIBUTION", "SLURM_CPU_BIND", "SLURM_CPUS_PER_TASK")  # fmt: skip
OURS = ("MPICH_VERSION", "OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")  # of a user, not of a job
PATIENCE = 300.0  # seconds for a script, which may load modules from a slow file system


def without_job(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a program's MPI starts afresh, also inside of a job step of Slurm.

    >>> without_job({"PMI_RANK": "1", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "7", "PATH": "/bin"})
    {'SLURM_JOB_ID': '7', 'PATH': '/bin'}
    """
    kept = {k: v for k, v in without_mpi(environment).items() if not k.startswith((*JOB, *STEP))}
    return {k: v for k, v in environment.items() if k in OURS or k in kept}


def environment_of(setup: Path | None, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program. setup: a script that bash sources. given: variables that are set last."""
    own = without_job(os.environ)
    if setup is not None:
        try:
            own = dict(_after(str(setup.resolve()), setup.stat().st_mtime_ns, tuple(sorted(own.items()))))
        except OSError as error:
            raise Failure(f"setup script '{setup}' cannot be read: {error.strerror}") from None
    return {**own, **given}


@lru_cache(maxsize=8)
def _after(script: str, changed: int, own: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return the environment after a script; it runs once in a process, as long as it does not change."""
    command = ["bash", "--noprofile", "--norc", "-c", 'source "$0" >&2 && exec env -0', script]
    try:
        done = subprocess.run(command, env=dict(own), stdin=subprocess.DEVNULL, capture_output=True, check=False,
                              timeout=PATIENCE)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"setup script '{script}' did not come to its end: {error}") from None
    if done.returncode:
        last = " | ".join(done.stderr.decode(errors="replace").split("\n")[-4:]).strip(" |")
        raise Failure(f"setup script '{script}' ended with exit code {done.returncode}; it wrote: {last}")
    pairs = (pair.partition("=") for pair in done.stdout.decode(errors="surrogateescape").split("\0") if pair)
    return tuple((name, value) for name, _, value in pairs)
