"""Provenance: everything besides the study on which a result depends."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from msvae.dispatch import world
from msvae.plugins import file_digest, registry
from msvae.plugins.interfaces import Plugin
from msvae.run.journal import now
from msvae.study import Study

__all__ = ["origin", "provenance"]

VARIABLES = (
    "APPTAINER_CONTAINER",
    "SINGULARITY_CONTAINER",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "CUDA_",
    "SLURM_JOB",
    "TORCH_",
    "PYTHONHASHSEED",
)


def provenance(study: Study) -> dict[str, Any]:
    """Return versions, plugins, MPI, host, processor, environment and seed as plain values."""
    named = (study.dataset, study.architecture, study.solver)
    return {
        "created": now(),
        "study": {"digest": study.digest, "campaign": study.campaign.name, "seed": study.seed},
        "python": sys.version.split()[0],
        "packages": dict(_packages()),
        "source": _source(),
        "plugins": [origin(p) for p in named if p is not None],
        "host": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "name": platform.node(),
            "processor": _processor(),
        },
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(VARIABLES)},
        "mpi": {"ranks": world.size(), "library": _mpi_library()},
        "command": sys.argv,
    }


@lru_cache(maxsize=1)
def _packages() -> tuple[tuple[str, str], ...]:
    """Return name and version of every installed package; they do not change while a process runs."""
    return tuple((d.name, d.version) for d in sorted(distributions(), key=lambda d: str(d.name).lower()))


def origin(plugin: Plugin) -> dict[str, str]:
    """Return the origin of a plugin: family, name, distribution and version, or the SHA-256 of its file."""
    entry = next(e for e in registry().named(plugin.name) if e.plugin is type(plugin))
    digest = file_digest(type(plugin))
    if digest is not None:
        file = Path(entry.distribution).name
        where = {"distribution": file, "version": f"a file of the study, SHA-256 begins with {digest}"}
    else:
        where = {"distribution": entry.distribution, "version": _version(entry.distribution) or "unknown"}
    return {"family": entry.family, "name": plugin.name, **where}


def _source() -> str | None:
    """Return the commit from which msvae runs, if it is a git working copy; "+" marks changes."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        asked = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        head, changes = (
            subprocess.run(["git", *a], cwd=folder, capture_output=True, text=True, check=True, timeout=10).stdout
            for a in asked
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.strip() + ("+" if changes.strip() else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _mpi_library() -> str | None:
    if world.communicator() is None:
        return None
    from mpi4py import MPI

    return str(MPI.Get_library_version()).splitlines()[0].strip("\x00 ")
