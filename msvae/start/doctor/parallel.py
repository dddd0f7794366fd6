"""MPI: the library that mpi4py loads, the launcher, and whether the two belong together."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from msvae.dispatch.isolation.processes import without_mpi
from msvae.start.doctor.finding import Finding

__all__ = ["mpi", "vendor_of"]

VENDORS = {"Open MPI": ("open mpi", "openrte", "open-rte", "prte"), "Intel MPI": ("intel(r) mpi", "intel mpi"),
           "MVAPICH": ("mvapich",), "MPICH": ("mpich", "hydra")}  # fmt: skip
WITH_PMI = ("MPICH", "Intel MPI", "MVAPICH")  # which start each other's programs
ASK = "from mpi4py import MPI; print(MPI.Get_library_version().splitlines()[0].strip('\\x00 '))"


def vendor_of(text: str) -> str | None:
    """Return whose MPI a library's or a launcher's version is of.

    >>> vendor_of("HYDRA build details:"), vendor_of("mpirun (Open MPI) 4.1.4"), vendor_of("slurm")
    ('MPICH', 'Open MPI', None)
    """
    return next((name for name, words in VENDORS.items() if any(word in text.lower() for word in words)), None)


def mpi() -> Iterator[Finding]:
    """Yield library and launcher of MPI; a run without MPI needs neither."""
    if importlib.util.find_spec("mpi4py") is None:
        yield Finding("MPI", "mpi4py is not installed: runs are serial, or use a pool of processes", "note",
                      "pip install 'msvae[mpi]' (built with your cluster's MPI) or 'msvae[mpich]'")  # fmt: skip
        return
    library, fault = _said([sys.executable, "-c", ASK])
    if fault:
        yield Finding("MPI", f"mpi4py does not load: {fault}", "wrong",
                      "build it here: pip install --no-binary mpi4py --force-reinstall mpi4py")  # fmt: skip
        return
    yield Finding("MPI", f"{vendor_of(library) or 'of an unknown vendor'}: {library}")
    yield _launcher(vendor_of(library))


def _launcher(library: str | None) -> Finding:
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    path = shutil.which("mpiexec", path=beside)
    if path is None:
        return Finding(
            "mpiexec", "there is none", "note", "load your cluster's MPI module, or pip install 'msvae[mpich]'"
        )
    said, fault = _said([path, "--version"])
    vendor = vendor_of(said)
    if fault or vendor is None or library is None:
        return Finding("mpiexec", f"{path}, of an unknown vendor", "note", "check: mpiexec -n 2 msvae doctor")
    if vendor == library or {vendor, library} <= set(WITH_PMI):
        return Finding("mpiexec", f"{path}, {vendor}")
    return Finding("mpiexec", f"{path} is of {vendor}, but mpi4py was built with {library}: every rank would be alone",
                   "wrong", f"start with the mpiexec of {library}, or build mpi4py with {vendor}")  # fmt: skip


def _said(command: list[str]) -> tuple[str, str]:
    """Return what a command prints, in a process of its own that no launcher knows of, and why it failed, if so."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              env=without_mpi(os.environ), check=False, timeout=60)  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return "", str(error)
    if done.returncode:
        return "", (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return done.stdout.strip(), ""
