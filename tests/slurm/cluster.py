"""A Slurm of its own on this machine: munged, slurmctld and some slurmd as processes on loopback, ended with the tests.

Needs root and Debian's slurm-wlm and munge (`make test-slurm` installs them).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Cluster", "missing"]

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "sacctmgr")
SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")
PATIENCE = 120.0  # s until a daemon answers, or a job is in a state
CONFIGURATION = """
ClusterName=msvae
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=pmi2
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldPort={control}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldTimeout=30
SlurmdTimeout=30
InactiveLimit=0
MinJobAge=3600
KillWait=15
OverTimeLimit=0
JobRequeue=1
RequeueExit=75
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=2,bf_interval=2
{nodes}
PartitionName=all Nodes=n[1-{count}] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> str:
    """Return why there can be no cluster here, or ""."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    lost = [program for program in PROGRAMS[:-1] if _found(program) is None]
    return f"not installed: {', '.join(lost)}" if lost else ""


def _found(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *SBIN]))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Cluster:
    """Nodes n1 ... n`count` of `cores` each, all of them this machine. folder: of everything it writes."""

    folder: Path
    count: int = 2
    cores: int = 3
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Cluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        host = socket.gethostname().split(".")[0]
        nodes = "\n".join(
            f"NodeName=n{k} NodeHostname={host} NodeAddr=127.0.0.1 Port={_free_port()} CPUs={self.cores} "
            f"CoresPerSocket={self.cores} RealMemory=1000 State=UNKNOWN"
            for k in range(1, self.count + 1)
        )
        (self.folder / "state").mkdir(exist_ok=True)
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(
            host=host, folder=self.folder, control=_free_port(), nodes=nodes, count=self.count))  # fmt: skip
        try:
            self._start_munge()
            self.start("slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))
            for k in range(1, self.count + 1):
                self.start_node(k)
            self.wait(lambda: self.call("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(self.count))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for process in reversed(self.daemons.values()):
            process.send_signal(signal.SIGTERM)
        for process in self.daemons.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.start("munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", f"--key-file={key}",
                   f"--log-file={self.folder}/munged.log", f"--pid-file={self.folder}/munged.pid",
                   f"--seed-file={self.folder}/munged.seed")  # fmt: skip
        self.wait((self.folder / "munge.socket").exists)

    def start(self, name: str, *arguments: str, program: str = "") -> None:
        """Start a daemon in the foreground, as a process of this one."""
        with (self.folder / f"{name}.out").open("wb") as log:
            self.daemons[name] = subprocess.Popen(
                [str(_found(program or name)), *arguments], env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip

    def start_node(self, k: int) -> None:
        """Start the daemon of node k."""
        (self.folder / f"spool-n{k}").mkdir(exist_ok=True)
        self.start(f"slurmd-n{k}", "-D", "-N", f"n{k}", "-f", str(self.folder / "slurm.conf"), program="slurmd")

    def crash(self, job: str) -> int:
        """Kill every process of a job and its node's daemon at once, as the end of a node does; return its number."""
        k = int(self.shown(job)["NodeList"].removeprefix("n"))
        daemon = self.daemons.pop(f"slurmd-n{k}")
        daemon.kill()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                step = f"slurmstepd: [{job}.".encode() in (process / "cmdline").read_bytes()
                if step or f"SLURM_JOB_ID={job}\0".encode() in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
        daemon.wait()
        return k

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands and daemons: nothing of another job, and where the configuration is."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "PMI", "MPI", "HYDRA"))}
        return {**kept, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *command: str) -> str:
        """Return what a command of Slurm prints; AssertionError if it fails."""
        done = subprocess.run([str(_found(command[0])), *command[1:]], env=self.environment, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, check=False)  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout} {done.stderr}"
        return done.stdout

    def submit(self, *arguments: str, folder: Path, **variables: str) -> str:
        """Submit a job that works in a folder, and return its number."""
        export = ",".join(["ALL", *(f"{k}={v}" for k, v in variables.items())])
        return (
            self.call("sbatch", "--parsable", f"--chdir={folder}", f"--export={export}", *arguments)
            .strip()
            .split(";")[0]
        )

    def shown(self, job: str) -> dict[str, str]:
        """Return what Slurm says of a job, such as JobState, NodeList and Restarts."""
        return dict(w.split("=", 1) for w in self.call("scontrol", "show", "job", "-o", job).split() if "=" in w)

    def wait(self, happened: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until something has happened; AssertionError with the daemons' last words if it does not."""
        until = time.monotonic() + patience
        while True:
            try:
                if happened():
                    return
            except AssertionError:  # a daemon that does not answer yet
                pass
            if time.monotonic() > until:
                raise AssertionError(f"it did not happen in {patience:g} s: {self._last_words()}")
            time.sleep(0.3)

    def _last_words(self) -> str:
        logs = [*self.folder.glob("*.log"), *self.folder.glob("*.out")]
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)
