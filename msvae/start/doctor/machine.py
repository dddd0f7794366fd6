"""The machine and what is installed: versions, compiler, instructions, devices, threads, plugins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from msvae import plugins
from msvae.plugins import prebuilt
from msvae.plugins.native import cache_folder, compiler_here
from msvae.start.doctor.finding import Finding

__all__ = ["compiled", "devices", "loaded_plugins", "processor", "versions"]

SHOWN = ("torch", "numpy", "scipy", "h5py", "mpi4py")


def versions() -> Iterator[Finding]:
    """Yield the versions of Python and of packages, and the packages that are missing."""
    found = [f"{name} {known}" for name in SHOWN if (known := _version(name))]
    yield Finding("versions", f"msvae {_version('msvae')}, Python {sys.version.split()[0]}, {', '.join(found)}")
    needed = [line for line in requires("msvae") or () if "extra ==" not in line and "python_version" not in line]
    names = [match[0] for line in needed if (match := re.match(r"[\w.-]+", line))]
    missing = [name for name in names if _version(name) is None]
    if missing:
        why = f"pip install {' '.join(missing)}"
        yield Finding("packages", f"{', '.join(missing)} missing", "wrong", why)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def compiled() -> Finding:
    """Return whether solvers have their C kernels: compiled here, brought by a wheel, or not at all."""
    brought, cache = _brought(), cache_folder()
    if os.environ.get("MSVAE_NO_COMPILER"):
        why = "MSVAE_NO_COMPILER is set"
    elif (compiler := compiler_here()) is None:
        why = "no C compiler"
    elif not os.access(_existing(cache), os.W_OK):
        why = f"'{cache}' cannot be written, name another folder in XDG_CACHE_HOME"
    elif fault := _fault_of(compiler):
        why = f"'{compiler}' cannot compile: {fault}"
    else:
        return Finding("C kernels", f"compiled here by {compiler}" + (f"; {brought} brought along" if brought else ""))
    if brought:
        return Finding("C kernels", f"{brought} brought along, {why}")
    remedy = "torch takes their place, which is slower: install a C compiler (`apt install gcc`, `conda install "
    return Finding("C kernels", f"none: {why}", "note", remedy + "c-compiler`) or a wheel that brings them")


def _existing(path: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    return next(place for place in (path, *path.resolve().parents) if place.exists())


def _brought() -> int:
    """Return the number of libraries that installed plugins have brought for a processor like this one."""
    modules = {entry.module.split(".")[0] for entry in plugins.registry().loaded.values()}
    roots = [Path(str(sys.modules[name].__file__)).parent for name in modules if name in sys.modules]
    mine = prebuilt.level()
    return sum(len(list(root.rglob(f"{prebuilt.FOLDER}/*-{mine}.so"))) for root in roots) if mine else 0


def _fault_of(compiler: str) -> str:
    """Return why a compiler does not make a shared library as plugins need it; "" if it does."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <math.h>\ndouble probe(double x) { return sqrt(x); }\n")
        command = [compiler, *prebuilt.FLAGS, "-march=native", "-o", str(Path(folder, "probe.so")), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
                                  timeout=60)  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it says nothing"])[0]


def processor() -> Iterator[Finding]:
    """Yield instructions, cores, threads and memory."""
    known = prebuilt.level()
    yield Finding("instructions", known or "unknown, or below x86-64-v2: kernels are compiled for this processor")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    words = f"{cores} cores for this process; OMP_NUM_THREADS={asked or 'not set'}; [executor] threads decides in a run"
    if asked.isdigit() and int(asked) > cores:
        yield Finding("threads", words, "note", f"more threads than cores are slow: export OMP_NUM_THREADS={cores}")
    else:
        yield Finding("threads", words)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 2**30
    few = free < 1.0
    yield Finding("memory", f"{memory:.1f} GiB, {free:.1f} GiB of it unused", "note" if few else "fine",
                  "less than 1 GiB is unused: end other programs, or ask for a larger job" if few else "")  # fmt: skip


def devices() -> Finding:
    """Return the devices that training can run on."""
    import torch

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())}
        return Finding(
            "devices", f"{torch.cuda.device_count()} CUDA ({', '.join(sorted(names))}), torch {torch.__version__}"
        )
    if Path("/proc/driver/nvidia/version").exists():
        return Finding("devices", f"CPU; torch {torch.__version__} does not use the NVIDIA driver that is here", "note",
                       "install torch's CUDA build if training is to use the GPU")  # fmt: skip
    return Finding("devices", f"CPU ({torch.backends.cpu.get_cpu_capability()}), torch {torch.__version__}")


def loaded_plugins() -> Iterator[Finding]:
    """Yield how many plugins loaded, and those that did not, and why."""
    found = plugins.registry()
    yield Finding("plugins", f"{len(found.loaded)} loaded")
    for refused in found.refused:
        what = f"'{refused.name}' of '{refused.distribution}' did not load: {refused.reason}"
        remedy = f"update or uninstall it: pip install --upgrade {refused.distribution}"
        yield Finding("plugins", what, "wrong", remedy)
