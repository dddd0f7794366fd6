"""Provenance: what a result depends on beside the study."""

from __future__ import annotations

import datetime
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from msvae.dispatch import world
from msvae.interfaces import Plugin
from msvae.plugins import registry
from msvae.study import Study

__all__ = ["provenance"]

PACKAGES = ("msvae", "torch", "numpy", "scipy", "h5py", "pydantic", "pluggy", "scikit-optimize", "mpi4py", "mpich")


def provenance(study: Study) -> dict[str, Any]:
    """Return versions, plugins, MPI, host and seed as plain values."""
    return {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "study": {"digest": study.digest, "campaign": study.campaign, "seed": study.seed},
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in PACKAGES},
        "plugins": [_origin(p) for p in (study.dataset, study.architecture, study.solver) if p is not None],
        "host": {"system": platform.platform(), "machine": platform.machine(), "name": platform.node()},
        "mpi": {"ranks": world.size(), "library": _mpi_library()},
    }


def _origin(plugin: Plugin) -> dict[str, str]:
    entry = next(e for e in registry().named(plugin.name) if e.plugin is type(plugin))
    return {
        "family": entry.family,
        "name": plugin.name,
        "distribution": entry.distribution,
        "version": _version(entry.distribution) or "a file of the study",
    }


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
