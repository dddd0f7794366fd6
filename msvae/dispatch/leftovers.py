"""Leftovers: files that MPICH and loky leave on a node when a job is killed, and their removal.

If a shared-memory segment stays behind, a job that the queueing system restarts under the same number fails in
MPI_Init. Once every rank of a node has mapped the segment, its name is not needed any more and is removed, so that
nothing stays behind however the job ends. The rest - segments of jobs that died earlier, the launcher's file with the
node's topology, semaphores of killed pools - is removed by a later job, when nobody uses it.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["remove_leftovers", "remove_segments"]

SEGMENT = "/dev/shm/mpich_shm_"
SEMAPHORE = re.compile(r"sem\.loky-(\d+)-\w+")
SHARED = Path("/dev/shm")
YOUNG = 60.0  # seconds after which a segment that nobody has mapped is nobody's
TOPOLOGY, LAUNCHER = "hydra_hwloc_xmlfile_*", "hydra_pmi_proxy"
FOLDER = Path("/tmp")  # where MPICH's launcher writes, whatever TMPDIR says


def remove_segments(world: Any) -> None:
    """Remove the names of the shared memory that the ranks of a communicator have mapped; called by all of them."""
    world.Barrier()
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            if SEGMENT in line and not line.endswith("(deleted)"):
                Path(line.split()[-1]).unlink(missing_ok=True)


def remove_leftovers(temporary: Path = FOLDER, shared: Path = SHARED) -> None:
    """Remove the leftovers of this user's finished jobs on this node."""
    _remove_topologies(temporary)
    names = {file.name for file in shared.glob("*")} if shared.is_dir() else set()
    segments = {name for name in names if name.startswith("mpich_shm_")}
    used = _mapped() if segments else set()
    for name in names:
        file, semaphore = shared / name, SEMAPHORE.fullmatch(name)
        with suppress(OSError):
            state = file.lstat()
            old = name in segments and f"{SHARED}/{name}" not in used and time.time() - state.st_mtime > YOUNG
            if state.st_uid == os.getuid() and (old or (semaphore and not Path(f"/proc/{semaphore[1]}").exists())):
                file.unlink()


def _mapped() -> set[str]:
    """Return the files below SHARED that this user's processes have mapped."""
    found: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            found |= set(re.findall(rf"{SHARED}/\S+", maps.read_text()))
    return found


def _remove_topologies(folder: Path) -> None:
    """Remove this user's topology files that are older than each of the launchers that still run on this node."""
    with suppress(OSError, StopIteration):
        boot = float(next(x for x in Path("/proc/stat").read_text().splitlines() if x.startswith("btime")).split()[1])
        began = [boot + _started(process) for process in Path("/proc").glob("[0-9]*") if _is_launcher(process)]
        oldest = min(began, default=float("inf")) - 2.0  # the kernel's clock counts whole seconds
        for file in folder.glob(TOPOLOGY):
            with suppress(OSError):
                state = file.lstat()
                if state.st_uid == os.getuid() and state.st_mtime < oldest:
                    file.unlink()


def _is_launcher(process: Path) -> bool:
    with suppress(OSError):
        return (process / "comm").read_text().strip() == LAUNCHER[:15]  # so much the kernel keeps
    return False


def _started(process: Path) -> float:
    """Return the seconds between the start of the machine and that of a process."""
    with suppress(OSError, IndexError, ValueError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float("inf")
